"""Latency of the rows of tools/compare_models.py: every engine of every row in one interleaved run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from model_engines import open_engines, prepared
from model_rows import Rows

from edgeseg.core.artefacts import write_bytes
from edgeseg.core.clock import wall_iso
from edgeseg.core.device import fingerprint
from edgeseg.core.progress import Progress
from edgeseg.core.types import Size
from edgeseg.measure import compare_runners, series_intervals_ms


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """One engine of one row.

    Attributes:
        p50_ms: Median of the runtime's own call.
        low_ms: Of its 95 % interval (block bootstrap).
        high_ms: Likewise.
        calls: Counted calls.
        stable: Whether the warm-up became stable.
        agreement: Share of pixels with torch's class, over a few frames.
    """

    p50_ms: float
    low_ms: float
    high_ms: float
    calls: int
    stable: bool
    agreement: float


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """One interleaved run: `RUNS/latency.json`.

    Attributes:
        created: When.
        device: Where.
        size: (H, W) of frame and mask.
        threads: Of each engine.
        seconds: Length of the run, warm-up not counted.
        busy: What else the machine did, in words.
        trained: Whether each row's weights were trained; times do not depend on it.
        forms: The exact forms that change a row's graph, by row and runtime.
        engines: Timings by row, then by engine.
    """

    created: str
    device: str
    size: Size
    threads: int
    seconds: float
    busy: str
    trained: dict[str, bool]
    forms: dict[str, dict[str, list[str]]] = {}
    engines: dict[str, dict[str, Timing]]


def measure(rows: Rows, *, seconds: float, threads: int, busy: str, progress: Progress) -> Latency:
    """Time all engines that have been built in turns.

    Raises:
        RequestError: Nothing was built.
    """
    built, frames = prepared(rows)
    runners = {(name, label): runner for name, label, runner in open_engines(rows, built, threads)}
    named = {"\t".join(key): runner for key, runner in runners.items()}
    comparison = compare_runners(named, frames, duration_s=seconds, progress=progress)
    engines: dict[str, dict[str, Timing]] = {name: {} for name in built.engines}
    for name, label in runners:
        samples = comparison.samples[f"{name}\t{label}"]
        p50_ms = float(np.median(samples.engine_ns)) / 1e6
        low, high = series_intervals_ms(samples.engine_ns).get("p50", (p50_ms, p50_ms))
        engines[name][label] = Timing(
            p50_ms=p50_ms,
            low_ms=low,
            high_ms=high,
            calls=len(samples.engine_ns),
            stable=samples.stable,
            agreement=built.engines[name][label].agreement,
        )
    device = fingerprint()
    found = Latency(
        created=wall_iso(),
        device=f"{device.summary()}; CPU features {', '.join(device.cpu_features) or 'unknown'}",
        size=rows.config(rows.names[0]).input.network_size,
        threads=threads,
        seconds=seconds,
        busy=busy,
        trained=built.trained,
        forms=built.forms,
        engines=engines,
    )
    write_bytes(_file(rows), msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return found


def last(rows: Rows) -> Latency | None:
    """The last run that was measured here."""
    file = _file(rows)
    return msgspec.json.decode(file.read_bytes(), type=Latency) if file.is_file() else None


def _file(rows: Rows) -> Path:
    return rows.plan.runs / "latency.json"
