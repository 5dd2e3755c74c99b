"""docs/models.md and its plots, from what tools/compare_models.py has trained and timed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from model_engines import AS_EXPORTED, ENGINES
from model_latency import Latency, Timing
from model_rows import FORMS, OURS, Plan, Rows, RowScore, Shape, mean_score
from peer_models import PEERS, missing
from seed_noise import SeedNoise

from edgeseg.bench.report.plot import Axis, Plot
from edgeseg.bench.suite_page import standalone
from edgeseg.core.artefacts import write_text
from edgeseg.core.config import dump_toml, to_tables
from edgeseg.core.deps import package_version
from edgeseg.core.types import format_size

Cells = Sequence[str]
Runs = Sequence[RowScore]


def write_page(
    out: Path, rows: Rows, latency: Latency | None, command: str, notes: Sequence[str], noise: float = 0.0
) -> list[Path]:
    """Write the page and its plots; returns the files.

    Args:
        out: The Markdown file.
        rows: What was trained.
        latency: What was timed; None where nothing was.
        command: The command line that makes it again.
        notes: Further lines below the plots.
        noise: Points of mIoU by which two runs may differ by their seed alone, where no row has two seeds; 0 is not
            known.
    """
    runs = {name: found for name in rows.plan.names if (found := rows.runs_of(name))}
    scores = {name: mean_score(found) for name, found in runs.items()}
    shapes = {name: rows.shape(name) for name in rows.names}
    files = [out]
    lines = [*_head(rows, runs, latency, command), *_table(rows, runs, shapes, latency), ""]
    if latency is not None and scores:
        split = next(iter(next(iter(scores.values())).splits))
        lines += ["## Accuracy over latency", "", *_verdicts(runs, latency, split, noise), ""]
        for engine in ENGINES:
            points = _points(scores, latency, engine, split)
            if points:
                file = out.with_name(f"{out.stem}-{engine.lower().replace(' ', '-')}.svg")
                write_text(file, standalone(plot(points, engine, split)))
                files.append(file)
                lines += [f"![{split} mIoU over latency, {engine}]({file.name})", ""]
    lines += ["## What to make of it", "", *(f"- {note}" for note in notes), ""] if notes else []
    lines += _as_exported(latency) if latency is not None else []
    lines += [*_classes(scores), *_commands(rows.plan, runs, command), *_recipe(rows)]
    write_text(out, "\n".join(lines).rstrip() + "\n")
    return files


def _head(rows: Rows, runs: Mapping[str, Runs], latency: Latency | None, command: str) -> list[str]:
    config = rows.config(OURS[0])
    crop = format_size(config.augment.crop or (0, 0))
    here = dict.fromkeys(PEERS[name].package for name in rows.names if name in PEERS)
    packages = ", ".join(f"{package} {package_version(package.replace('_', '-'))}" for package in here)
    splits = config.data.val_splits
    lines = [
        "# Our presets beside others' networks",
        "",
        f"Written by `{command}`; do not edit. Rows are trained from random first weights by the same loop: the "
        f"same frames in the same order ({config.data.split}), augmentation, loss, schedule, averaging and budget: "
        f"{config.train.epochs} epochs of crops of {crop} in batches of {config.train.batch}, one command "
        f"and {_seeds(runs)} a row{_where(runs)}. The figures compare rows under this budget; another one would move "
        f"them. A peer is only another `nn.Module` ({packages or 'no peer is installed'}). **Decide by {splits[0]}**: "
        "CamVid's own val is one clip of 6.7 s and flatters.",
        "",
        "*Parameters* and *multiply-adds* are of the exported graph (BatchNorm folded, auxiliary heads gone). "
        "*Latency* is the median of the runtime's own call on the full graph (uint8 NHWC frame in, argmax uint8 mask "
        f"out, the same geometry around every network), with its 95 % interval.{_written(latency)}",
        "",
    ]
    if latency is not None:
        lines += [
            f"Latency at {format_size(latency.size)}, {latency.threads} thread(s) an engine, all in turns in a run of "
            f"{latency.seconds:g} s, on {latency.created}, {latency.busy}. {latency.device}. Every float32 engine "
            "gives torch's class for at least 99.9 % of the pixels, or nothing is written.",
            "",
        ]
    return lines


def _written(latency: Latency | None) -> str:
    if latency is None or not latency.forms:
        return ""
    text = "Each graph is written as `edgeseg build` writes it for that runtime on a CPU: in the exact forms of"
    return f" {text} engines/targets/cpu.toml, ours and peers alike."


def _seeds(runs: Mapping[str, Runs]) -> str:
    counts = sorted({len(found) for found in runs.values()}) or [1]
    if counts == [1]:
        return "one seed"
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{span} seeds, of which scores are the mean,"


def _where(runs: Mapping[str, Runs]) -> str:
    devices = dict.fromkeys(score.device for found in runs.values() for score in found if score.device)
    return f", on {'; '.join(devices)}" if devices else ""


def _table(rows: Rows, runs: Mapping[str, Runs], shapes: Mapping[str, Shape], latency: Latency | None) -> list[str]:
    splits = rows.config(OURS[0]).data.val_splits
    head = ["model", "parameters", "multiply-adds", "seeds"]
    head += [f"{split} {kind}" for split in splits for kind in ("mIoU %", "boundary IoU %")]
    head += [f"{engine} ms" for engine in ENGINES] + ["BF16 agrees"]
    lines = [_line(head), _line(["---"] + ["---:"] * (len(head) - 1))]
    for name in rows.plan.names:
        shape, found = shapes.get(name), mean_score(runs[name]) if name in runs else None
        cells = [name]
        cells += [f"{shape.parameters / 1e6:.2f} M", f"{shape.multiply_adds / 1e9:.2f} G"] if shape else ["–"] * 2
        cells.append(str(len(runs.get(name, ()))))
        for split in splits:
            scored = found.splits.get(split) if found else None
            cells += [_share(scored.miou), _share(scored.boundary_iou)] if scored else [_absent(name), "–"]
        timed = latency.engines.get(name, {}) if latency else {}
        for engine in ENGINES:
            cells.append(_time(timed.get(engine)))
        half = timed.get("OpenVINO BF16")
        trained = bool(latency and latency.trained.get(name))
        cells.append(f"{half.agreement:.2%}" if half and trained else "–")
        lines.append(_line(cells))
    gone = [f"- {name}: cannot be built here, {missing(name)}." for name in rows.plan.names if name not in rows.names]
    return [*lines, *(["", *gone] if gone else [])]


def _absent(name: str) -> str:
    return "timed only" if name in FORMS else "not run yet"


def _verdicts(runs: Mapping[str, Runs], latency: Latency, split: str, noise: float) -> list[str]:
    """For each peer and engine: the best of ours that is not slower, and by how much it differs."""
    scores = {name: mean_score(found) for name, found in runs.items()}
    pooled = SeedNoise.pooled(
        [[run.splits[split].miou for run in found if split in run.splits] for found in runs.values()]
    )
    engines = [*ENGINES, *(label for label in AS_EXPORTED if any(label in row for row in latency.engines.values()))]
    text = (
        f"Beside each peer the best of ours whose median lies under the upper end of the peer's interval, and by how "
        f"many points of {split} mIoU it is above the peer; bold where it is not."
    )
    if pooled is not None:
        text += (
            " ≈ where the means of two rows without any difference would lie as far apart by their seeds: a run "
            f"leaves its row's mean by {100 * pooled.deviation:.1f} points (standard deviation, {pooled.freedom} "
            "degrees of freedom, all rows with several seeds together); the bound is Student's at 95 % for that number."
        )
    elif noise:
        text += f" ≈ where two seeds of one row may differ by as much: {noise:.1f} points."
    lines = [text, "", _line(["peer", f"{split} mIoU %", *engines])]
    lines.append(_line(["---", "---:", *(["---"] * len(engines))]))
    for name in [name for name in scores if name in PEERS and split in scores[name].splits]:
        miou = scores[name].splits[split].miou
        cells = [name, _share(miou)]
        for engine in engines:
            peer = latency.engines.get(name, {}).get(engine)
            points = _points(scores, latency, engine, split)
            ours = {rival: point for rival, point in points.items() if rival not in PEERS}
            rivals = {rival: point for rival, point in ours.items() if peer and point[0] <= peer.high_ms}
            if peer is None or not rivals:
                cells.append("not run" if peer is None else "**none is as fast**")
                continue
            best = max(rivals, key=lambda rival: rivals[rival][1])
            gap = 100 * (rivals[best][1] - miou)
            bound = 100 * pooled.apart(len(runs[best]), len(runs[name])) if pooled else noise
            same = " ≈" if abs(gap) < bound else ""
            word = f"{best} {gap:+.1f}{same}"
            cells.append(word if gap > 0 else f"**{word}**")
        lines.append(_line(cells))
    return lines


def _as_exported(latency: Latency) -> list[str]:
    """What the exact forms give each row."""
    rows = {name: row for name, row in latency.engines.items() if any(label in row for label in AS_EXPORTED)}
    if not rows:
        return []
    lines = [
        "## What the exact forms do",
        "",
        "The same graphs as they are exported, in the same run, and the forms that change each: a network without a "
        "LayerNormalization has none to take apart, and ArgMax by phases needs logits that are enlarged by 2 or 4 at "
        "the end.",
        "",
    ]
    labels = [
        label for label in (*ENGINES, *AS_EXPORTED) if label in AS_EXPORTED or f"{label}, as exported" in AS_EXPORTED
    ]
    lines += [_line(["model", *(f"{label} ms" for label in labels), "forms"])]
    lines.append(_line(["---", *(["---:"] * len(labels)), "---"]))
    for name, row in rows.items():
        applied = {runtime: ", ".join(forms) for runtime, forms in latency.forms.get(name, {}).items()}
        forms = "; ".join(f"{runtime}: {forms}" for runtime, forms in applied.items() if forms) or "none applies"
        lines.append(_line([name, *(_time(row.get(label)) for label in labels), forms]))
    return [*lines, ""]


def _time(timing: Timing | None) -> str:
    return f"{timing.p50_ms:.2f} [{timing.low_ms:.2f}, {timing.high_ms:.2f}]" if timing else "not run"


def _points(
    scores: Mapping[str, RowScore], latency: Latency, engine: str, split: str
) -> dict[str, tuple[float, float]]:
    """Median latency in ms and mIoU of every row that has both."""
    found = {}
    for name, score in scores.items():
        timing = latency.engines.get(name, {}).get(engine)
        if timing is not None and split in score.splits:
            found[name] = (timing.p50_ms, score.splits[split].miou)
    return found


def plot(points: Mapping[str, tuple[float, float]], engine: str, split: str) -> Plot:
    """Accuracy over latency: up and to the left is better; ours are joined by a line."""
    times, shares = [ms for ms, _ in points.values()], [100 * miou for _, miou in points.values()]
    pad = max(1.0, 0.2 * (max(shares) - min(shares)))
    x = Axis(0.8 * min(times), 1.5 * max(times), f"{engine}, median ms", "log")
    picture = Plot(x, Axis(min(shares) - pad, max(shares) + pad, f"{split} mIoU, %"), f"{split} mIoU", 900, 340)
    ours = sorted((ms, 100 * miou) for name, (ms, miou) in points.items() if name not in PEERS)
    picture.line(ours, "s1")
    for name, (ms, miou) in points.items():
        style = "s2" if name in PEERS else "s1"
        picture.dots([(ms, 100 * miou, 6, f"{name}: {ms:.2f} ms, {100 * miou:.1f} %")], style)
    picture.names([(ms, 100 * miou, name) for name, (ms, miou) in points.items()], [ours])
    return picture


def _classes(scores: Mapping[str, RowScore]) -> list[str]:
    """IoU by class on the deciding split."""
    if not scores:
        return []
    split = next(iter(next(iter(scores.values())).splits))
    labels = list(next(iter(scores.values())).splits[split].iou)
    lines = [f"## IoU by class on {split}, %", "", _line(["class", *scores]), _line(["---"] + ["---:"] * len(scores))]
    lines += [
        _line([label, *(_share(score.splits[split].iou.get(label)) for score in scores.values())]) for label in labels
    ]
    return [*lines, ""]


def _commands(plan: Plan, runs: Mapping[str, Runs], command: str) -> list[str]:
    if not runs:
        return []
    lines = [
        "## What made each row",
        "",
        _line(["model", "command", "seed", *_split_heads(runs), "images seen", "rate", "rates tried", "on"]),
    ]
    lines.append(_line(["---"] * 2 + ["---:"] * (4 + len(_split_heads(runs))) + ["---"]))
    for name, score in [(name, score) for name, found in runs.items() for score in found]:
        tried = ", ".join(f"{rate}: {_share(miou)}" for rate, miou in score.rates.items()) or "none"
        own = re.sub(r"--seed \d+", f"--seed {score.seed}", command)
        if score.device.startswith("CPU"):  # a seed from another machine than the page's command names
            own = re.sub(r" --device \S+", "", own)
        cells = [name, f"`{own} --only {name}`", str(score.seed), *(_share(one.miou) for one in score.splits.values())]
        cells += [str(score.images), f"{score.rate:g}", tried, score.device or "–"]
        lines.append(_line(cells))
    if plan.rates:
        text = f"Every row tried the same learning rates, {plan.rate_epochs} epochs each (mIoU on the deciding split)"
        lines += ["", f"{text}; the best one was taken."]
    return [*lines, ""]


def _split_heads(runs: Mapping[str, Runs]) -> list[str]:
    return [f"{split} mIoU %" for split in next(iter(runs.values()))[0].splits]


def _recipe(rows: Rows) -> list[str]:
    tables = to_tables(rows.config(OURS[0]))
    recipe = {name: tables[name] for name in ("train", "augment", "loss")}
    fold = ["<details><summary>the recipe of every row (its rate may differ, see above)</summary>", "", "```toml"]
    return [*fold, dump_toml(recipe).strip(), "```", "", "</details>", ""]


def _line(cells: Cells) -> str:
    return f"| {' | '.join(cells)} |"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
