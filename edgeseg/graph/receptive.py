"""How far a network sees: the receptive field of its logits, from the graph alone.

Araujo et al. 2019, "Computing receptive fields of convolutional neural networks", doi:10.23915/distill.00021.
"""

from __future__ import annotations

from fractions import Fraction

from edgeseg.graph.geometry import PIXELS, SCORES
from edgeseg.graph.ir import Array, Graph, Node

_Reach = tuple[Fraction, Fraction]
"""Pixels that one position sees along one axis, and pixels between two positions."""


def receptive_field(graph: Graph) -> tuple[int, int]:
    """Pixels (height, width) that can change one pixel's logits, padding aside: the theoretical field.

    What training makes of it is smaller: the effective field (Luo et al. 2016, arXiv:1701.04128) needs the weights.
    """
    height = _field(graph, 2)
    width = _field(graph, 3)
    return height, width


def _field(graph: Graph, axis: int) -> int:
    reach: dict[str, _Reach] = {PIXELS: (Fraction(1), Fraction(1))}
    for node in graph.nodes:
        known = [reach[name] for name in node.inputs if name in reach]
        if known:
            # where branches meet, the farthest counts; their steps agree
            size, step = max(item[0] for item in known), known[0][1]
            for name in node.outputs:
                reach[name] = _through(graph, node, axis, size, step)
    return int(reach[SCORES][0]) if SCORES in reach else 0


def _through(graph: Graph, node: Node, axis: int, size: Fraction, step: Fraction) -> _Reach:
    if node.op in ("Conv", "MaxPool", "AveragePool"):
        kernel, stride = _window(node, axis)
        return size + (kernel - 1) * step, step * stride
    if node.op == "ConvTranspose":
        kernel, stride = _window(node, axis)
        return size + (-(-kernel // stride) - 1) * step, step / stride
    if node.op == "DepthToSpace":
        return size, step / int(node.attrs["blocksize"])
    if node.op == "Resize":
        factor = _factor(graph, node, axis)
        # linear interpolation reads a second position
        return size + (step if node.attrs.get("mode") == "linear" else 0), step / factor
    if node.op == "Slice":
        return size, step * _slice_step(graph, node, axis)
    return size, step


def _window(node: Node, axis: int) -> tuple[int, int]:
    kernel = node.attrs["kernel_shape"][axis - 2]
    strides = node.attrs.get("strides") or [1, 1]
    return int(kernel), int(strides[axis - 2])


def _factor(graph: Graph, node: Node, axis: int) -> Fraction:
    scales: Array = graph.constants[node.inputs[2]]
    return Fraction(float(scales[axis])).limit_denominator(4096)


def _slice_step(graph: Graph, node: Node, axis: int) -> int:
    if len(node.inputs) < 5:
        return 1
    axes, steps = graph.constants[node.inputs[3]].tolist(), graph.constants[node.inputs[4]].tolist()
    return int(steps[axes.index(axis)]) if axis in axes else 1
