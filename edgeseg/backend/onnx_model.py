"""What the backends of this room read of an ONNX file before a runtime sees it: is it the engine that was asked for."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgeseg.core.errors import RequestError
from edgeseg.core.types import EngineSpec
from edgeseg.graph import load_model

_QUANTIZE = ("QuantizeLinear", "DequantizeLinear")


def has_qdq(model: onnx.ModelProto) -> bool:
    """Whether the graph is explicitly quantised."""
    return any(node.op_type in _QUANTIZE for node in model.graph.node)


def check_model(path: Path, spec: EngineSpec) -> onnx.ModelProto:
    """Load an ONNX file and check it against the engine that is to be built from it.

    Raises:
        VerifyError: The file is truncated or not an ONNX model.
        RequestError: Other inputs, outputs or sizes than `spec`, or Q/DQ where a float engine was asked for, or none
            where INT8 was.
    """
    model = load_model(path)
    height, width = spec.frame_size
    channels = {"bgr": 3, "yuyv": 2}
    expected: dict[str, list[int]] = {}
    if spec.input_format == "nv12":
        expected["y"] = [spec.batch, height, width, 1]
        expected["uv"] = [spec.batch, height // 2, width // 2, 2]
    else:
        expected["frame"] = [spec.batch, height, width, channels[spec.input_format]]
    expected["mask"] = [spec.batch, height, width]
    if spec.confidence:
        expected["confidence"] = [spec.batch, height, width]
    found = {value.name: value for value in [*model.graph.input, *model.graph.output]}
    for name, shape in expected.items():
        if name not in found:
            raise RequestError(
                f"the model has no tensor {name}",
                value=", ".join(found),
                allowed=f"an engine needs {', '.join(expected)}",
                fix="edgeseg export RUN --out MODEL.onnx",
            )
        tensor = found[name].type.tensor_type
        dims = [dim.dim_value or dim.dim_param for dim in tensor.shape.dim]
        if dims != shape or tensor.elem_type != onnx.TensorProto.UINT8:
            kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
            raise RequestError(
                f"the model's {name} does not fit the engine", value=f"{kind} {dims}", allowed=f"UINT8 {shape}"
            )
    if has_qdq(model) != (spec.precision == "int8"):
        said = "has Q/DQ nodes" if has_qdq(model) else "has no Q/DQ nodes"
        raise RequestError(f"a model that {said} cannot be built as {spec.precision}", value=path)
    return model
