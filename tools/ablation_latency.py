"""Latency of the rows of an ablation: every engine in one interleaved run, of networks with their first weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ablation_scores import PRECISIONS, Latency, LatencyRun
from ablation_table import Job

from edgeseg.backend import get_builder
from edgeseg.bench.frames import street_frames
from edgeseg.core.clock import wall_iso
from edgeseg.core.device import fingerprint
from edgeseg.core.metrics import series_ms
from edgeseg.core.progress import Progress
from edgeseg.core.types import Classes, EngineSpec, Size, format_size
from edgeseg.export.parity import compare
from edgeseg.export.run import RunFacts, canonical_model
from edgeseg.graph import fix_frame_size, save_model
from edgeseg.measure import compare_runners
from edgeseg.model import InputConfig, build_model

_BACKEND = "openvino"


def time_jobs(
    jobs: Sequence[Job], classes: Classes, size: Size, duration_s: float, machine: str, progress: Progress
) -> LatencyRun:
    """Build the full graph of every row (bytes in, argmax out) in FP32 and BF16, and time all of them in turns.

    Weights are those that a training starts from: time does not hang on their values. Every graph is held against
    torch before.

    Args:
        jobs: The first is what the others are held against.
        classes: Of the masks.
        size: (height, width) of frames, and of what the layers see.
        duration_s: Of the interleaved run, for each engine.
        machine: What else it does meanwhile, in words.
        progress: Where it is shown.

    Raises:
        GateError: A graph disagrees with torch.
    """
    builder = get_builder(_BACKEND)
    spec_in = InputConfig(network_size=size)
    frames = street_frames(size, progress)
    runners = {}
    with tempfile.TemporaryDirectory() as scratch:
        for job in {job.key: job for job in jobs}.values():
            model = build_model(job.config, len(classes), seed=1).eval()
            graph = canonical_model(model, spec_in, classes, RunFacts())
            compare(model, spec_in, graph, frames[:2], progress).check(f"the exported graph of {job.id}")
            file = Path(scratch) / f"{job.key}.onnx"
            save_model(file, fix_frame_size(graph, size))
            for precision in PRECISIONS:
                spec = EngineSpec(frame_size=size, precision=precision, classes=classes)
                folder = Path(scratch) / f"{job.key}-{precision}"
                folder.mkdir()
                runners[job.key, precision] = builder.open(folder / builder.build(file, folder, spec).file, spec)
        backend = next(iter(runners.values())).spec.backend
        named = {f"{key} {precision}": runner for (key, precision), runner in runners.items()}
        compared = compare_runners(named, frames, duration_s=duration_s * len(named), progress=progress)
    rows: dict[str, dict[str, Latency]] = {}
    for key, precision in runners:
        ratio, (low, high) = compared.ratio(f"{key} {precision}", f"{jobs[0].key} {precision}")
        p50 = series_ms(compared.samples[f"{key} {precision}"].engine_ns).p50
        rows.setdefault(key, {})[precision] = Latency(
            p50_ms=None if p50 is None else round(p50, 3), ratio=round(ratio, 3), ci95=(round(low, 3), round(high, 3))
        )
    return LatencyRun(
        size=format_size(size),
        backend=backend,
        device=fingerprint().summary(),
        created=wall_iso(),
        first=jobs[0].key,
        machine=machine,
        rows=rows,
    )
