"""The mechanics of explicit quantisation: where QuantizeLinear and DequantizeLinear nodes go, and how they are written.

Which tensors are quantised, with what scales and for which readers is the caller's decision (room `quant`); nothing
here knows about targets. One pair a tensor serves all its readers: a second pair would be a second reformat.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import onnx

from edgeseg.core.errors import RequestError
from edgeseg.graph.ir import Array, Graph, Node, from_model
from edgeseg.graph.meta import meta_from_props, meta_props

_DTYPES: dict[str, Any] = {"uint8": np.uint8, "int8": np.int8, "int32": np.int32}


class ActivationQ(msgspec.Struct, frozen=True, kw_only=True):
    """A Q/DQ pair behind an activation.

    Attributes:
        tensor: Float tensor that is quantised.
        scale: Positive.
        zero_point: The integer that means 0.
        dtype: Integer type.
        consumers: Names of the nodes that read the quantised value; all others keep the float one. Empty means all.
    """

    tensor: str
    scale: float
    zero_point: int
    dtype: Literal["uint8", "int8"]
    consumers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale of {self.tensor} is {self.scale}; allowed: positive and finite")
        limits = np.iinfo(_DTYPES[self.dtype])
        if not limits.min <= self.zero_point <= limits.max:
            raise ValueError(f"zero point of {self.tensor} is {self.zero_point}; allowed: {limits.min} to {limits.max}")


class WeightQ(msgspec.Struct, frozen=True, kw_only=True):
    """A quantised constant input of a node; symmetric (zero point 0).

    Attributes:
        node: Name of the node.
        input: Index of the constant input: 1 weights, 2 bias.
        scales: One scale, or one per channel of `axis`.
        axis: Channel axis (Conv 0, ConvTranspose 1, MatMul 1); None is one scale for all.
        dtype: `int8`; `int32` for a bias (never for TensorRT, which refuses it).
        low: Least integer; -64 to 63 avoids the saturation of CPUs without VNNI.
        high: Largest integer.
        prequantised: True stores integers and one DequantizeLinear; False stores floats, Q and DQ (TensorRT 8).
    """

    node: str
    input: int = 1
    scales: tuple[float, ...]
    axis: int | None = None
    dtype: Literal["int8", "int32"] = "int8"
    low: int = -128
    high: int = 127
    prequantised: bool = True

    def __post_init__(self) -> None:
        if not all(np.isfinite(scale) and scale > 0 for scale in self.scales):
            raise ValueError(f"scales of {self.node} input {self.input} are not all positive and finite")
        if self.axis is None and len(self.scales) != 1:
            raise ValueError(f"{len(self.scales)} scales for {self.node} input {self.input} but no axis")


class QdqPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All that is to be quantised."""

    activations: tuple[ActivationQ, ...] = ()
    weights: tuple[WeightQ, ...] = ()


def insert(model: onnx.ModelProto, plan: QdqPlan) -> onnx.ModelProto:
    """A copy of the model with the plan's Q/DQ nodes.

    The pair behind tensor `t` is named `t/q` and `t/dq`, with `t/scale` and `t/zero_point`; a second pair behind the
    same tensor (for other consumers) gets `t/q.1` and so on. A quantised weight `w` becomes `w/q` and `w/dq`.

    Raises:
        RequestError: The plan names a tensor, node or input that the model does not have, or scales that do not fit.
    """
    graph = from_model(model)
    place(graph, plan)
    return graph.to_model()


def place(graph: Graph, plan: QdqPlan) -> None:
    """As `insert`, in place."""
    _insert_activations(graph, plan.activations)
    nodes = {node.name: node for node in graph.nodes}
    for item in plan.weights:
        _insert_weight(graph, nodes, item)
    meta = msgspec.structs.replace(meta_from_props(graph.props), variant="quantised")
    graph.props.update(meta_props(meta))


