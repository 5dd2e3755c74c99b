"""A bench for the terminal: engine and capture to mask side by side, always both."""

from __future__ import annotations

import msgspec

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


def layer_table(result: BenchResult, most: int = 12) -> tuple[list[str], list[Row]]:
    """Columns and rows: the slowest groups of layers, and the sums."""
    roof = result.roofline
    columns = ["layer", "kind", "precision", "ms", "limit ms", "bound", "MMAC", "MAC/B"]
    if roof is None:
        return columns, []
    slowest = sorted(roof.rows, key=lambda row: row.time_ms or 0.0, reverse=True)
    rows: list[Row] = [
        (
            row.name + (f" +{len(row.layers) - 1}" if len(row.layers) > 1 else ""),
            row.kind,
            row.precision,
            _cell(row.time_ms),
            _cell(row.limit_ms),
            row.bound,
            f"{row.macs / 1e6:.1f}",
            f"{row.intensity:.1f}",
        )
        for row in slowest[:most]
    ]
    rest = sum(row.time_ms or 0.0 for row in slowest[most:])
    if len(slowest) > most:
        rows.append((f"{len(slowest) - most} more", "", "", _cell(rest), "", "", "", ""))
    rows.append(("reformats, moves, layers of no name", "", "", _cell(roof.reformats_ms), "", "", "", ""))
    rows.append(("all", "", "", _cell(roof.measured_ms), _cell(roof.limit_ms), "", "", ""))
    return columns, rows


def peer_table(result: BenchResult) -> tuple[list[str], list[Row]]:
    """Columns and rows: peers of the same interleaved run."""
    rows: list[Row] = []
    for peer in result.peers:
        low, high = peer.ci95
        ratio = f"{peer.ratio_p50:.3f} [{low:.3f}, {high:.3f}]"
        rows.append((peer.name, _cell(peer.engine_ms.p50), _cell(peer.engine_ms.p99), ratio, peer.settings))
    return ["peer", "p50 ms", "p99 ms", "this / peer", "settings"], rows


def loadgen_table(result: BenchResult) -> tuple[list[str], list[Row]]:
    """Columns and rows: LoadGen's stopwatch beside ours, over the same queries."""
    rows: list[Row] = []
    for run in result.loadgen:
        agrees = {True: "yes", False: "NO", None: "–"}[run.agrees]
        p90s = _cell(run.loadgen_p90_ms), _cell(run.own_p90_ms)
        rows.append((run.scenario, str(run.queries), *p90s, agrees, f"{run.fps:.1f}", "yes" if run.valid else "NO"))
    columns = ["scenario", "queries", "LoadGen p90 ms", "own p90 ms", "within 3 % + 0.1 ms", "frames/s", "valid"]
    return columns, rows


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
    lines += _inside_lines(result)
    return lines


def _inside_lines(result: BenchResult) -> list[str]:
    lines = []
    roof, p50 = result.roofline, result.engine_ms.p50
    if roof is not None and p50 is not None:
        times = roof.distance(p50)
        lines.append(
            "roofline: the runtime named no layer of the model, so nothing was placed under the roof"
            if times is None
            else f"roofline: physical limit {roof.limit_ms:.2f} ms, the engine takes {times:.1f} times that "
            f"({roof.peaks.origin})"
        )
    lines += [
        f"PREDICTION for {one.target} {one.precision}: at least {one.limit_ms:.2f} ms, "
        f"{100 * one.memory_bound_share:.0f} % of it waiting for memory; never measured ({one.source})"
        for one in result.predictions
    ]
    if result.cold is not None:
        cold = result.cold
        shown = [f"{name} {min(values):.0f}" for name, values in msgspec.structs.asdict(cold).items()]
        lines.append(f"cold start, best of {len(cold.first_mask_ms)}: {', '.join(shown)} ms since the process began")
    if result.accuracy is not None and result.accuracy.miou is not None:
        lines.append(f"accuracy: mIoU {result.accuracy.miou:.4f} on {result.accuracy.data} {result.accuracy.split}")
    if result.sustained is not None:
        hot = result.sustained
        low, high = hot.ci95
        slope = hot.memory_slope_mb_per_min
        lines.append(
            f"sustained: last minute {hot.ratio_p50:.3f} times the first [{low:.3f}, {high:.3f}], memory "
            + ("unknown" if slope is None else f"{slope:+.3f} MiB a minute")
            + f", throttled by {', '.join(hot.throttled) or 'nothing that this device tells'}"
        )
    if result.readings is not None:
        lines.append(f"monitor: {100 * result.readings.cost_share:.2f} % of one processor, for reading sensors")
    return lines


def _cell(value: float | None, interval: tuple[float, float] | None = None) -> str:
    if value is None:
        return "–"
    if interval is None:
        return f"{value:.2f}"
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
