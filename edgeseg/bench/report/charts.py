"""The pictures of a bench."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeseg.bench.monitor import Readings
from edgeseg.bench.report.plot import Axis, Plot, Point, step
from edgeseg.bench.result import BenchResult
from edgeseg.bench.roofline import Roofline

F64 = NDArray[np.float64]
_BUCKETS = 400
_HALF, _WHOLE = (500, 270), (1040, 380)  # width and height of a plot, as the page shows it
_STYLES = {"engine": "s1", "capture to mask": "s2"}


def histogram(samples_ms: Mapping[str, F64]) -> Plot:
    """Latencies of engine and pipeline over a logarithmic axis, so that no tail is cut off."""
    low, high = _range(samples_ms)
    edges = np.geomspace(low, high, 90)
    shares = {name: np.histogram(values, edges)[0] / max(1, len(values)) for name, values in samples_ms.items()}
    peak = max(float(share.max()) for share in shares.values())
    plot = Plot(
        Axis(low, high, "latency, ms", "log"), Axis(0, 100 * peak * 1.1, "share of samples, %"), "histogram", *_HALF
    )
    for name, share in shares.items():
        plot.area(step(edges.tolist(), (100 * share).tolist()), _STYLES[name])
    return plot


def tail(samples_ms: Mapping[str, F64]) -> Plot:
    """Cumulative distribution, with the share of slower samples on a logarithmic axis: the tail is what matters."""
    low, high = _range(samples_ms)
    fewest = 1 / max(len(values) for values in samples_ms.values())
    ticks = [(0.5, "p50"), (0.1, "p90"), (0.05, "p95"), (0.01, "p99"), (0.001, "p99.9"), (0.0001, "p99.99")]
    # the axis runs from fast (top of the share: 1) to slow: share of samples that are slower, mirrored
    y = Axis(
        0, -math.log10(fewest), "share that is faster", ticks=[(-math.log10(s), t) for s, t in ticks if s >= fewest]
    )
    plot = Plot(Axis(low, high, "latency, ms", "log"), y, "cumulative distribution", *_HALF)
    for name, values in samples_ms.items():
        ordered = np.sort(values)
        slower = 1 - np.arange(len(ordered)) / len(ordered)
        keep = np.unique(np.geomspace(1, len(ordered), min(len(ordered), 500)).astype(int))
        index = len(ordered) - keep[::-1]
        plot.line([(float(ordered[i]), float(-math.log10(slower[i]))) for i in index], _STYLES[name])
    return plot


def timeline(
    times_s: Mapping[str, F64], samples_ms: Mapping[str, F64], readings: Readings | None, zero_s: float
) -> Plot:
    """Latencies over time: median and maximum of each slice; times when the device throttled are marked."""
    end = max(float(times[-1]) for times in times_s.values() if len(times))
    low, high = _range(samples_ms)
    plot = Plot(Axis(0, end, "time, s"), Axis(low, high, "latency, ms", "log"), "latency over time", *_WHOLE)
    if readings is not None:
        for begin_s, end_s, names in _throttled(readings, zero_s):
            plot.band(begin_s, end_s, "warn", f"throttled: {', '.join(names)}")
    for name, values in samples_ms.items():
        times = times_s[name]
        slices = np.array_split(np.arange(len(values)), min(_BUCKETS, len(values)))
        plot.dots(
            [(float(times[s[0]]), float(values[s].max()), 1.6, "slowest of its slice") for s in slices], _STYLES[name]
        )
        plot.line([(float(times[s[0]]), float(np.median(values[s]))) for s in slices], _STYLES[name])
    return plot


def sensor_charts(readings: Readings, zero_s: float) -> list[tuple[str, Plot, list[str]]]:
    """Temperatures, clocks, power and memory over the same time: (title, plot, names of its lines)."""
    charts = []
    groups: list[tuple[str, str, Mapping[str, Sequence[float | None]]]] = [
        ("Temperature", "°C", readings.temperature_c),
        ("Clocks", "MHz", readings.clock_mhz),
        ("Power", "W", readings.power_w),
        ("Memory of the process", "MiB", {"resident": readings.memory_mb}),
    ]
    seconds = [readings.start_ns / 1e9 - zero_s + t_ms / 1e3 for t_ms in readings.t_ms]
    if sum(t >= 0 for t in seconds) < 2:
        return []  # a bench so short that the sensors were read during its warm-up alone
    for title, unit, lines in groups:
        known = [value for line in lines.values() for value in line if value is not None]
        if not known:
            continue
        pad = 0.08 * (max(known) - min(known)) or 1.0
        y = Axis(max(0.0, min(known) - pad), max(known) + pad, unit)
        plot = Plot(Axis(0, seconds[-1], "time, s"), y, title, *_HALF)
        for i, values in enumerate(lines.values()):
            points: list[Point] = [(t, v) for t, v in zip(seconds, values, strict=False) if v is not None]
            plot.line(points, f"s{i % 6 + 1}")
        charts.append((title, plot, list(lines)))
    return charts


def roof_chart(roof: Roofline) -> Plot:
    """Layers by arithmetic intensity and speed, under the compute and memory roofs."""
    rows = [row for row in roof.rows if row.macs and row.time_ms]
    intensities = [row.intensity for row in rows]
    low, high = min([0.1, *intensities]) / 1.5, max([100.0, *intensities]) * 1.5
    speeds = [row.macs / (row.time_ms or 1) / 1e6 for row in rows]
    top = max(roof.peaks.macs_per_s.values()) / 1e9 * 2
    plot = Plot(
        Axis(low, high, "arithmetic intensity, multiply-adds a byte", "log"),
        Axis(min([top / 1000, *speeds]) / 1.5, top, "10⁹ multiply-adds a second", "log"),
        "roofline",
        *_WHOLE,
    )
    widths = roof.peaks.bytes_per_s
    for i, (precision, peak) in enumerate(roof.peaks.macs_per_s.items()):
        for size, style in ((min(widths), "roof"), (max(widths), "roof far")):
            ridge = peak / widths[size]
            curve = [(x, min(peak, x * widths[size]) / 1e9) for x in (low, min(max(ridge, low), high), high)]
            plot.line(curve, f"{style} p{i}")
        plot.text(high / 4**i, peak / 1e9, f"{precision} {peak / 1e9:,.0f} GMAC/s", anchor="end")
    total = sum(row.time_ms or 0 for row in rows) or 1.0
    precisions = list(roof.peaks.macs_per_s)
    for row, speed in zip(rows, speeds, strict=True):
        share = (row.time_ms or 0) / total
        tip = f"{row.name}: {row.time_ms:.3f} ms, limit {row.limit_ms:.3f} ms ({row.bound}), {row.precision}"
        style = f"p{precisions.index(row.precision)}" if row.precision in precisions else "p0"
        plot.dots([(row.intensity, speed, 2.5 + 14 * math.sqrt(share), tip)], style)
    return plot


def stage_bars(result: BenchResult) -> str:
    """One stacked bar: the mean of each stage between capture and mask."""
    means = [
        (i, name, series.mean)
        for i, (name, series) in enumerate(result.stages_ms.items())
        if series.mean and name != "sink"
    ]
    total = sum(mean for _, _, mean in means) or 1.0
    parts, keys = [], []
    for i, name, mean in means:
        share = 100 * mean / total
        label = name if share > 7 else ""
        tip = f"{name}: {mean:.3f} ms, {share:.1f} %"
        parts.append(f'<div class="piece f{i}" style="width:{share:.3f}%" title="{tip}">{label}</div>')
        keys.append(f'<span><i class="f{i}"></i>{name} {mean:.2f} ms ({share:.1f} %)</span>')
    return f'<div class="bar">{"".join(parts)}</div><p class="key">{"".join(keys)}</p>'


def _range(samples_ms: Mapping[str, F64]) -> tuple[float, float]:
    present = [values for values in samples_ms.values() if len(values)]
    low = max(1e-4, min(float(values.min()) for values in present))
    return low * 0.9, max(float(values.max()) for values in present) * 1.1


def _throttled(readings: Readings, zero_s: float) -> list[tuple[float, float, list[str]]]:
    seconds = [readings.start_ns / 1e9 - zero_s + t_ms / 1e3 for t_ms in readings.t_ms]
    if sum(t >= 0 for t in seconds) < 2:
        return []  # a bench so short that the sensors were read during its warm-up alone
    ends = [*seconds[1:], seconds[-1] if seconds else 0.0]
    return [(t, end, names) for t, end, names in zip(seconds, ends, readings.throttled, strict=True) if names]
