"""Channel equalisation: channels that share a scale are brought to like ranges, so that none needs most of the levels.

An activation has one scale for all its channels. Dividing channel c of a tensor by f_c where it is made and multiplying
by f_c where it is read leaves the network's function as it is, as long as all that lies between commutes with a
positive factor (Nagel et al. 2019, arXiv:1906.04721, section 4.1). So it is exact from a depthwise convolution to the
pointwise one, through ReLU, from LayerNormalization's own weight and bias to what follows (SmoothQuant, Xiao et al.
2022, arXiv:2211.10438), and for a whole residual stream: the layers that add to it are the makers, all that read it the
readers. Across LayerNormalization or GELU it is not, and is refused.

Depthwise readers and all makers take the factor into a weight scale of their own channel and lose nothing; a
convolution that mixes channels gets less even weights. The strength between none (0) and equal ranges (1) is therefore
searched by measurement (`edgeseg.quant.prepare`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
import onnx

from edgeseg.core.errors import RequestError
from edgeseg.graph import read_meta, weights_sha256, write_meta
from edgeseg.graph.ir import Array, Graph, Node, from_model
from edgeseg.quant.ranges import Ranges

EQUALISED_NOTE = "equalised"
"""Key in a model's notes: its channels were divided by the factors of the range file with this id."""

_LIMIT = 64.0  # no channel is scaled by more: a channel that is almost dead stays so
_CARRIERS = frozenset(("Relu", "MaxPool", "AveragePool", "Transpose", "Identity", "Resize", "Pad"))
_MAKERS = {"Conv": 0, "ConvTranspose": 1, "LayerNormalization": 0}  # axis of the weight that counts output channels


@dataclass(slots=True)
class ChannelGroup:
    """Tensors whose channels can only be scaled together.

    Attributes:
        tensors: Their names, in the graph's order; the first names the group.
        makers: Layers with weights that write them.
        readers: Layers with weights that read them.
    """

    tensors: list[str] = field(default_factory=list)
    makers: list[Node] = field(default_factory=list)
    readers: list[Node] = field(default_factory=list)


def channel_groups(graph: Graph) -> list[ChannelGroup]:
    """Every group of tensors whose channels can be scaled without a change of the network's function."""
    union = _Union()
    makers: list[tuple[str, Node]] = []
    readers: list[tuple[str, Node]] = []
    shared = _shared_constants(graph)
    for node in graph.nodes:
        data = [name for name in node.inputs if name and name not in graph.constants]
        weighted = node.op in _MAKERS and len(data) == 1 and not shared.intersection(node.inputs)
        if weighted and (node.op != "ConvTranspose" or node.attrs.get("group", 1) == 1):
            makers.append((node.name, node))
            if node.op == "LayerNormalization":
                union.freeze(data[0])
            else:
                readers.append((data[0], node))
        elif _carries(node, data):
            union.join(node.name, *data)
        else:
            union.freeze(*data, *node.outputs)
    union.freeze(*graph.output_names(), *(value.name for value in graph.inputs))
    found: dict[str, ChannelGroup] = {}
    for node in graph.nodes:
        if not union.frozen(node.name):
            found.setdefault(union.root(node.name), ChannelGroup()).tensors.append(node.name)
    for name, node in makers:
        if union.root(name) in found:
            found[union.root(name)].makers.append(node)
    for name, node in readers:
        if union.root(name) in found:
            found[union.root(name)].readers.append(node)
    return [group for group in found.values() if group.makers and group.readers]


def factors_for(extent: Array, strength: float) -> Array:
    """What the channels of a group are divided by, float32 [C]: (extent / largest extent) ** strength.

    Args:
        extent: Largest magnitude of each channel.
        strength: 0 leaves all as it is, 1 gives every channel the same extent.
    """
    factors = np.ones_like(extent, np.float64)
    alive = extent > 0
    factors[alive] = np.clip((extent[alive] / extent.max()) ** strength, 1 / _LIMIT, 1.0)
    return factors.astype(np.float32)


