"""The page of an ablation: what stands out, then one table with its plots a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ablation_plots import group_plots
from ablation_scores import PERIODS, PRECISIONS, LatencyRun, Results, Score
from ablation_table import Group, Job, Table
from ablation_verdict import BETTER, NOT_RUN, WORSE, Findings

from edgeseg.bench.suite_page import standalone
from edgeseg.core.artefacts import write_text
from edgeseg.core.types import format_size


def write_page(file: Path, table: Table, jobs: Mapping[str, Job], results: Results, data: str) -> list[Path]:
    """Write the page and its plots.

    Args:
        file: Markdown; the plots lie beside it.
        table: What was asked.
        jobs: Its rows, filled in.
        results: What was measured of them.
        data: Data set, as the commands name it.

    Returns:
        The files.
    """
    findings = Findings(table, jobs, results)
    lines = [f"# {table.title}", "", *_head(findings), ""]
    files = [file]
    for group in table.group:
        lines += [f"## {group.title}", "", *([group.text.strip(), ""] if group.text else [])]
        for suffix, plot in group_plots(findings, group).items():
            path = file.with_name(f"{file.stem}-{group.name}{suffix}.svg")
            write_text(path, standalone(plot))
            files.append(path)
            lines += [f"![{plot.title}]({path.name})", ""]
        rows = findings.of(group)
        lines += [*_rows(findings, group, rows), ""]
        if any(job.row.note for job in rows):
            lines += [*(f"- {job.row.name}: {job.row.note}" for job in rows if job.row.note), ""]
        lines += ["<details><summary>commands</summary>", "", "```"]
        lines += [line for job in rows for line in (f"# {job.row.name}", job.text(data))]
        lines += ["```", "", "</details>", ""]
    write_text(file, "\n".join(lines).rstrip() + "\n")
    return files


def _head(findings: Findings) -> list[str]:
    table, noise, decides = findings.table, findings.noise, findings.split
    budget = table.budget
    done = sum(findings.verdict(job) != NOT_RUN for job in findings.jobs.values())
    size = format_size(budget.network_size)
    lines = [
        f"Written by `tools/ablate.py`; do not edit. {done} of {len(findings.jobs)} rows have been run. Every row is "
        f"one training of `{table.model}`, unless it names another, within one budget: {budget.epochs} epochs of "
        f"`{table.split}`, batch {budget.batch}, crops of {format_size(budget.crop)} from frames at {size}, scored at "
        f"the size of the labels on {' and '.join(f'`{split}`' for split in table.score)}; `{decides}` decides. Scores "
        f"are in percent, multiply-adds those of one frame at {size}. Each row's command, with its seed, is under its "
        "table.",
        "",
    ]
    lines += [table.text.strip(), ""] if table.text else []
    results = [found for job in findings.jobs.values() if (found := findings.result(job))]
    devices = sorted({found.device for found in results} - {""})
    packed = (
        ", of frames packed as JPEG by `edgeseg data pack`" if any(" packed:" in x.command for x in results) else ""
    )
    lines += [f"Trained and scored on {'; '.join(devices)}{packed}.", ""] if devices else []
    bound = noise.bound(max(1, len(noise.values)))
    if bound is None or noise.mean is None or noise.deviation is None:
        return [*lines, "**The noise** is not known yet: fewer than two seeds have been run."]
    lines += [
        f"**The noise.** {len(noise.values)} runs that differ in nothing but their seed: {decides} mIoU "
        f"{100 * noise.mean:.2f} on average, standard deviation {100 * noise.deviation:.2f}. A run is held against "
        f"that average, and is *inside the noise* where it is apart by {100 * bound:.2f} points or less: the "
        "deviation, times √(1 + 1/n), times Student's t at 95 %. Where a row is held against one other run, 1 stands "
        "in place of 1/n. One row in twenty leaves the interval by chance, and what other frames for "
        f"`{decides}` would do comes on top.",
        "",
    ]
    for word in (BETTER, WORSE):
        found = [_named(findings, job) for job in findings.jobs.values() if findings.verdict(job) == word]
        lines.append(f"**Outside the noise, {word}:** {'; '.join(found) or 'none'}.")
        lines.append("")
    return lines[:-1]


def _named(findings: Findings, job: Job) -> str:
    difference = findings.difference(job)
    assert difference is not None
    return f"{job.group.title.lower()}: {job.row.name} ({100 * difference[0]:+.1f})"


def _rows(findings: Findings, group: Group, rows: Sequence[Job]) -> list[str]:
    others = findings.table.score[1:]
    timed = findings.latency if group.latency else None
    head = ["row", "Δ mIoU", "verdict", f"{findings.split} mIoU", "boundary IoU", "pixels right"]
    for split in others:
        head += [f"{split} mIoU", "boundary IoU", "pixels right"]
    head += ["parameters, M", "multiply-adds, M"]
    head += [f"C{period}" for period in PERIODS] if group.checkerboard else []
    head += [f"{precision.upper()}, ms" for precision in PRECISIONS] if timed else []
    lines = [head, ["---", "---:", "---"] + ["---:"] * (len(head) - 3)]
    for job in rows:
        found, difference = findings.result(job), findings.difference(job)
        cells = [job.row.name, "–" if difference is None else f"{100 * difference[0]:+.2f}", findings.verdict(job)]
        for split in findings.table.score:
            cells += _score_cells(findings.score(job, split))
        cells += [f"{found.parameters / 1e6:.2f}", f"{found.multiply_adds / 1e6:.0f}"] if found else ["–", "–"]
        if group.checkerboard:
            shares = found.checkerboard if found else {}
            cells += [f"{shares[str(period)]:.3f}" if str(period) in shares else "–" for period in PERIODS]
        if timed:
            cells += [_time(timed, job, precision) for precision in PRECISIONS]
        lines.append(cells)
    text = [f"| {' | '.join(cells)} |" for cells in lines]
    return [*text, "", _timing(timed, rows)] if timed else text


def _timing(timed: LatencyRun, rows: Sequence[Job]) -> str:
    first = next((job.row.name for job in rows if job.key == timed.first), "the first timed row")
    machine = f"; {timed.machine}" if timed.machine else ""
    return (
        f"Milliseconds of one frame of {timed.size}, median, of networks with their first weights "
        "(`tools/ablate.py --latency`, all engines in turns in one run); "
        f"{timed.backend}, {timed.device}{machine}. In brackets the ratio to *{first}* at the same precision, with its "
        "95 % interval."
    )


def _time(timed: LatencyRun, job: Job, precision: str) -> str:
    found = timed.rows.get(job.key, {}).get(precision)
    if found is None or found.p50_ms is None:
        return "–"
    return f"{found.p50_ms:.2f} ({found.ratio:.2f} [{found.ci95[0]:.2f}, {found.ci95[1]:.2f}])"


def _score_cells(score: Score | None) -> list[str]:
    values = (score.miou, score.boundary_iou, score.pixel_accuracy) if score else (None, None, None)
    return ["–" if value is None else f"{100 * value:.2f}" for value in values]
