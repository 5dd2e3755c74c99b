"""Bias correction: what rounding the weights adds to a layer's mean output is taken off its bias.

With W' the quantised weights, the mean of output o moves by sum over inputs i and taps k of (W' - W)[o, i, k] E[x_i]
(Nagel et al. 2019, arXiv:1906.04721, section 4.2). E[x_i] is in the range file, so no frame is run again.
"""

from __future__ import annotations

import numpy as np

from edgeseg.graph.ir import Array, Graph, Node
from edgeseg.graph.qdq import QdqPlan, WeightQ, quantise
from edgeseg.quant.layers import moved_from
from edgeseg.quant.ranges import Ranges


def correct_biases(graph: Graph, plan: QdqPlan, ranges: Ranges) -> None:
    """Correct the bias of every convolution whose weights a plan quantises, in place; others stay as they are."""
    nodes = {node.name: node for node in graph.nodes}
    for item in plan.weights:
        node = nodes[item.node]
        measured = ranges.tensors.get(node.inputs[0]) or ranges.tensors.get(moved_from(graph, node.inputs[0]))
        if node.op != "Conv" or measured is None or len(node.inputs) < 3:
            continue
        shift = mean_shift(node, graph.constants[node.inputs[1]], item, measured.channel_means())
        name = f"{node.inputs[2]}.corrected"
        node.inputs[2] = graph.constant(name, (graph.constants[node.inputs[2]] - shift).astype(np.float32))


def mean_shift(node: Node, weight: Array, item: WeightQ, means: Array) -> Array:
    """By how much rounding the weights moves the mean of each output channel, float64 [O]."""
    assert item.axis is not None
    scale = np.asarray(item.scales, np.float64).reshape([-1 if axis == item.axis else 1 for axis in range(weight.ndim)])
    rounded = quantise(weight, item.scales, item.axis, item.low, item.high) * scale
    taps = (rounded - weight).sum(axis=tuple(range(2, weight.ndim)))  # [O, I of the group]
    groups = int(node.attrs.get("group", 1))
    inputs = means.astype(np.float64).reshape(groups, -1)  # [G, I of the group]
    shift: Array = (taps.reshape(groups, -1, taps.shape[1]) * inputs[:, None, :]).sum(axis=2).reshape(-1)
    return shift
