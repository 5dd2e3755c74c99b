"""Where an engine's time goes: its layers as the runtime tells them, under the roof of the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from edgeseg.backend import get_builder
from edgeseg.backend.profiling import LayerTime, Profiler
from edgeseg.bench.peaks import Peaks, probe_peaks
from edgeseg.bench.roofline import Roofline, roofline
from edgeseg.bundle import Bundle
from edgeseg.core.errors import CapabilityError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, Precision
from edgeseg.graph import fix_frame_size, load_model

_RUNS = 20


def profile_bundle(
    bundle: Bundle, frames: Sequence[U8], progress: Progress, *, peaks: Peaks | None = None
) -> tuple[list[LayerTime], Roofline]:
    """Times of a bundle's layers, and the same layers under the roof.

    Args:
        bundle: Verified.
        frames: uint8 [H, W, 3] at its frame size.
        progress: Where to show it.
        peaks: Roofs, where they are known already; None probes them.

    Raises:
        CapabilityError: Its runtime tells no times by layer.
    """
    engine = bundle.manifest.engine
    builder = get_builder(engine.backend)
    if not isinstance(builder, Profiler):
        raise CapabilityError("times by layer", runtime=f"{engine.backend} {builder.version}")
    with progress.task("profile the layers"):
        batch = bundle.manifest.spec.batch
        submissions = [np.stack([frame] * batch) for frame in frames[:4]]
        times = builder.profile(bundle.engine_file, bundle.manifest.spec, submissions, _RUNS)
    if peaks is None:
        peaks = probe_peaks(engine.backend, _precisions(times), progress)
    return times, roofline(engine_graph(bundle), times, peaks)


def engine_graph(bundle: Bundle) -> onnx.ModelProto:
    """The canonical graph at the engine's sizes: what its layer names and its arithmetic come from."""
    manifest = bundle.manifest
    return fix_frame_size(
        load_model(bundle.model_file), manifest.spec.frame_size, manifest.geometry.network_size, manifest.spec.batch
    )


def _precisions(times: Sequence[LayerTime]) -> list[Precision]:
    present = {layer.precision for layer in times}
    known: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "int8")
    return [precision for precision in known if precision == "fp32" or precision in present]
