"""Where an engine's time goes: its layers as the runtime tells them, under the roof of the device."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import onnx

from edgeseg.backend import get_builder
from edgeseg.backend.profiling import LayerTime, Profiler
from edgeseg.bench.peaks import Peaks, probe_peaks
from edgeseg.bench.roofline import Roofline, predict, roofline
from edgeseg.bundle import Bundle
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import CapabilityError, RequestError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, Precision
from edgeseg.deploy.target import TargetPeaks, load_target
from edgeseg.graph import fix_frame_size, load_model

_RUNS = 20


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction, not a measurement: no engine can be faster on that board, and none has run there.

    Attributes:
        target: Recipe of the board.
        precision: Of all layers.
        limit_ms: What the board's roof allows.
        memory_bound_share: Share of that in layers that wait for memory.
        source: Where the recipe's peaks come from.
    """

    target: str
    precision: str
    limit_ms: float
    memory_bound_share: float
    source: str


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
    spec, geometry = bundle.manifest.spec, bundle.manifest.geometry
    model = load_model(bundle.model_file)
    return fix_frame_size(model, spec.frame_size, geometry.network_size, spec.batch, roi=spec.roi)


def _precisions(times: Sequence[LayerTime]) -> list[Precision]:
    present = {layer.precision for layer in times}
    known: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "int8")
    return [precision for precision in known if precision == "fp32" or precision in present]


def target_peaks(name: str) -> TargetPeaks:
    """The peaks of a target's recipe.

    Raises:
        RequestError: An unknown target, or one whose recipe holds no peaks.
    """
    peaks = load_target(name, fingerprint()).peaks
    if peaks is None:
        raise RequestError("the target's recipe holds no peaks", value=name, allowed="a recipe with [peaks]")
    return peaks


def predict_targets(bundle: Bundle, names: Sequence[str]) -> list[Prediction]:
    """The limit of a bundle's network on boards that are not here, from the peaks of their recipes.

    Raises:
        RequestError: An unknown target, or one whose recipe holds no peaks.
    """
    model = engine_graph(bundle)
    predictions = []
    for name in names:
        peaks = target_peaks(name)
        roofs = Peaks(macs_per_s=peaks.macs_per_s, bytes_per_s={1 << 62: peaks.bytes_per_s}, origin=peaks.source)
        for precision in peaks.macs_per_s:
            roof = predict(model, precision, roofs)
            memory = sum(row.limit_ms for row in roof.rows if row.bound == "memory")
            predictions.append(
                Prediction(
                    target=name,
                    precision=precision,
                    limit_ms=roof.limit_ms,
                    memory_bound_share=memory / roof.limit_ms,
                    source=peaks.source,
                )
            )
    return predictions
