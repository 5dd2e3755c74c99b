"""The page of a suite: one table a model and size, its plots beside it as SVG files, every figure with its command."""

from __future__ import annotations

from pathlib import Path

from edgeseg.bench.report.plot import Axis, Plot, number
from edgeseg.bench.suite import REFERENCE, SuiteResult, SuiteRow
from edgeseg.core.artefacts import write_text

_STYLE = """
svg { background: #fff; font: 12px system-ui, sans-serif } text { fill: #5b6570 } .grid { stroke: #d8dee4 }
.dot { fill-opacity: .75 } .s1 { fill: #0b62c4; stroke: #0b62c4 } .s2 { fill: #c2570c; stroke: #c2570c }
.s3 { fill: #17805a; stroke: #17805a } .s4 { fill: #8250a8; stroke: #8250a8 } .line { fill: none; stroke-width: 2 }
text.note { stroke: none; fill: #1b1f24 }
.band { fill: #0b62c4; fill-opacity: .12 } .wide { stroke-width: 5; stroke-opacity: .55 } polyline.drawn { fill: none }
.thin { stroke: #9aa6b2; stroke-width: 1 }
"""


def write_suite(result: SuiteResult, command: str) -> list[Path]:
    """Write the page and its plots; returns the files.

    Args:
        result: What was measured.
        command: The command line that makes it again.
    """
    page = Path(result.suite.out)
    files = [page]
    lines = [
        f"# {result.suite.title}",
        "",
        f"Written by `{command}` on {result.created}; do not edit. Device: {result.device.summary()}; CPU features "
        f"{', '.join(result.device.cpu_features) or 'unknown'}; Python {result.device.python}.",
        "",
        "Every engine of one table ran in turns with the others in one run, so heat and neighbours hit all alike. "
        "*Engine* is the runtime's own call; *capture to mask* is the live pipeline paced at "
        f"{result.suite.rate_hz:g} frames/s, measured for each engine on its own. *Against plain* is the ratio of "
        f"medians to the exported graph in ONNX Runtime with default options ({REFERENCE}): under 1 is faster. "
        "Brackets hold 95 % intervals (block bootstrap); – stands where a sample is too small to tell. *Limit* is "
        "what the device's roof allows this network (`edgeseg bench --layers`), *distance* how many times that the "
        "engine takes.",
        "",
    ]
    for model, size in dict.fromkeys((row.model, row.size) for row in result.rows):
        rows = [row for row in result.rows if (row.model, row.size) == (model, size)]
        plot = page.with_name(f"{page.stem}-{_safe(model)}-{size}.svg")
        write_text(plot, standalone(latency_plot(rows)))
        files.append(plot)
        lines += [f"## {model} at {size}", "", f"![latency of the engines]({plot.name})", "", *_table(rows), ""]
        if any(row.miou is not None and row.engine_ms.p50 is not None for row in rows):
            pareto = page.with_name(f"{page.stem}-{_safe(model)}-{size}-pareto.svg")
            write_text(pareto, standalone(pareto_plot(rows)))
            files.append(pareto)
            lines += [f"![accuracy over latency]({pareto.name})", ""]
    for backend, peaks in result.peaks.items():
        macs = ", ".join(f"{precision} {number(value)}" for precision, value in peaks.macs_per_s.items())
        flow = ", ".join(f"{size >> 10} KiB {number(value)}" for size, value in sorted(peaks.bytes_per_s.items()))
        lines.append(f"Peaks probed through {backend}: {macs} multiply-adds/s; {flow} bytes/s by working set.")
    lines += ["", *(f"- {note}" for note in [*result.notes, *_unstable(result.rows)])]
    write_text(page, "\n".join(lines).rstrip() + "\n")
    return files


