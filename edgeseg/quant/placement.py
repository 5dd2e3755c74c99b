"""Where integers are used, target by target: one table, each rule with its reason.

A placement says which roles of layers compute in integers, what their activations and weights look like, and how
residual additions and concatenations are treated. `plan` turns it, a graph and a range file into the exact list of
Q/DQ pairs that `edgeseg.graph.qdq` inserts. Whatever a placement does not name stays in float: LayerNorm, GELU,
Resize, ArgMax and all of the geometry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

import msgspec
import numpy as np

from edgeseg.core.config import unknown_name
from edgeseg.graph.forms import canonical_name
from edgeseg.graph.geometry import PIXELS
from edgeseg.graph.ir import Graph
from edgeseg.graph.qdq import ActivationQ, QdqPlan, WeightQ
from edgeseg.quant.layers import (
    Layer,
    Role,
    layer_norm_inputs,
    moved_from,
    residuals,
    weighted_layers,
)
from edgeseg.quant.ranges import LearntScale, Ranges, TensorRange
from edgeseg.quant.thresholds import Method, asymmetric_range, symmetric_range


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where a target uses integers.

    Attributes:
        name: Name in reports and manifests.
        activations: `uint8` asymmetric or `int8` with zero point 0.
        roles: Roles of layers that compute in integers.
        residual: Which inputs of a residual addition pass through integers.
        norm_input: Whether what a LayerNormalization reads from an integer layer passes through integers.
        weight_limit: Largest weight integer, 127; 63 where 8-bit products saturate (x86 without VNNI).
        scale_floor: No scale is smaller: what float16 represents with full precision for graphs whose scales are
            float16.
    """

    name: str
    activations: Literal["uint8", "int8"]
    roles: tuple[Role, ...]
    residual: Literal["none", "identity", "both"]
    norm_input: bool = False
    weight_limit: int = 127
    scale_floor: float = 2.0**-60


CPU = Placement(
    name="cpu",
    # VNNI multiplies uint8 by int8; ReLU's output then uses all 256 levels (oneDNN "int8 inference" guide)
    activations="uint8",
    # what OpenVINO computes in integers, the depthwise convolutions included (brgconv_avx512_dw_I8). Measured, all
    # against BF16 in one interleaved run: without depthwise 0.91 instead of 0.88; transposed convolutions run in BF16
    # with or without Q/DQ, so they stay exact; a quantised stem saves nothing, because the frame is converted twice;
    # the head is 1 % of the time and gives the logits that ArgMax compares, where a rounded tie is a wrong pixel
    roles=("depthwise", "pointwise", "downsample", "conv"),
    # both inputs: branch, sum and requantisation become one integer convolution (0.83 against 0.86 with the identity
    # alone and 0.91 with neither)
    residual="both",
)

CPU_WITHOUT_VNNI = msgspec.structs.replace(
    CPU,
    name="cpu-avx2",
    # vpmaddubsw adds two 16-bit products with saturation: 255 * 127 * 2 overflows, 255 * 63 * 2 does not
    weight_limit=63,
)

NVIDIA = Placement(
    name="nvidia",
    # TensorRT: symmetric only, zero point 0 (tensorrt-facts 3.1)
    activations="int8",
    # depthwise 7x7 is expanded to four times its channels in INT8 (3.2); transposed convolution runs in FP16 with
    # extra reformats (3.2); stem (3 channels) and head (accuracy) stay high (3.1)
    roles=("pointwise", "downsample", "conv"),
    # the identity only: the branch's convolution then takes the sum as its epilogue (3.1, NVIDIA's rules 1-7)
    residual="identity",
)

NVIDIA_FULL = msgspec.structs.replace(
    NVIDIA,
    name="nvidia-full",
    # all that could be integers, for a search by measurement on the device: transposed convolutions as 1x1 convolution
    # and DepthToSpace go INT8 (3.2), and Q/DQ between convolution and LayerNormalization lets the builder choose
    # int8-to-int8 kernels (Model-Optimizer PR 1117)
    roles=("depthwise", "pointwise", "downsample", "conv", "upsample"),
    norm_input=True,
)

NVIDIA_TYPED = msgspec.structs.replace(
    NVIDIA,
    name="nvidia-typed",
    # scales are float16 there: below 2**-14 they are subnormal and lose their digits
    scale_floor=2.0**-14,
)

PLACEMENTS: tuple[Placement, ...] = (CPU, CPU_WITHOUT_VNNI, NVIDIA, NVIDIA_FULL, NVIDIA_TYPED)


def get_placement(name: str) -> Placement:
    """A placement of the table by name.

    Raises:
        RequestError: No such placement; names those that exist.
    """
    for placement in PLACEMENTS:
        if placement.name == name:
            return placement
    raise unknown_name("placement", name, [placement.name for placement in PLACEMENTS])


def quantised_layers(graph: Graph, placement: Placement, keep_float: Collection[str] = ()) -> list[Layer]:
    """Layers of a graph that compute in integers, without those that are kept in float by their canonical name."""
    return [
        layer
        for layer in weighted_layers(graph)
        if layer.role in placement.roles and not {layer.name, canonical_name(layer.name)} & set(keep_float)
    ]


