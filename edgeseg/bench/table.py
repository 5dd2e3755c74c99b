"""A bench for the terminal: engine and capture to mask side by side, always both."""

from __future__ import annotations

from edgeseg.bench.result import PERCENTILES, BenchResult, label
from edgeseg.core.metrics import Series

Row = tuple[str, ...]


def latency_table(result: BenchResult) -> tuple[list[str], list[Row]]:
    """Columns and rows: one row a percentile, engine beside capture to mask, intervals in brackets."""
    columns = ["ms", "engine only", "capture to mask"]
    series: dict[str, Series] = {"engine": result.engine_ms, "capture_to_mask": result.capture_to_mask_ms}
    rows: list[Row] = []
    for name in (*PERCENTILES, "max", "mean", "jitter"):
        cells = [_cell(getattr(one, name), result.intervals_ms[key].get(name)) for key, one in series.items()]
        rows.append((label(name), *cells))
    rows.append(("samples", *(str(one.n) for one in series.values())))
    return columns, rows


def stage_table(result: BenchResult) -> tuple[list[str], list[Row]]:
    """Columns and rows: where the time between capture and mask goes."""
    means = {name: series.mean or 0.0 for name, series in result.stages_ms.items() if name != "sink"}
    total = sum(means.values()) or 1.0
    rows: list[Row] = []
    for name, series in result.stages_ms.items():
        share = "after the mask" if name == "sink" else f"{100 * means[name] / total:.1f} %"
        if series.n:
            rows.append((name, _cell(series.p50), _cell(series.p99), _cell(series.max), share))
    return ["stage", "p50 ms", "p99 ms", "max ms", "share"], rows


def summary_lines(result: BenchResult) -> list[str]:
    """What belongs beside the tables, one line each."""
    engine, paced = result.engine, result.capture_to_mask_ms
    rate = f"{paced.rate_hz:g}/s" if paced.rate_hz else "its own rate"
    misses = "unknown" if result.deadline_misses is None else str(result.deadline_misses)
    drops = ", ".join(f"{reason} {n}" for reason, n in result.drops.items()) or "none"
    lines = [
        f"engine: {engine.backend}, {engine.precision}, {_number(result.engine_fps)} frames/s back to back",
        f"pipeline: {paced.source} at {rate}, clock {paced.clock}: {_number(result.fps)} masks/s, "
        f"deadline misses {misses}, drops {drops}",
        f"device: {result.device.summary()}",
    ]
    if result.against is not None:
        low, high = result.against.ci95
        how = "interleaved" if result.against.interleaved else "NOT interleaved: a saved result"
        lines.append(
            f"against {result.against.name}: {result.against.ratio_p50:.3f} times its p50 "
            f"(95 % interval {low:.3f} to {high:.3f}, {how})"
        )
    if result.power_w is not None and result.joules_per_frame is not None:
        lines.append(f"power: {result.power_w:.2f} W back to back, {result.joules_per_frame:.4f} J a frame")
    return lines


def _cell(value: float | None, interval: tuple[float, float] | None = None) -> str:
    if value is None:
        return "–"
    if interval is None:
        return f"{value:.2f}"
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
