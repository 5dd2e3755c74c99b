"""What each layer costs: multiply-adds, and the bytes that it moves if nothing stays in a cache."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import onnx

from edgeseg.core.types import Size
from edgeseg.graph.geometry import fix_frame_size
from edgeseg.graph.ir import BFLOAT16, FLOAT, FLOAT16, INT8, INT64, UINT8, Graph, Node, from_model
from edgeseg.graph.meta import meta_from_props

_BYTES = {FLOAT: 4, FLOAT16: 2, BFLOAT16: 2, UINT8: 1, INT8: 1, INT64: 8, int(onnx.TensorProto.INT32): 4}

Shapes = dict[str, tuple[int, ...]]


class LayerCost(msgspec.Struct, frozen=True, kw_only=True):
    """One layer.

    Attributes:
        name: Layer, as ranges and audits name it.
        op: Operator.
        macs: Multiply-adds of convolutions and matrix products; 0 for the rest.
        parameters: Numbers in its constant inputs.
        bytes_in: Read from activations.
        bytes_weights: Read from constants.
        bytes_out: Written.
        shape: Of its first output.
    """

    name: str
    op: str
    macs: int
    parameters: int
    bytes_in: int
    bytes_weights: int
    bytes_out: int
    shape: tuple[int, ...]

    @property
    def intensity(self) -> float:
        """Multiply-adds a byte: the roofline's abscissa (Williams et al. 2009, doi:10.1145/1498765.1498785)."""
        return self.macs / max(1, self.bytes_in + self.bytes_weights + self.bytes_out)


def cost(model: onnx.ModelProto, frame_size: Size | None = None) -> list[LayerCost]:
    """Cost of each layer, in the order of execution.

    Args:
        model: As `load_model` gave it.
        frame_size: (H, W) to count at. By default the model's own, where it is fixed, else the size that it was
            trained at.
    """
    meta = meta_from_props({prop.key: prop.value for prop in model.metadata_props})
    if frame_size is not None or meta.frame_size is None:
        model = fix_frame_size(model, frame_size or meta.network_size, batch=meta.batch or 1)
    graph = from_model(model)
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    shapes = {v.name: tuple(int(d.dim_value) for d in v.type.tensor_type.shape.dim) for v in values}
    sizes = {v.name: math.prod(shapes[v.name]) * _BYTES.get(int(v.type.tensor_type.elem_type), 4) for v in values}
    shapes.update({name: value.shape for name, value in graph.constants.items()})
    return [_layer(graph, node, shapes, sizes) for node in graph.nodes]


def parameters(model: onnx.ModelProto) -> int:
    """Numbers in the network's float and integer weights: scales, zero points, shapes and geometry do not count."""
    graph = from_model(model)
    found: dict[str, int] = {}
    for node in graph.nodes:
        if node.op in _WEIGHTED:
            for index in range(1, len(node.inputs)):
                weight = graph.weight(node, index)
                if weight is not None:
                    found[node.inputs[index]] = weight.size
    return sum(found.values())


_WEIGHTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "LayerNormalization", "Mul", "Add"})


def _layer(graph: Graph, node: Node, shapes: Shapes, sizes: dict[str, int]) -> LayerCost:
    constants = [graph.constants[name] for name in node.inputs if name in graph.constants]
    out = shapes.get(node.name, ())
    count = _MACS.get(node.op)
    return LayerCost(
        name=node.name,
        op=node.op,
        macs=count(node, shapes) if count and out else 0,
        parameters=sum(value.size for value in constants),
        bytes_in=sum(sizes.get(name, 0) for name in node.inputs),
        bytes_weights=sum(value.nbytes for value in constants),
        bytes_out=sum(sizes.get(name, 0) for name in node.outputs),
        shape=out,
    )


def _conv_macs(node: Node, shapes: Shapes) -> int:
    weight = shapes[node.inputs[1]]
    return math.prod(shapes[node.name]) * math.prod(weight[1:])


def _transposed_macs(node: Node, shapes: Shapes) -> int:
    weight = shapes[node.inputs[1]]
    return math.prod(shapes[node.inputs[0]]) * math.prod(weight[1:])


def _matmul_macs(node: Node, shapes: Shapes) -> int:
    return math.prod(shapes[node.name]) * shapes[node.inputs[0]][-1]


_MACS: dict[str, Callable[[Node, Shapes], int]] = {
    "Conv": _conv_macs,
    "ConvTranspose": _transposed_macs,
    "MatMul": _matmul_macs,
}