def quantised_tensors(graph: Graph, placement: Placement, keep_float: Collection[str] = ()) -> dict[str, list[str]]:
    """Tensors that pass through integers, and the nodes that read the integers."""
    found: dict[str, list[str]] = {}
    for layer in quantised_layers(graph, placement, keep_float):
        found.setdefault(layer.source, []).append(layer.name)
    if placement.residual != "none":
        for residual in residuals(graph):
            # an identity that no integer layer reads would be rounded for nothing
            if residual.identity in found:
                found[residual.identity].append(residual.name)
                if placement.residual == "both":
                    found.setdefault(residual.branch, []).append(residual.name)
    if placement.norm_input:
        integer = {layer.name for layer in quantised_layers(graph, placement, keep_float)}
        for tensor, readers in layer_norm_inputs(graph).items():
            if tensor in integer:
                found.setdefault(tensor, []).extend(readers)
    return found


def calibration_tensors(graph: Graph, placements: Iterable[Placement] = PLACEMENTS) -> dict[str, list[str]]:
    """Every tensor that some placement quantises: what a calibration has to measure, and under which names.

    A tensor that is only moved (transposed, reshaped) is measured once, where it comes from, and known by both names,
    because an exact form may give it under either.
    """
    found: dict[str, list[str]] = {}
    for placement in placements:
        for name in quantised_tensors(graph, placement):
            root = moved_from(graph, name)
            found[root] = list(dict.fromkeys([*found.get(root, [root]), name]))
    return found


def plan(
    graph: Graph,
    ranges: Ranges,
    placement: Placement,
    *,
    method: Method | None = None,
    keep_float: Collection[str] = (),
) -> QdqPlan:
    """The Q/DQ pairs of a graph.

    Args:
        graph: Canonical, or a form of it with the same tensor names.
        ranges: Measured on the same weights.
        placement: Where integers are used.
        method: How thresholds are chosen; by default as the range file says.
        keep_float: Layers that stay in float although the placement names their role, beyond those of the range file.

    Raises:
        VerifyError: The range file lacks a tensor.
    """
    keep_float = {*keep_float, *ranges.in_float.get(placement.activations, ())}
    tensors = quantised_tensors(graph, placement, keep_float)
    origins = {name: name if name in ranges.tensors else moved_from(graph, name) for name in tensors}
    ranges.require(name for name in origins.values() if name != PIXELS)
    activations = tuple(
        _activation(name, tuple(readers), ranges.tensors.get(origins[name]), placement, method or ranges.method)
        for name, readers in tensors.items()
    )
    nodes = {node.name: node for node in graph.nodes}
    weights = []
    for layer in quantised_layers(graph, placement, keep_float):
        values = graph.weight(nodes[layer.name])
        assert values is not None
        weights.append(_weight(layer, np.asarray(values, np.float32), placement))
    return QdqPlan(activations=activations, weights=tuple(weights))


def learnt_ranges(ranges: Ranges, graph: Graph, scales: Mapping[str, LearntScale]) -> Ranges:
    """Ranges whose scales are those that a training learnt, under every name that an exact form may use.

    Args:
        ranges: What the training started from.
        graph: Canonical.
        scales: By tensor.
    """
    roots = {moved_from(graph, name): scale for name, scale in scales.items()}
    tensors = {
        name: msgspec.structs.replace(item, learnt=roots.get(moved_from(graph, name), item.learnt))
        for name, item in ranges.tensors.items()
    }
    return msgspec.structs.replace(ranges, tensors=tensors)


def _activation(
    tensor: str, readers: tuple[str, ...], measured: TensorRange | None, placement: Placement, method: Method
) -> ActivationQ:
    if measured is None:
        # pixels: camera bytes are integers already, so a pair of scale 1 loses nothing where no resize precedes it
        scale = 1.0 if placement.activations == "uint8" else 255 / 127
        return ActivationQ(tensor=tensor, scale=scale, zero_point=0, dtype=placement.activations, consumers=readers)
    learnt = measured.learnt
    if learnt is not None and learnt.dtype == placement.activations:
        scale = max(learnt.scale, placement.scale_floor)
        return ActivationQ(
            tensor=tensor, scale=scale, zero_point=learnt.zero_point, dtype=learnt.dtype, consumers=readers
        )
    values = measured.distribution()
    if placement.activations == "int8":
        scale = max(symmetric_range(values, method) / 127, placement.scale_floor)
        return ActivationQ(tensor=tensor, scale=scale, zero_point=0, dtype="int8", consumers=readers)
    low, high = asymmetric_range(values, method)
    scale = max((high - low) / 255, placement.scale_floor)
    zero_point = int(np.clip(round(-low / scale), 0, 255))
    return ActivationQ(tensor=tensor, scale=scale, zero_point=zero_point, dtype="uint8", consumers=readers)


def _weight(layer: Layer, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], placement: Placement) -> WeightQ:
    others = tuple(axis for axis in range(values.ndim) if axis != layer.axis)
    largest = np.abs(values).max(axis=others)
    # a channel of zeros may have any scale: 1 is no subnormal in any format
    scales = np.where(largest > 0, np.maximum(largest / placement.weight_limit, placement.scale_floor), 1.0)
    return WeightQ(
        node=layer.name,
        scales=tuple(float(np.float32(scale)) for scale in scales),
        axis=layer.axis,
        low=-placement.weight_limit - 1,
        high=placement.weight_limit,
    )