def rescale(graph: Graph, factors: Mapping[str, Array]) -> None:
    """Divide the channels of groups by factors, in place; a group is named by any of its tensors.

    Raises:
        RequestError: A tensor for which it would not be exact, or factors of another number of channels.
    """
    groups = {name: group for group in channel_groups(graph) for name in group.tensors}
    for name, factor in factors.items():
        if name not in groups:
            raise RequestError(
                "equalisation would change what the network computes",
                value=f"channels of {name}",
                allowed="tensors with nothing but ReLU, pooling and sums between the layers that write and read them",
            )
        scale_group(graph, groups[name], factor)


def scale_group(graph: Graph, group: ChannelGroup, factor: Array) -> None:
    """Divide in the makers and multiply in the readers of a group, in place.

    Raises:
        RequestError: Factors of another number of channels.
    """
    weights = graph.constants
    for node in group.makers:
        for position in (1, 2):
            if position < len(node.inputs) and node.inputs[position]:
                axis = _MAKERS[node.op] if position == 1 else 0
                weights[node.inputs[position]] = _times(weights[node.inputs[position]], 1 / factor, axis, node)
    for node in group.readers:
        depthwise = node.op == "Conv" and node.attrs.get("group", 1) > 1
        axis = 0 if depthwise or node.op == "ConvTranspose" else 1
        weights[node.inputs[1]] = _times(weights[node.inputs[1]], factor, axis, node)


def equalised(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """The model whose ranges were measured: channels divided by the range file's factors; itself where it has none.

    Args:
        model: Canonical, of any frame size; forms come later.
        ranges: Of the canonical model's weights.

    Returns:
        The same function with other weights. The metadata still names the canonical weights, and says so in its notes.

    Raises:
        RequestError: The model has not the groups that the factors are for.
    """
    if not ranges.equalisation or read_meta(model).notes.get(EQUALISED_NOTE) == ranges.id:
        return model
    graph = from_model(model)
    rescale(graph, ranges.factors())
    result = graph.to_model()
    meta = read_meta(model)
    write_meta(result, msgspec.structs.replace(meta, notes={**meta.notes, EQUALISED_NOTE: ranges.id}))
    return result


def with_factors(model: onnx.ModelProto, factors: Mapping[str, Array]) -> onnx.ModelProto:
    """A canonical model of its own with rescaled channels: the same function, other weights and so another hash."""
    graph = from_model(model)
    rescale(graph, factors)
    result = graph.to_model()
    write_meta(result, msgspec.structs.replace(read_meta(result), weights_sha256=weights_sha256(result)))
    return result


class _Union:
    """Tensors that belong together, and whether they may be scaled at all (Tarjan 1975: disjoint sets)."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._marked: set[str] = set()

    def root(self, name: str) -> str:
        self._parents.setdefault(name, name)
        while self._parents[name] != name:
            self._parents[name] = self._parents[self._parents[name]]
            name = self._parents[name]
        return name

    def join(self, first: str, *others: str) -> None:
        for other in others:
            one, two = self.root(first), self.root(other)
            self._parents[one] = two

    def freeze(self, *names: str) -> None:
        self._marked.update(names)

    def frozen(self, name: str) -> bool:
        return self.root(name) in {self.root(marked) for marked in self._marked}


def _carries(node: Node, data: list[str]) -> bool:
    """Whether what a node gives is scaled, channel by channel, as its inputs are."""
    if node.op in _CARRIERS:
        return len(data) == 1 and (node.op != "Pad" or len(node.inputs) < 3 or not node.inputs[2])
    if node.op == "Add":
        return len(data) == len(node.inputs)
    return node.op == "Mul" and len(data) == 1  # by constants: layer scale


def _shared_constants(graph: Graph) -> set[str]:
    seen: set[str] = set()
    shared: set[str] = set()
    for node in graph.nodes:
        for name in set(node.inputs) & graph.constants.keys():
            (shared if name in seen else seen).add(name)
    return shared


def _times(value: Array, factor: Array, axis: int, node: Node) -> Array:
    if value.shape[axis] != len(factor):
        raise RequestError(
            "the factors do not fit the layer", value=f"{len(factor)} for {node.name}", allowed=value.shape[axis]
        )
    shape = [-1 if number == axis else 1 for number in range(value.ndim)]
    result: Array = (value * factor.reshape(shape)).astype(np.float32)
    return result
