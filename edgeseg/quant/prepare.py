"""What a calibration decides before and after it measures: how far channels are equalised, which layers stay in float.

Both are decided by what integers do to the logits on a few frames, without labels, for the CPU's and NVIDIA's
arithmetic alike; so they need no hand for new weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx

from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import F32, U8, Size
from edgeseg.graph import fix_frame_size, read_meta
from edgeseg.graph.ir import from_model
from edgeseg.quant.equalise import channel_groups, factors_for, with_factors
from edgeseg.quant.meter import Meter, TensorSession, channel_axis
from edgeseg.quant.placement import CPU, NVIDIA, Placement, calibration_tensors
from edgeseg.quant.quantization import quantize
from edgeseg.quant.ranges import FrameReport, Ranges
from edgeseg.quant.sensitivity import divergence, layer_sensitivity, scores_of
from edgeseg.quant.thresholds import Method

STRENGTHS = (0.5, 0.75, 1.0)
"""Strengths of equalisation that are tried beside none."""
MAX_CHANGED = 0.005
"""Share of pixels whose class integers may change on calibration frames: more, and layers are left in float."""

_ARITHMETIC: Mapping[str, Placement] = MappingProxyType({"uint8": CPU, "int8": NVIDIA})
_WORTH = 0.9  # of the divergence without: less is within the noise of a few frames
_SENSITIVITY_FRAMES = 2


def search_factors(
    model: onnx.ModelProto,
    frames: Sequence[U8],
    sizes: tuple[Size, Size],
    method: Method,
    *,
    progress: Progress | None = None,
) -> dict[str, F32]:
    """Factors of the strength that keeps the logits best in integers; empty where none is clearly better.

    Args:
        model: Canonical.
        frames: uint8 [H, W, 3] BGR, of one size.
        sizes: (H, W) of the frames, and of what the layers see.
        method: How thresholds are derived.
        progress: Where it is shown.
    """
    progress = progress or Silent()
    extents = _extents(model, frames, sizes)
    reference = scores_of(fix_frame_size(model, *sizes), frames)
    best: dict[str, F32] = {}
    with progress.task("equalise channels", 1 + len(STRENGTHS)) as task:
        least = _WORTH * _lost(model, frames, sizes, method, reference)
        task.advance()
        for strength in STRENGTHS:
            factors = {name: factors_for(extent, strength) for name, extent in extents.items()}
            lost = _lost(with_factors(model, factors), frames, sizes, method, reference)
            task.advance(note=f"{strength:g}")
            if lost < least:
                best, least = factors, lost
    return best


def layers_in_float(
    static: onnx.ModelProto, ranges: Ranges, frames: Sequence[U8], *, progress: Progress | None = None
) -> dict[str, tuple[str, ...]]:
    """The fewest layers, worst first, that leave the integers so that at most `MAX_CHANGED` of the pixels change.

    Args:
        static: The measured model at the frames' size.
        ranges: Of its weights.
        frames: uint8 [H, W, 3] BGR.
        progress: Where it is shown.

    Returns:
        By activation type; a type is missing where no layer has to leave.
    """
    reference = scores_of(static, frames)

    def changed(placement: Placement, kept: Sequence[str]) -> float:
        scores = scores_of(quantize(static, ranges, placement, keep_float=kept), frames)
        return float(np.mean(reference.argmax(axis=1) != scores.argmax(axis=1)))

    found = {}
    for kind, placement in _ARITHMETIC.items():
        if changed(placement, ()) <= MAX_CHANGED:
            continue
        few = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, _SENSITIVITY_FRAMES).round().astype(int))]
        order = [item.layer for item in layer_sensitivity(static, ranges, placement, few, progress=progress)]
        fails, passes = 0, len(order)
        while passes - fails > 1:
            middle = (fails + passes) // 2 if passes < len(order) else min(2 * fails + 1, passes - 1)
            if changed(placement, order[:middle]) <= MAX_CHANGED:
                passes = middle
            else:
                fails = middle
        found[kind] = tuple(order[:passes])
    return found


def _extents(model: onnx.ModelProto, frames: Sequence[U8], sizes: tuple[Size, Size]) -> dict[str, F32]:
    """Largest magnitude of each channel of each group, over those of its tensors that some placement quantises."""
    graph = from_model(model)
    measured = set(calibration_tensors(graph))
    groups = {group.tensors[0]: [name for name in group.tensors if name in measured] for group in channel_groups(graph)}
    groups = {name: tensors for name, tensors in groups.items() if tensors}
    axes = {name: channel_axis(graph, name) for tensors in groups.values() for name in tensors}
    largest: dict[str, F32] = {}
    session = TensorSession(fix_frame_size(model, *sizes), list(axes))
    for frame in frames:
        for name, values in session(frame).items():
            others = tuple(axis for axis in range(values.ndim) if axis != axes[name] % values.ndim)
            extent = np.abs(values).max(axis=others)
            largest[name] = np.maximum(largest.get(name, extent), extent)
    return {name: np.max([largest[tensor] for tensor in tensors], axis=0) for name, tensors in groups.items()}


def _lost(
    model: onnx.ModelProto, frames: Sequence[U8], sizes: tuple[Size, Size], method: Method, reference: F32
) -> float:
    """Geometric mean, over the arithmetics, of the divergence of the logits in integers."""
    meter = Meter(model, sizes[1])
    for frame in frames:
        meter.add(frame)
    meta = read_meta(model)
    ranges = Ranges(
        model=meta.name,
        weights_sha256=meta.weights_sha256,
        layers_size=sizes[1],
        method=method,
        frames=FrameReport(source="", sha256="", count=len(frames), offered=len(frames)),
        tensors=meter.tensors(),
    )
    static = fix_frame_size(model, *sizes)
    lost = [divergence(reference, scores_of(quantize(static, ranges, item), frames)) for item in _ARITHMETIC.values()]
    return float(np.exp(np.mean(np.log(np.maximum(lost, 1e-12)))))
