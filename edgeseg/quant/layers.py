"""What each layer of a canonical graph is to a quantiser: found from operators and connections, never from names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeseg.graph.geometry import PIXELS, SCORES
from edgeseg.graph.ir import Graph, Node
from edgeseg.graph.meta import GEOMETRY_TENSORS
from edgeseg.graph.phases import EDGE, is_phase

Role = Literal["stem", "depthwise", "pointwise", "downsample", "conv", "upsample", "head"]
ROLES: tuple[Role, ...] = ("stem", "depthwise", "pointwise", "downsample", "conv", "upsample", "head")

_WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}
# what moves values without changing them: a range that was measured before holds behind
_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "DepthToSpace", "Identity")
# what values pass through on their way without a weighted layer changing them
_CARRIERS = ("Resize", "DepthToSpace", "Slice", "Transpose", "Add", "Concat", "Relu", "Pad")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with weights.

    Attributes:
        name: Of the node, and of the tensor that it gives.
        op: Operator.
        role: What it is in the network.
        source: Tensor that it reads.
        axis: Axis of the weight that counts output channels.
        channels: Output channels.
    """

    name: str
    op: str
    role: Role
    source: str
    axis: int
    channels: int


@dataclass(frozen=True, slots=True)
class Residual:
    """An addition of two computed tensors: `identity` came past the branch, `branch` through it."""

    name: str
    identity: str
    branch: str


def weighted_layers(graph: Graph) -> list[Layer]:
    """Every layer with constant weights, in the graph's order, without those that only enlarge the scores."""
    last = _reaches_scores(graph)
    cells = {node.inputs[0] for node in graph.nodes if node.op == "DepthToSpace"}
    found = []
    for node in graph.nodes:
        weight = graph.weight(node) if node.op in _WEIGHT_AXIS else None
        if weight is None or is_phase(node):
            continue
        axis = _WEIGHT_AXIS[node.op]
        groups = int(node.attrs.get("group", 1))
        channels = weight.shape[axis] * (groups if node.op == "ConvTranspose" else 1)
        found.append(Layer(node.name, node.op, _role(node, weight.shape, last, cells), node.inputs[0], axis, channels))
    return found


def residuals(graph: Graph) -> list[Residual]:
    """Every addition of two computed tensors; the branch is the side whose last layers ran later."""
    order = {output: number for number, node in enumerate(graph.nodes) for output in node.outputs}
    found = []
    for node in graph.nodes:
        if node.op != "Add" or any(name not in order for name in node.inputs):
            continue
        identity, branch = sorted(node.inputs, key=lambda name: order[name])
        found.append(Residual(node.name, identity, branch))
    return found


def layer_norm_inputs(graph: Graph) -> dict[str, list[str]]:
    """Tensors that a weighted layer gives and a LayerNormalization reads, with the node that reads them."""
    producers = graph.producers()
    found: dict[str, list[str]] = {}
    for node in graph.nodes:
        if node.op != "LayerNormalization":
            continue
        reader = node
        source = producers.get(node.inputs[0])
        while source is not None and source.op in _MOVES:
            reader, source = source, producers.get(source.inputs[0])
        if source is not None and source.op in _WEIGHT_AXIS:
            found.setdefault(source.name, []).append(reader.name)
    return found


def moved_from(graph: Graph, tensor: str) -> str:
    """The tensor whose values `tensor` holds in another order: what is measured, whatever form the graph has."""
    producers = graph.producers()
    node = producers.get(tensor)
    while node is not None and node.op in _MOVES:
        tensor = node.inputs[0]
        node = producers.get(tensor)
    return tensor


def _role(node: Node, shape: tuple[int, ...], last: set[str], cells: set[str]) -> Role:
    if node.name in last:
        return "head"
    # a camera format has a stem of two convolutions, or a conversion of colours before it
    if node.inputs[0] in GEOMETRY_TENSORS or PIXELS in node.outputs:
        return "stem"
    if node.op == "ConvTranspose" or node.name in cells:
        return "upsample"
    groups = int(node.attrs.get("group", 1))
    if groups > 1 and groups == shape[0]:
        return "depthwise"
    if node.op == "MatMul" or all(side == 1 for side in shape[2:]):
        return "pointwise"
    return "downsample" if max(node.attrs.get("strides", [1])) > 1 else "conv"


def _reaches_scores(graph: Graph) -> set[str]:
    """Layers whose values reach the scores without another weighted layer in between."""
    producers = graph.producers()
    found: set[str] = set()
    pending = [SCORES, EDGE]
    while pending:
        node = producers.get(pending.pop())
        if node is None:
            continue
        if node.op in _WEIGHT_AXIS and graph.weight(node) is not None:
            found.add(node.name)
        elif node.op in _CARRIERS:
            pending.extend(name for name in node.inputs if name in producers)
    return found