def latency_plot(rows: list[SuiteRow]) -> Plot:
    """One line an engine: p50 and p99 of the engine, p50 of capture to mask."""
    values = [value for row in rows for value in _values(row)]
    x = Axis(0, max(values) * 1.08, "ms")
    ticks = [(len(rows) - i - 0.5, row.engine) for i, row in enumerate(rows)]
    plot = Plot(x, Axis(0, len(rows), "", ticks=ticks), "latency of the engines", 900, 70 + 40 * len(rows), left=215)
    for i, row in enumerate(rows):
        y = len(rows) - i - 0.5
        p50, p99 = row.engine_ms.p50, row.engine_ms.p99
        if p50 is not None:
            plot.line([(0, y), (p50, y)], "s1 wide")
            plot.dots([(p50, y, 5, f"engine p50 {p50:.2f} ms")], "s1")
        if p99 is not None:
            plot.dots([(p99, y, 3, f"engine p99 {p99:.2f} ms")], "s1")
        if row.capture_to_mask_ms is not None and row.capture_to_mask_ms.p50 is not None:
            age = row.capture_to_mask_ms.p50
            plot.dots([(age, y, 5, f"capture to mask p50 {age:.2f} ms")], "s2")
    plot.text(x.high, len(rows) - 0.12, "blue: engine p50 (large), p99; orange: capture to mask p50", anchor="end")
    return plot


def pareto_plot(rows: list[SuiteRow]) -> Plot:
    """Accuracy over p99 (p50 where the sample has no p99): up and to the left is better."""
    timed = [(row, row.engine_ms.p99 or row.engine_ms.p50, row.miou) for row in rows]
    scored = [(row, ms, miou) for row, ms, miou in timed if ms is not None and miou is not None]
    slow, best = max(ms for _, ms, _ in scored), [100 * miou for _, _, miou in scored]
    pad = max(0.5, 0.15 * (max(best) - min(best)))
    label = "engine p99, ms" if all(row.engine_ms.p99 for row, _, _ in scored) else "engine p99 (p50 where none), ms"
    plot = Plot(
        Axis(0, slow * 1.25, label), Axis(min(best) - pad, max(best) + 2 * pad, "mIoU, %"), "accuracy", 900, 340
    )
    for i, (row, ms, miou) in enumerate(sorted(scored, key=lambda item: item[1])):
        plot.dots([(ms, 100 * miou, 6, row.engine)], "s3")
        above = (0.06 + 0.09 * (i % 3)) * (plot.y.high - plot.y.low)  # neighbours' names at three heights
        plot.text(ms, 100 * miou + above, row.engine, anchor="middle")
        plot.line([(ms, 100 * miou), (ms, 100 * miou + above)], "thin")
    return plot


def standalone(plot: Plot) -> str:
    """A plot as an SVG file of its own."""
    svg = plot.svg().replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    head, body = svg.split(">", 1)
    return f"{head}><style>{_STYLE}</style>{body}\n"


def _table(rows: list[SuiteRow]) -> list[str]:
    head = [
        "engine",
        "engine p50 ms",
        "p99 ms",
        "capture to mask p50 ms",
        "p99 ms",
        "against plain",
        "limit ms",
        "distance",
    ]
    scored = any(row.miou is not None for row in rows)
    lines = [" | ".join([*head, "mIoU"] if scored else head), " | ".join(["---"] + ["---:"] * (len(head) - 1 + scored))]
    for row in rows:
        age, p50 = row.capture_to_mask_ms, row.engine_ms.p50
        cells = [
            row.engine,
            _number(p50) + _interval(row.p50_ci95),
            _number(row.engine_ms.p99),
            _number(age.p50 if age else None),
            _number(age.p99 if age else None),
            "1" if row.engine == REFERENCE else f"{row.ratio:.2f}{_interval(row.ratio_ci95)}",
            _number(row.limit_ms),
            f"{p50 / row.limit_ms:.1f}" if row.limit_ms and p50 else "–",
        ]
        if scored:
            cells.append("–" if row.miou is None else f"{row.miou:.4f}")
        lines.append(" | ".join(cells))
    return [f"| {line} |" for line in lines]


def _unstable(rows: list[SuiteRow]) -> list[str]:
    return [f"{row.model} {row.size} {row.engine}: the warm-up never became stable" for row in rows if not row.stable]


def _values(row: SuiteRow) -> list[float]:
    ages = row.capture_to_mask_ms
    candidates = [row.engine_ms.p50, row.engine_ms.p99, ages.p50 if ages else None]
    return [value for value in candidates if value is not None] or [row.engine_ms.max or 1.0]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f" [{bounds[0]:.2f}, {bounds[1]:.2f}]"


def _safe(name: str) -> str:
    return Path(name.removeprefix("zoo:")).stem
