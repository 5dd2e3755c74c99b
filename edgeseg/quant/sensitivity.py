"""What each quantised layer costs in accuracy: one layer in integers at a time, everything else in float.

Every figure compares logits on the same frames with the float graph's: signal-to-noise ratio, Kullback-Leibler
divergence of the class probabilities, and the share of pixels whose class changes. Losses of single layers add up
well enough to order layers (Wu et al. 2020, arXiv:2004.09602, section 5), which is all that the search uses them for.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edgeseg.core.metrics import Confusion
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import F32, U8, Classes
from edgeseg.graph import read_meta
from edgeseg.graph.forms import canonical_name
from edgeseg.graph.geometry import FRAME, SCORES
from edgeseg.graph.ir import FLOAT, Graph, from_model
from edgeseg.quant.layers import moved_from
from edgeseg.quant.placement import Placement, plan, quantised_layers
from edgeseg.quant.quantization import quantize
from edgeseg.quant.ranges import Ranges

_ERRORS_ONLY = 3


class LayerSensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """The effect of one layer in integers.

    Attributes:
        layer: Canonical name.
        role: What it is in the network.
        sqnr_db: Power of the float logits over that of their error, in dB; higher is better.
        kl: Mean Kullback-Leibler divergence of the class probabilities, in nats.
        changed: Share of pixels whose class changes.
        lost_points: Points of mIoU that it costs on the frames; None where they have no labels.
        clipped: Share of its input's values outside the quantised range.
        dead_channels: Output channels whose weights are all zero.
    """

    layer: str
    role: str
    sqnr_db: float
    kl: float
    changed: float
    clipped: float
    dead_channels: int
    lost_points: float | None = None


def layer_sensitivity(
    model: onnx.ModelProto,
    ranges: Ranges,
    placement: Placement,
    frames: Sequence[U8],
    *,
    labels: Sequence[U8] = (),
    progress: Progress | None = None,
) -> list[LayerSensitivity]:
    """Measure every layer that a placement quantises; the worst first.

    Args:
        model: Of fixed frame size, without Q/DQ nodes.
        ranges: Of its weights.
        placement: Where integers are used.
        frames: uint8 [H, W, 3] BGR at frame size.
        labels: uint8 [H, W] ids of each frame, where there are labels.
        progress: Where it is shown.
    """
    progress = progress or Silent()
    graph = from_model(model)
    layers = quantised_layers(graph, placement)
    reference = scores_of(model, frames)
    classes = read_meta(model).classes
    before = _miou(reference, labels, classes)
    names = {canonical_name(layer.name) for layer in layers}
    found = []
    with progress.task("sensitivity of layers", len(layers)) as task:
        for layer in layers:
            name = canonical_name(layer.name)
            alone = quantize(model, ranges, placement, keep_float=names - {name})
            scores = scores_of(alone, frames)
            found.append(
                LayerSensitivity(
                    layer=name,
                    role=layer.role,
                    sqnr_db=sqnr_db(reference, scores),
                    kl=divergence(reference, scores),
                    changed=float(np.mean(reference.argmax(axis=1) != scores.argmax(axis=1))),
                    clipped=_clipped(graph, ranges, placement, layer.source, names - {name}),
                    dead_channels=_dead_channels(graph, layer.name, layer.axis),
                    lost_points=None if before is None else 100 * (before - (_miou(scores, labels, classes) or 0.0)),
                )
            )
            task.advance(note=name)
    return sorted(found, key=lambda item: -item.kl)


def _miou(scores: F32, labels: Sequence[U8], classes: Classes) -> float | None:
    """Mean IoU on every second pixel in each direction."""
    if not labels:
        return None
    counts = Confusion(classes)
    for label, mask in zip(labels, scores.argmax(axis=1).astype(np.uint8), strict=True):
        counts.add(label[::2, ::2], mask)
    return counts.miou


def sqnr_db(reference: F32, scores: F32) -> float:
    """Signal-to-quantisation-noise ratio in dB, at most 120."""
    noise = float(np.square(scores - reference, dtype=np.float64).mean())
    signal = float(np.square(reference, dtype=np.float64).mean())
    return min(120.0, 10 * float(np.log10(signal / noise))) if noise > 0 and signal > 0 else 120.0


def divergence(reference: F32, scores: F32) -> float:
    """Mean over pixels of KL(softmax(reference) || softmax(scores)), logits [N, C, H, W]."""
    log_p, log_q = _log_softmax(reference), _log_softmax(scores)
    return max(0.0, float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean()))


def _log_softmax(scores: F32) -> NDArray[np.float32]:
    shifted = scores - scores.max(axis=1, keepdims=True)
    result: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def scores_of(model: onnx.ModelProto, frames: Sequence[U8]) -> F32:
    """Logits of a model of fixed size on frames, every second pixel in each direction, float32 [N, C, H/2, W/2]."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.append(onnx.helper.make_tensor_value_info(SCORES, FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    # every second pixel in each direction: enlarged logits say the same thing four times
    return np.concatenate([session.run([SCORES], {FRAME: frame[None]})[0][..., ::2, ::2] for frame in frames])


def _clipped(graph: Graph, ranges: Ranges, placement: Placement, tensor: str, keep_float: set[str]) -> float:
    measured = ranges.tensors.get(tensor) or ranges.tensors.get(moved_from(graph, tensor))
    if measured is None:
        return 0.0
    item = next(q for q in plan(graph, ranges, placement, keep_float=keep_float).activations if q.tensor == tensor)
    lowest, highest = (0, 255) if item.dtype == "uint8" else (-127, 127)
    low, high = (lowest - item.zero_point) * item.scale, (highest - item.zero_point) * item.scale
    return measured.distribution().clipped_share(low, high)


def _dead_channels(graph: Graph, layer: str, axis: int) -> int:
    node = next(node for node in graph.nodes if node.name == layer)
    weight = graph.weight(node)
    assert weight is not None
    others = tuple(number for number in range(weight.ndim) if number != axis)
    return int(np.count_nonzero(np.abs(weight).max(axis=others) == 0))
