"""Variants of a model for one kind of runtime, by one typed writer: element type, opset, scales, exact forms.

| variant    | tensors and scales | opset | for                                                                     |
|------------|--------------------|-------|-------------------------------------------------------------------------|
| `weak`     | FP32               | 17    | TensorRT 8.6 and weakly typed 10.x; FP32 everywhere                     |
| `typed`    | FP16 or BF16       | 19, 22| strongly typed TensorRT: 10.12 and later, 11, TensorRT-RTX              |
| `jetpack5` | FP32               | 17    | TensorRT 8.5: as `weak`, LayerNormalization in parts                    |
| `cpu`      | FP32               | 17    | OpenVINO and ONNX Runtime: as it is                                     |
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import onnx

from edgeseg.core.errors import CapabilityError, RequestError
from edgeseg.core.types import Precision
from edgeseg.graph.camera import CHROMA, LUMA
from edgeseg.graph.forms import decompose_layer_norms
from edgeseg.graph.geometry import PIXELS
from edgeseg.graph.ir import BFLOAT16, FLOAT, FLOAT16, Array, Graph, Node, from_model
from edgeseg.graph.meta import GEOMETRY_PREFIX, meta_from_props, meta_props
from edgeseg.graph.qdq import quantise

Kind = Literal["weak", "typed", "jetpack5", "cpu"]

TYPED_OPSETS = {FLOAT16: 19, BFLOAT16: 22}
"""The oldest opset of each: 19 has FP16 scales, 22 has BF16 convolutions (TensorRT 10.9 and later read it)."""
MIN_FP16_SCALE = 2.0**-14
"""The smallest normal number of FP16: a smaller scale loses digits, and becomes zero at last."""

_LARGEST_FP16 = 65504.0
_BORDER = (PIXELS, LUMA, CHROMA)
"""Tensors at which the geometry hands over to the network."""
_QDQ = ("QuantizeLinear", "DequantizeLinear")


def make_variant(model: onnx.ModelProto, kind: Kind, precision: Precision = "fp32") -> onnx.ModelProto:
    """A variant of a model.

    Args:
        model: Of fixed frame size; with Q/DQ nodes or without, in any exact form.
        kind: Which variant.
        precision: Element type of the float tensors of `typed`: `fp16` or `bf16`. `int8` is FP16 around the Q/DQ nodes.

    Returns:
        A new model; names of layers and tensors stay. `frame` and `mask` stay uint8.

    Raises:
        RequestError: A kind or precision that does not exist, or a weight beyond the range of FP16.
    """
    graph = from_model(model)
    suffix = ""
    if kind in ("weak", "jetpack5"):
        float_biases(graph)
        _float_weights(graph)
        if kind == "jetpack5":
            decompose_layer_norms(graph)
    elif kind == "typed":
        elem = _element(precision)
        float_biases(graph)
        to_opset(graph, TYPED_OPSETS[elem])
        _to_type(graph, elem)
        suffix = "-bf16" if elem == BFLOAT16 else "-fp16"
    elif kind != "cpu":
        raise RequestError("unknown variant", value=kind, allowed="weak, typed, jetpack5, cpu")
    meta = msgspec.structs.replace(meta_from_props(graph.props), variant=kind + suffix)
    graph.props = {**graph.props, **meta_props(meta)}
    return graph.to_model()


# ---------------------------------------------------------------- quantised constants


def float_biases(graph: Graph) -> None:
    """INT32 biases behind DequantizeLinear as float constants, in place: TensorRT refuses INT32 there."""
    for node in [node for node in graph.nodes if node.op == "DequantizeLinear"]:
        if node.inputs[0] in graph.constants and graph.constants[node.inputs[0]].dtype == np.int32:
            graph.constants[node.name] = dequantised(graph, node)
            graph.remove([node])


def _float_weights(graph: Graph) -> None:
    """Weights as float constant, QuantizeLinear, DequantizeLinear: documented for every TensorRT from 8."""
    for node in [node for node in graph.nodes if node.op == "DequantizeLinear"]:
        name = node.inputs[0]
        if name in graph.constants:
            values = graph.constant(f"{name}.float", dequantised(graph, node))
            node.inputs[0] = graph.add("QuantizeLinear", [values, *node.inputs[1:]], name, axis=node.attrs.get("axis"))
            del graph.constants[name]


def dequantised(graph: Graph, node: Node) -> Array:
    """The float32 values that a DequantizeLinear of a constant gives."""
    integers, scale = graph.constants[node.inputs[0]], graph.constants[node.inputs[1]]
    return np.asarray(integers * _along(scale, node, integers.ndim), np.float32)


def _along(scale: Array, node: Node, ndim: int) -> Array:
    if scale.ndim == 0:
        return scale
    axis = node.attrs.get("axis", 1) % ndim
    return scale.reshape([-1 if index == axis else 1 for index in range(ndim)])


def limit_scales(graph: Graph) -> None:
    """Raise scales under 2^-14 to it, in place; integers behind a raised scale are rounded anew.

    Only channels without content have such scales (an all-zero channel, a range of under 0.008): the new step is still
    under a sixteen-thousandth.
    """
    for node in [node for node in graph.nodes if node.op == "DequantizeLinear" and node.inputs[0] in graph.constants]:
        scale = graph.constants[node.inputs[1]]
        if (scale < MIN_FP16_SCALE).any():
            values = dequantised(graph, node)
            raised = np.maximum(scale, MIN_FP16_SCALE).astype(np.float32)
            axis = node.attrs.get("axis", 1) if scale.ndim else None
            integers = quantise(values, tuple(np.atleast_1d(raised).tolist()), axis, -128, 127)
            graph.constants[node.inputs[0]] = integers.astype(graph.constants[node.inputs[0]].dtype)
    for node in graph.nodes:
        if node.op in _QDQ:
            scale = graph.constants[node.inputs[1]]
            graph.constants[node.inputs[1]] = np.maximum(scale, MIN_FP16_SCALE).astype(np.float32)


# ---------------------------------------------------------------- element type and opset


def to_opset(graph: Graph, opset: int) -> None:
    """Write operators as opset 18 and later have them, in place: the axes of a reduction are an input."""
    for node in graph.nodes:
        if node.op in ("ReduceMax", "ReduceMean") and "axes" in node.attrs:
            axes = node.attrs.pop("axes")
            node.inputs.append(graph.constant(f"reduce.axes{'_'.join(map(str, axes))}", list(axes)))
    graph.opset = opset


def _element(precision: Precision) -> int:
    if precision == "fp32":
        raise RequestError("a typed model has no such precision", value=precision, allowed="fp16, bf16, int8")
    return BFLOAT16 if precision == "bf16" else FLOAT16


def _to_type(graph: Graph, elem: int) -> None:
    """Float tensors of the network in `elem`, in place. The geometry keeps FP32 constants: they are its coordinates."""
    if elem == FLOAT16:
        limit_scales(graph)
    dtype = _dtype(elem)
    keep = {name for node in graph.nodes if node.op == "Resize" for name in node.inputs[1:]}
    for name, value in graph.constants.items():
        if value.dtype == np.float32 and name not in keep and not name.startswith(GEOMETRY_PREFIX):
            graph.constants[name] = _narrow(name, value, elem, dtype)
    for node in graph.nodes:
        if node.op == "LayerNormalization":
            node.attrs["stash_type"] = 1  # statistics in FP32
        if node.op == "Cast" and node.attrs["to"] == FLOAT and not node.name.startswith(GEOMETRY_PREFIX):
            node.attrs["to"] = elem
    _type_input(graph, elem)
    _type_confidence(graph)


def _narrow(name: str, value: Array, elem: int, dtype: Any) -> Array:
    if elem == FLOAT16 and np.abs(value).max(initial=0) > _LARGEST_FP16:
        raise RequestError("a constant is beyond the range of FP16", value=name, fix="--precision bf16")
    return value.astype(dtype)


def _dtype(elem: int) -> Any:
    if elem == FLOAT16:
        return np.float16
    try:
        import ml_dtypes
    except ImportError as error:  # numpy itself has no bfloat16; onnx brings this package from 1.17 on
        runtime = f"onnx {onnx.__version__}"
        raise CapabilityError("writing BF16 tensors", runtime=runtime, fix="pip install ml_dtypes") from error
    return ml_dtypes.bfloat16


def _type_input(graph: Graph, elem: int) -> None:
    """Bytes go straight to `elem`, which holds 0 to 255 exactly; after a resize only its result is narrowed."""
    seen = {value.name for value in graph.inputs}
    side: list[Node] = []
    graph.sort()
    for node in graph.nodes:
        if node.inputs[0] in seen and (node.name.startswith(GEOMETRY_PREFIX) or node.name in _BORDER):
            side.append(node)
            seen.update(node.outputs)
    if all(node.op in ("Cast", "Slice", "Transpose", "Pad", "Gather", "Reshape") for node in side):
        for node in side:
            if node.op == "Cast":
                node.attrs["to"] = elem
        return
    for node in side:
        if node.name in _BORDER and not any(node.name in other.inputs for other in side):
            border = node.name
            node.outputs[0] = f"{GEOMETRY_PREFIX}{border}_float"
            graph.add("Cast", [node.name], border, to=elem)


def _type_confidence(graph: Graph) -> None:
    for node in list(graph.nodes):
        if node.op == "Softmax" and node.name.startswith(GEOMETRY_PREFIX):
            node.inputs[0] = graph.add("Cast", [node.inputs[0]], f"{node.name}.input", to=FLOAT)
