"""Latency of the rows of tools/compare_models.py: every engine of every row in one interleaved run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from model_rows import Rows, spread_frames

from edgeseg.backend import get_builder, probe_backends
from edgeseg.core.artefacts import write_bytes
from edgeseg.core.clock import wall_iso
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import GateError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, EngineSpec, Precision, Runner, Size
from edgeseg.export.parity import MIN_AGREEMENT, compare, torch_logits
from edgeseg.graph import save_model
from edgeseg.measure import compare_runners, series_intervals_ms

ENGINES: Mapping[str, tuple[str, Precision]] = {
    "OpenVINO f32": ("openvino", "fp32"),
    "OpenVINO BF16": ("openvino", "bf16"),
    "ONNX Runtime f32": ("onnxruntime", "fp32"),
}
FRAMES = 4


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
        engines: Timings by row, then by engine.
    """

    created: str
    device: str
    size: Size
    threads: int
    seconds: float
    busy: str
    trained: dict[str, bool]
    engines: dict[str, dict[str, Timing]]


def measure(rows: Rows, *, seconds: float, threads: int, busy: str, progress: Progress) -> Latency:
    """Export every row, hold each engine against torch, then time all engines in turns.

    Raises:
        GateError: A float32 engine disagrees with torch.
    """
    names = rows.names
    size = rows.config(names[0]).input.network_size
    frames = spread_frames(rows, FRAMES)
    here = {item.name for item in probe_backends() if item.ok}
    wanted = {
        label: (backend, precision)
        for label, (backend, precision) in ENGINES.items()
        if backend in here and precision in get_builder(backend).precisions
    }
    runners: dict[str, Runner] = {}
    agreement: dict[str, float] = {}
    trained: dict[str, bool] = {}
    with tempfile.TemporaryDirectory(prefix="edgeseg-models-") as scratch:
        with progress.task("export and check", len(names)) as task:
            for name in names:
                file, masks, trained[name] = _export(rows, name, frames, progress)
                for label, (backend, precision) in wanted.items():
                    key = f"{name}\t{label}"
                    classes = rows.config(name).classes
                    spec = EngineSpec(frame_size=size, precision=precision, classes=classes, threads=threads)
                    folder = Path(scratch) / str(len(runners))
                    folder.mkdir()
                    builder = get_builder(backend)
                    runners[key] = builder.open(folder / builder.build(file, folder, spec).file, spec)
                    agreement[key] = _agreement(runners[key], frames, masks)
                    if precision == "fp32" and agreement[key] < MIN_AGREEMENT:
                        value = f"{name}, {label}: {agreement[key]:.3%} of the pixels"
                        raise GateError("an engine disagrees with torch", value=value, allowed=f"{MIN_AGREEMENT:.1%}")
                task.advance(note=name)
        comparison = compare_runners(runners, frames, duration_s=seconds, progress=progress)
    engines: dict[str, dict[str, Timing]] = {name: {} for name in names}
    for key, samples in comparison.samples.items():
        name, label = key.split("\t")
        p50_ms = float(np.median(samples.engine_ns)) / 1e6
        low, high = series_intervals_ms(samples.engine_ns).get("p50", (p50_ms, p50_ms))
        engines[name][label] = Timing(
            p50_ms=p50_ms,
            low_ms=low,
            high_ms=high,
            calls=len(samples.engine_ns),
            stable=samples.stable,
            agreement=agreement[key],
        )
    device = fingerprint()
    found = Latency(
        created=wall_iso(),
        device=f"{device.summary()}; CPU features {', '.join(device.cpu_features) or 'unknown'}",
        size=size,
        threads=threads,
        seconds=seconds,
        busy=busy,
        trained=trained,
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


def _export(rows: Rows, name: str, frames: Sequence[U8], progress: Progress) -> tuple[Path, list[U8], bool]:
    """The full graph of a row, whose masks are torch's; these masks; whether the weights are trained."""
    model, trained = rows.open(name)
    graph, spec = rows.graph(name, model), rows.config(name).input
    compare(model, spec, graph, frames, progress).check(f"the exported graph of {name}")  # type: ignore[arg-type]
    file = rows.folder(name) / "model.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_model(file, graph)
    masks = [torch_logits(model, spec, frame).argmax(0).astype(np.uint8) for frame in frames]  # type: ignore[arg-type]
    return file, masks, trained


def _agreement(runner: Runner, frames: Sequence[U8], masks: Sequence[U8]) -> float:
    shares = []
    with runner:
        for frame, mask in zip(frames, masks, strict=True):
            with runner.infer(frame[None]) as output:
                shares.append(float(np.mean(output.mask_nhw[0] == mask)))
    return float(np.mean(shares))
