"""Cross-layer equalisation: channels of two layers are scaled against each other so that none needs most of the levels.

With W1 divided and W2 multiplied by s, channel by channel, the network computes the same where what lies between
commutes with a positive factor: nothing, or ReLU (Nagel et al. 2019, arXiv:1906.04721, section 4.1). So it is exact
from a depthwise convolution to the pointwise one behind it, through the ReLU between two pointwise ones, and from
LayerNormalization's own weight and bias to the convolution behind it. Across LayerNormalization or GELU it is not, and
is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import onnx

from edgeseg.core.errors import RequestError
from edgeseg.graph import read_meta, weights_sha256, write_meta
from edgeseg.graph.ir import Array, Graph, Node, from_model

_LIMIT = 64.0  # no channel is scaled by more: a channel that is almost dead stays so


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers whose shared channels may be scaled; the first may be a LayerNormalization."""

    first: str
    second: str


def exact_pairs(graph: Graph) -> list[Pair]:
    """Every pair of neighbours for which equalisation is exact."""
    producers = graph.producers()
    found = []
    for node in graph.nodes:
        first = _behind(graph, producers, node) if _is_mixing(graph, node) else None
        if first is not None:
            found.append(Pair(first.name, node.name))
    return found


def equalise(model: onnx.ModelProto, pairs: list[Pair] | None = None) -> onnx.ModelProto:
    """A canonical model with equalised weights: the same function, other ranges, and so another weights' hash.

    Args:
        model: Canonical.
        pairs: Which layers; by default every exact pair.

    Raises:
        RequestError: A pair for which it would not be exact.
    """
    graph = from_model(model)
    allowed = exact_pairs(graph)
    nodes = {node.name: node for node in graph.nodes}
    for pair in allowed if pairs is None else pairs:
        if pair not in allowed:
            raise RequestError(
                "equalisation would change what the network computes",
                value=f"{pair.first} to {pair.second}",
                allowed="neighbours with nothing or ReLU between, and LayerNormalization's weight to what follows",
            )
        _scale(graph, nodes[pair.first], nodes[pair.second])
    result = graph.to_model()
    write_meta(result, msgspec.structs.replace(read_meta(result), weights_sha256=weights_sha256(result)))
    return result


def _behind(graph: Graph, producers: dict[str, Node], node: Node) -> Node | None:
    """The layer whose channels a convolution reads, where only a positive factor's friends lie between."""
    readers = graph.consumers()
    name = node.inputs[0]
    while True:
        source = producers.get(name)
        if source is None or len(readers[name]) != 1 or name in graph.output_names():
            return None
        if source.op == "LayerNormalization" or (source.op == "Conv" and len(source.inputs) == 3):
            return source
        if source.op not in ("Relu", "Transpose"):
            return None
        name = source.inputs[0]


def _is_mixing(graph: Graph, node: Node) -> bool:
    return node.op == "Conv" and node.attrs.get("group", 1) == 1 and graph.weight(node) is not None


def _scale(graph: Graph, first: Node, second: Node) -> None:
    weights = graph.constants
    one, bias, two = weights[first.inputs[1]], weights[first.inputs[2]], weights[second.inputs[1]]
    out = np.abs(one).reshape(len(one), -1).max(axis=1).astype(np.float64)
    into = np.abs(two).max(axis=(0, 2, 3)).astype(np.float64)
    alive = (out > 0) & (into > 0)
    factor = np.ones_like(out)
    factor[alive] = np.clip(np.sqrt(out[alive] / into[alive]), 1 / _LIMIT, _LIMIT)
    weights[first.inputs[1]] = _times(one, 1 / factor, axis=0)
    weights[first.inputs[2]] = _times(bias, 1 / factor, axis=0)
    weights[second.inputs[1]] = _times(two, factor, axis=1)


def _times(value: Array, factor: Array, *, axis: int) -> Array:
    shape = [-1 if number == axis else 1 for number in range(value.ndim)]
    result: Array = (value * factor.reshape(shape)).astype(np.float32)
    return result
