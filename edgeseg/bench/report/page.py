"""The page: what is read first stands first, and each picture says what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np

from edgeseg.bench.report import charts
from edgeseg.bench.result import BenchResult
from edgeseg.bench.table import latency_table, layer_table, loadgen_table, peer_table, stage_table, summary_lines
from edgeseg.core.metrics import Series
from edgeseg.core.types import format_size


def render(result: BenchResult, samples_file: Path) -> str:
    """The whole page as HTML."""
    with np.load(samples_file, allow_pickle=False) as arrays:
        samples_ms = {"engine": arrays["engine_ns"] / 1e6, "capture to mask": arrays["paced_age_ns"] / 1e6}
        zero_s = float(arrays["engine_start_ns"][0]) / 1e9
        times_s = {
            "engine": arrays["engine_start_ns"] / 1e9 - zero_s,
            "capture to mask": arrays["paced_capture_ns"] / 1e9 - zero_s,
        }
    title = f"{result.engine.name}: {result.engine.precision} on {result.device.board or result.device.cpu}"
    body = [
        _head(result, title),
        _numbers(result),
        _notes(result.notes),
        '<div class="two-up">',
        _figure("How the latencies are distributed", charts.histogram(samples_ms).svg(), _BOTH),
        _figure("The tail", charts.tail(samples_ms).svg(), _BOTH),
        "</div>",
        _figure(
            "Over time",
            charts.timeline(times_s, samples_ms, result.readings, zero_s).svg(),
            "Line: median of each slice of time; dots: its slowest sample. Nothing is left out. " + _throttle(result),
        ),
        *_sensors(result, zero_s),
        "<h2>Where the time goes, capture to mask</h2>",
        charts.stage_bars(result),
        _table(*stage_table(result)),
        "<h2>Percentiles, ms</h2><p class='dim small'>Observed values; in brackets the 95 % interval of a block "
        "bootstrap; – where the sample says nothing.</p>",
        _table(*latency_table(result)),
        *_inside(result),
        *_peers(result),
        _environment(result),
    ]
    style = resources.files("edgeseg.bench.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )


_BOTH = (
    '<span class="key"><span><i class="l1"></i>engine only, back to back</span>'
    '<span><i class="l2"></i>capture to mask, paced</span></span>'
)


def _head(result: BenchResult, title: str) -> str:
    engine = result.engine
    bundle = f", bundle {engine.bundle_id[:12]}" if engine.bundle_id else ""
    return (
        f"<h1>{escape(title)}</h1><p class='dim'>{escape(engine.backend)}, {escape(engine.precision)}, frames of "
        f"{format_size(engine.frame_size)}{bundle} · {escape(result.device.summary())} · edgeseg {result.edgeseg} · "
        f"{result.created}</p>"
    )


def _numbers(result: BenchResult) -> str:
    paced = result.capture_to_mask_ms
    rate = f"paced at {paced.rate_hz:g}/s" if paced.rate_hz else "at the source's own rate"
    misses = "unknown" if result.deadline_misses is None else result.deadline_misses
    drops = sum(result.drops.values())
    return (
        '<div class="numbers">'
        + _number("Engine only", result.engine_ms, f"back to back, {_or_dash(result.engine_fps)} frames/s", "one")
        + _number(
            "Capture to mask",
            paced,
            f"{rate}, clock {paced.clock}, {_or_dash(result.fps)} masks/s, {misses} deadline misses, {drops} drops",
            "two",
        )
        + "</div>"
    )


def _number(title: str, series: Series, text: str, style: str) -> str:
    tails = ", ".join(
        f"{name} {_or_dash(value, 2)}"
        for name, value in (("p99", series.p99), ("max", series.max))
        if value is not None
    )
    return (
        f'<div class="number {style}"><span>{title}</span><br><b>{_or_dash(series.p50, 2)}</b> ms p50 '
        f"<span>{tails}</span><br><span class='small'>{escape(text)}</span></div>"
    )


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return '<div class="note-box small">' + "<br>".join(escape(note) for note in notes) + "</div>"


def _figure(title: str, svg: str, caption: str) -> str:
    return f"<figure><h2>{escape(title)}</h2>{svg}<figcaption class='dim small'>{caption}</figcaption></figure>"


def _throttle(result: BenchResult) -> str:
    if result.readings is None:
        return ""
    names = result.readings.ever_throttled
    return f"Throttled by {escape(', '.join(names))} (shaded)." if names else "No throttling that this device tells of."


def _sensors(result: BenchResult, zero_s: float) -> list[str]:
    readings = result.readings
    if readings is None:
        return []
    shown = []
    for title, plot, names in charts.sensor_charts(readings, zero_s):
        keys = "".join(f'<span><i class="l{i % 6 + 1}"></i>{escape(name)}</span>' for i, name in enumerate(names))
        shown.append(_figure(title, plot.svg(), f'<span class="key">{keys}</span>'))
    missing = [
        name
        for name, values in (("temperatures", readings.temperature_c), ("clocks", readings.clock_mhz))
        if not values
    ]
    if not readings.module_power_w:
        missing.append("power")
    grid = ["<div class='two-up'>", *shown, "</div>"] if shown else []
    if missing:
        grid.append(f"<p class='dim small'>Not available on this device: {', '.join(missing)}.</p>")
    return grid


def _inside(result: BenchResult) -> list[str]:
    roof = result.roofline
    if roof is None:
        return []
    p50 = result.engine_ms.p50
    times = roof.distance(p50) if p50 else None
    far = f", {times:.1f} times less than the engine takes" if times is not None else ""
    columns, rows = layer_table(result, most=len(roof.rows))
    roofs = ", ".join(f"{size >> 10} KiB {value / 1e9:.1f}" for size, value in sorted(roof.peaks.bytes_per_s.items()))
    return [
        _figure(
            "Under the roof",
            charts.roof_chart(roof).svg(),
            f"One circle a fused group of layers, its area the time it takes. Peaks: {escape(roof.peaks.origin)}. "
            f"Solid roof: the smallest cache; dashed: memory. Bandwidth by working set, GB/s: {roofs}. The sum of all "
            f"limits is {roof.limit_ms:.2f} ms{far}.",
        ),
        "<h2>Layers</h2>",
        "<p class='dim small'>Times under the runtime's own profiler, which slows small layers; names are the "
        "model's.</p>",
        _table(columns, rows, meter=3),
    ]


def _peers(result: BenchResult) -> list[str]:
    parts = []
    if result.peers:
        parts += [
            "<h2>Peers</h2><p class='dim small'>The same network, in turns with the engine in one run; under 1 the "
            "engine is faster.</p>",
            _table(*peer_table(result), wide=4),
        ]
    if result.loadgen:
        parts += [
            "<h2>MLPerf LoadGen</h2><p class='dim small'>An independent stopwatch over the same queries; its log files "
            "are kept beside the samples.</p>",
            _table(*loadgen_table(result)),
        ]
    return parts


def _environment(result: BenchResult) -> str:
    device = {key: value for key, value in msgspec.to_builtins(result.device).items() if value not in (None, "", [])}
    rows: list[tuple[str, ...]] = [(key, _plain(value)) for key, value in device.items()]
    if result.readings is not None:
        state = msgspec.to_builtins(result.readings.state)
        rows += [(key, "not available" if value is None else str(value)) for key, value in state.items()]
    rows += [
        (
            "warm-up",
            f"{result.warm_up.calls} calls, {result.warm_up.duration_ms:.0f} ms, stable: {result.warm_up.stable}",
        ),
        ("garbage collector", f"on; ran {result.collections} times in the back-to-back half"),
        ("raw samples", Path(result.samples_file).name),
    ]
    lines = "".join(f"<li>{escape(line)}</li>" for line in summary_lines(result))
    return f"<h2>Summary</h2><ul class='small'>{lines}</ul><h2>Environment</h2>{_table(['', ''], rows, wide=1)}"


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, wide: int | None = None, meter: int | None = None
) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    top = max((_value(row[meter]) for row in rows[:-1]), default=1.0) if meter is not None else 1.0
    lines = []
    for row in rows:
        cells = []
        for i, cell in enumerate(row):
            extra = ' class="wide"' if i == wide else ""
            if i == meter and row is not rows[-1]:
                extra = f' class="meter" style="--w:{100 * _value(cell) / (top or 1):.1f}%"'
            cells.append(f"<td{extra}>{escape(cell)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _value(cell: str) -> float:
    try:
        return float(cell.split()[0])
    except (ValueError, IndexError):
        return 0.0


def _plain(value: object) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)


def _or_dash(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
