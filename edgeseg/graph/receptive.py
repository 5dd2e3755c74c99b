"""How far a network sees: the receptive field of its logits, from the graph alone.

A layer of kernel k, stride s and padding p needs, for its outputs a to b, the inputs a s - p to b s - p + k - 1
(Araujo et al. 2019, doi:10.23915/distill.00021). Followed back from one logit to the pixels; where paths meet, the hull
of what they need counts.
"""

from __future__ import annotations

import math

from edgeseg.core.types import Size
from edgeseg.graph.geometry import PIXELS, SCORES
from edgeseg.graph.ir import Graph, Node

_Span = tuple[int, int]
"""First and last position along one axis; negative ones lie in the padding."""


def receptive_field(graph: Graph, stride: int) -> Size:
    """Pixels (height, width) that can change one pixel's logits: the largest over the pixels of a cell.

    What training makes of it is smaller: the effective field (Luo et al. 2016, arXiv:1701.04128) needs the weights.

    Args:
        graph: From `pixels` to `scores`, sorted; (0, 0) for a graph in another form.
        stride: Of the network: the field repeats with it.
    """
    known = {*graph.producers(), *(value.name for value in graph.inputs)}
    if not {PIXELS, SCORES} <= known:
        return 0, 0
    return _extent(graph, 2, stride), _extent(graph, 3, stride)


def _extent(graph: Graph, axis: int, stride: int) -> int:
    spans = (_needed(graph, axis, (at, at)) for at in range(stride))
    return max(last - first + 1 for first, last in spans)


def _needed(graph: Graph, axis: int, span: _Span) -> _Span:
    """Pixels that the logits at `span` depend on."""
    needed = {SCORES: span}
    for node in reversed(graph.nodes):
        spans = [needed[name] for name in node.outputs if name in needed]
        if not spans or node.name == PIXELS:
            continue
        back = _back(graph, node, axis, _hull(spans))
        for name in node.inputs:
            if name and name not in graph.constants:
                needed[name] = _hull([back, needed[name]]) if name in needed else back
    return needed[PIXELS]


def _hull(spans: list[_Span]) -> _Span:
    return min(first for first, _ in spans), max(last for _, last in spans)


def _back(graph: Graph, node: Node, axis: int, span: _Span) -> _Span:
    """Inputs of a node that its outputs at `span` depend on."""
    first, last = span
    side = axis - 2
    if node.op in ("Conv", "MaxPool", "AveragePool"):
        kernel, stride, pad = _window(node, side)
        return first * stride - pad, last * stride - pad + kernel - 1
    if node.op == "ConvTranspose":
        kernel, stride, pad = _window(node, side)
        return -((kernel - 1 - first - pad) // stride), (last + pad) // stride
    if node.op == "DepthToSpace":
        block = int(node.attrs["blocksize"])
        return first // block, last // block
    if node.op == "Resize":
        factor = float(graph.constants[node.inputs[2]][axis])
        if node.attrs.get("mode") == "nearest":
            return math.floor(first / factor), math.floor(last / factor)
        return math.floor((first + 0.5) / factor - 0.5), math.ceil((last + 0.5) / factor - 0.5)
    if node.op == "Pad":
        pads = graph.constants.get(node.inputs[1])
        shift = 0 if pads is None else int(pads[axis])
        return first - shift, last - shift
    if node.op == "Slice":
        start, step = _slice(graph, node, axis)
        return first * step + start, last * step + start
    return span


def _window(node: Node, side: int) -> tuple[int, int, int]:
    """Kernel, stride and padding before the first position."""
    strides, pads = node.attrs.get("strides") or [1, 1], node.attrs.get("pads") or [0] * 4
    return int(node.attrs["kernel_shape"][side]), int(strides[side]), int(pads[side])


def _slice(graph: Graph, node: Node, axis: int) -> tuple[int, int]:
    """Start and step of a strided slice; one of step 1 cuts edges off, which shifts nothing inside."""
    if len(node.inputs) < 5:
        return 0, 1
    starts, axes, steps = (graph.constants[node.inputs[index]].tolist() for index in (1, 3, 4))
    at = axes.index(axis) if axis in axes else -1
    return (int(starts[at]), int(steps[at])) if at >= 0 else (0, 1)