def quantise(values: Array, scales: tuple[float, ...], axis: int | None, low: int, high: int) -> Array:
    """Integers, as float64, of `values`: round half to even of values / scale, clipped to [low, high].

    Divides in float32, as QuantizeLinear does.
    """
    scale = np.asarray(scales, np.float32)
    if axis is not None:
        shape = [1] * values.ndim
        shape[axis] = -1
        scale = scale.reshape(shape)
    quotient: Array = np.rint(np.asarray(values, np.float32) / scale)
    return quotient.clip(low, high).astype(np.float64)


def _insert_activations(graph: Graph, items: tuple[ActivationQ, ...]) -> None:
    tensors = {*graph.producers(), *(value.name for value in graph.inputs)}
    readers = graph.consumers()
    pairs: dict[str, int] = {}
    for item in items:
        name = item.tensor
        if name not in tensors:
            raise RequestError("the plan names a tensor that the model does not have", value=name)
        found = {node.name: node for node in readers.get(name, [])}
        missing = [consumer for consumer in item.consumers if consumer not in found]
        if missing:
            raise RequestError(
                "the plan names a node that does not read the tensor",
                value=f"{missing[0]} of {name}",
                allowed=", ".join(found) or "none reads it",
            )
        count = pairs.get(name, 0)
        pairs[name] = count + 1
        end = f".{count}" if count else ""
        scale = graph.constant(f"{name}/scale{end}", np.array(item.scale, np.float32))
        zero = graph.constant(f"{name}/zero_point{end}", np.array(item.zero_point, _DTYPES[item.dtype]))
        quantised = graph.add("QuantizeLinear", [name, scale, zero], f"{name}/q{end}")
        restored = graph.add("DequantizeLinear", [quantised, scale, zero], f"{name}/dq{end}")
        chosen = [found[consumer] for consumer in item.consumers] or list(found.values())
        graph.rename_input(name, restored, only=chosen)


def _insert_weight(graph: Graph, nodes: dict[str, Node], item: WeightQ) -> None:
    node = nodes.get(item.node)
    if node is None or item.input >= len(node.inputs) or node.inputs[item.input] not in graph.constants:
        raise RequestError(
            "the plan names a constant that the model does not have", value=f"{item.node} input {item.input}"
        )
    name = node.inputs[item.input]
    values = graph.constants[name]
    if item.axis is not None and values.shape[item.axis] != len(item.scales):
        raise RequestError(
            "the plan's scales do not fit the weight",
            value=f"{len(item.scales)} scales for {name} {values.shape}",
            allowed=f"{values.shape[item.axis]} on axis {item.axis}",
        )
    dtype = _DTYPES[item.dtype]
    shape: tuple[int, ...] = () if item.axis is None else (len(item.scales),)
    scale = graph.constant(f"{name}/scale", np.array(item.scales, np.float32).reshape(shape))
    zero = graph.constant(f"{name}/zero_point", np.zeros(shape, dtype))
    if item.prequantised:
        integers = quantise(values, item.scales, item.axis, item.low, item.high).astype(dtype)
        source = graph.constant(f"{name}/q", integers)
    else:
        source = graph.add("QuantizeLinear", [_clipped(graph, name, item), scale, zero], f"{name}/q", axis=item.axis)
    node.inputs[item.input] = graph.add("DequantizeLinear", [source, scale, zero], f"{name}/dq", axis=item.axis)


def _clipped(graph: Graph, name: str, item: WeightQ) -> str:
    """The float weight, limited to the plan's integers: QuantizeLinear itself only limits to the whole type."""
    limits = np.iinfo(_DTYPES[item.dtype])
    if (item.low, item.high) == (limits.min, limits.max):
        return name
    scale = np.asarray(item.scales, np.float32)
    if item.axis is not None:
        scale = scale.reshape([-1 if axis == item.axis else 1 for axis in range(graph.constants[name].ndim)])
    limited = np.clip(graph.constants[name], item.low * scale, item.high * scale).astype(np.float32)
    return graph.constant(f"{name}/limited", limited)
