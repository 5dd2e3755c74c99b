"""The page of an ablation: what stands out, then one table with its plots a group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ablation_commands import recipe_text, row_command
from ablation_plots import group_plots
from ablation_scores import PERIODS, PRECISIONS, LatencyRun, Results, Score
from ablation_table import Group, Job, Table
from ablation_verdict import BETTER, WORSE, Findings

from edgeseg.bench.suite_page import standalone
from edgeseg.core.artefacts import write_text
from edgeseg.core.types import format_size


def write_page(file: Path, table: Table, jobs: Mapping[str, Job], results: Results, data: str) -> list[Path]:
    """Write the page, its plots, and the recipe that the commands name.

    Args:
        file: Markdown; the rest lies beside it.
        table: What was asked.
        jobs: Its rows, filled in.
        results: What was measured of them.
        data: Data set, as the commands name it.

    Returns:
        The files.
    """
    findings = Findings(table, jobs, results)
    recipe = file.with_name(f"{file.stem}-recipe.toml")
    write_text(recipe, recipe_text(table))
    named = recipe.name if recipe.is_absolute() else recipe.as_posix()
    lines = [f"# {table.title}", "", *_head(findings, recipe.name), ""]
    files = [file, recipe]
    for group in table.group:
        rows = findings.shown(group)
        if not rows:
            continue
        lines += [f"## {group.title}", "", *([group.text.strip(), ""] if group.text else [])]
        for suffix, plot in group_plots(findings, group).items():
            path = file.with_name(f"{file.stem}-{group.name}{suffix}.svg")
            write_text(path, standalone(plot))
            files.append(path)
            lines += [f"![{plot.title}]({path.name})", ""]
        lines += [*_rows(findings, group), *_latency(findings, group), *_remarks(findings, group)]
        lines += [group.conclusion.strip(), ""] if group.conclusion else []
        lines += ["<details><summary>commands</summary>", "", "```"]
        lines += [line for job in rows for line in (f"# {job.row.name}", row_command(job, table, data, named))]
        lines += ["```", "", "</details>", ""]
    lines += _not_begun(findings)
    write_text(file, "\n".join(lines).rstrip() + "\n")
    return files


def _head(findings: Findings, recipe: str) -> list[str]:
    table, decides = findings.table, findings.split
    budget = table.budget
    runs = {job.key: findings.result(job) for job in findings.jobs.values()}
    results = [found for found in runs.values() if found]
    size = format_size(budget.network_size)
    lines = [
        f"Written by `tools/ablate.py`; do not edit. {len(results)} of {len(runs)} runs are there; rows that ask for "
        f"the same share one. Every row is one training of `{table.model}`, unless it names another, within one "
        f"budget: {budget.epochs} epochs of `{table.split}`, batch {budget.batch}, crops of "
        f"{format_size(budget.crop)} from frames at {size}, scored at the size of the labels on "
        f"{' and '.join(f'`{split}`' for split in table.score)}; `{decides}` decides. Scores are in percent, "
        f"multiply-adds those of one frame at {size}. Under each table is every row's command with its seed: "
        f"[{recipe}]({recipe}) holds what all rows have alike, the command what the row changes. "
        '`python tools/ablate.py --data camvid:PATH --runs RUNS --rows "GROUP/ROW"` trains and scores a row.',
        "",
    ]
    lines += [table.text.strip(), ""] if table.text else []
    elsewhere = "; rows from elsewhere say so" if len({found.device for found in results}) > 1 else ""
    packed = (
        ", of frames packed as JPEG by `edgeseg data pack`" if any(" packed:" in x.command for x in results) else ""
    )
    lines += [f"Trained and scored on {findings.usual_device}{packed}{elsewhere}.", ""] if findings.usual_device else []
    lines += [*_noise(findings), ""]
    if findings.noise.deviation is not None:
        for word in (BETTER, WORSE):
            outside = [_named(findings, job) for job in findings.jobs.values() if findings.verdict(job) == word]
            lines += [f"**Outside the noise, {word}:** {'; '.join(outside) or 'none'}.", ""]
    lines += [table.conclusion.strip(), ""] if table.conclusion else []
    return lines[:-1]


def _noise(findings: Findings) -> list[str]:
    noise, decides = findings.noise, findings.split
    bound = noise.bound(max(1, len(noise.values)))
    if bound is None or noise.mean is None or noise.deviation is None:
        return ["**The noise** is not known yet: fewer than two seeds have been run."]
    others = "".join(
        f" (on {split} {100 * other.mean:.2f} and {100 * other.deviation:.2f})"
        for split in findings.table.score[1:]
        if (other := findings.noise_on(split)).mean is not None and other.deviation is not None
    )
    return [
        f"**The noise.** {len(noise.values)} runs that differ in nothing but their seed: {decides} mIoU "
        f"{100 * noise.mean:.2f} on average, standard deviation {100 * noise.deviation:.2f}{others}. A run is held "
        f"against that average, and is *inside the noise* where it is apart by {100 * bound:.2f} points or less: the "
        "deviation, times √(1 + 1/n), times Student's t at 95 %. Where a row is held against one other run, 1 stands "
        "in place of 1/n. One row in twenty leaves the interval by chance, and what other frames for "
        f"`{decides}` would do comes on top."
    ]


def _remarks(findings: Findings, group: Group) -> list[str]:
    """What is to be known of single rows, and in one line which have not been run."""
    lines = [f"- {job.row.name}: {job.row.note}" for job in findings.shown(group) if job.row.note]
    for job in findings.trained(group):
        found = findings.result(job)
        if found is not None and found.device != findings.usual_device:
            lines.append(f"- {job.row.name}: trained and scored on {found.device}, unlike most rows.")
    lines += [""] if lines else []
    names = [job.row.name for job in findings.of(group) if not findings.result(job)]
    return [*lines, *([f"Not trained yet: {'; '.join(names)}.", ""] if names else [])]


def _not_begun(findings: Findings) -> list[str]:
    """One list of the groups of which nothing but the shared baseline has been measured."""
    lines = []
    for group in findings.table.group:
        if findings.shown(group):
            continue
        names = [job.row.name for job in findings.of(group) if not findings.result(job)]
        lines.append(f"- **{group.title}** (`--only {group.name}`): {'; '.join(names)}.")
    return ["## Not trained yet", "", "Beside the baseline, these groups ask for:", "", *lines, ""] if lines else []


def _named(findings: Findings, job: Job) -> str:
    difference = findings.difference(job)
    assert difference is not None
    return f"{job.group.title.lower()}: {job.row.name} ({100 * difference[0]:+.1f})"


def _rows(findings: Findings, group: Group) -> list[str]:
    """The table of what the trained rows of a group scored; none where that is the shared baseline alone."""
    rows = findings.trained(group)
    if not rows:
        return []
    head = ["row", "Δ mIoU", "verdict", f"{findings.split} mIoU", "boundary IoU", "pixels right"]
    for split in findings.table.score[1:]:
        head += [f"{split} mIoU", "boundary IoU", "pixels right"]
    head += ["parameters, M", "multiply-adds, M"]
    head += [f"C{period}" for period in PERIODS] if group.checkerboard else []
    lines = [head, ["---", "---:", "---"] + ["---:"] * (len(head) - 3)]
    for job in rows:
        found, difference = findings.result(job), findings.difference(job)
        assert found is not None
        cells = [job.row.name, "–" if difference is None else f"{100 * difference[0]:+.2f}", findings.verdict(job)]
        for split in findings.table.score:
            cells += _score_cells(findings.score(job, split))
        cells += [_millions(found.parameters), f"{found.multiply_adds / 1e6:.0f}"]
        if group.checkerboard:
            cells += [f"{found.checkerboard[str(p)]:.3f}" if str(p) in found.checkerboard else "–" for p in PERIODS]
        lines.append(cells)
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]


def _latency(findings: Findings, group: Group) -> list[str]:
    """The table of the timed rows of a group, trained or not."""
    timed = findings.latency if group.latency else None
    rows = [job for job in findings.of(group) if timed and job.key in timed.rows]
    if timed is None or not rows:
        return []
    lines = [["latency of", *(f"{precision.upper()}, ms" for precision in PRECISIONS)]]
    lines.append(["---"] + ["---:"] * len(PRECISIONS))
    lines += [[job.row.name, *(_time(timed, job, precision) for precision in PRECISIONS)] for job in rows]
    first = next((job.row.name for job in rows if job.key == timed.first), "the first timed row")
    machine = f"; {timed.machine}" if timed.machine else ""
    text = (
        f"Milliseconds of one frame of {timed.size}, median, of networks with their first weights "
        "(`tools/ablate.py --latency`, all engines in turns in one run); "
        f"{timed.backend}, {timed.device}{machine}. In brackets the ratio to *{first}* at the same precision, with its "
        "95 % interval."
    )
    return [*(f"| {' | '.join(cells)} |" for cells in lines), "", text, ""]


def _time(timed: LatencyRun, job: Job, precision: str) -> str:
    found = timed.rows.get(job.key, {}).get(precision)
    if found is None or found.p50_ms is None:
        return "–"
    return f"{found.p50_ms:.2f} ({found.ratio:.2f} [{found.ci95[0]:.2f}, {found.ci95[1]:.2f}])"


def _score_cells(score: Score | None) -> list[str]:
    values = (score.miou, score.boundary_iou, score.pixel_accuracy) if score else (None, None, None)
    return ["–" if value is None else f"{100 * value:.2f}" for value in values]


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}" if count >= 10**4 else f"{count / 1e6:.4f}"
