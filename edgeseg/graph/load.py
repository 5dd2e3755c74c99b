"""Reading ONNX files that may be truncated, foreign or hostile.

Nothing outside the file is ever opened: a tensor stored elsewhere ("external data") names a path of the writer's
choice, and an operator of another domain may run another library.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgeseg.core.artefacts import write_bytes
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.graph.ir import Graph, from_model, model_opset
from edgeseg.graph.meta import ModelMeta, graph_weights_sha256, read_meta
from edgeseg.graph.seal import break_seal, seal_holds, sealed_bytes

MAX_BYTES = 1 << 30
"""Larger files are refused unread: the largest network of the family is under 150 MB."""

_EXPORT = "edgeseg export RUN --out MODEL.onnx"


def load_model(path: Path) -> onnx.ModelProto:
    """Read a model that edgeseg wrote.

    Args:
        path: An ONNX file.

    Returns:
        The model, whole: well-formed ONNX, edgeseg's metadata, the I/O contract.

    Raises:
        RequestError: There is no such file.
        VerifyError: It is truncated, foreign, altered, of a newer format, or keeps data outside the file.
    """
    model = parse_onnx(path)
    with _damage(path):
        meta = read_meta(model, origin=str(path))
        seal = break_seal(model)
        graph = from_model(model)
        altered = _other_weights(graph, meta) if seal is None else not seal_holds(seal, model, graph)
    if altered:
        raise VerifyError(
            "the model was altered after it was written", value=path, allowed="an unaltered file", fix=_EXPORT
        )
    if "mask" not in graph.output_names():
        raise VerifyError("the model does not give a mask", value=path, allowed="outputs: mask", fix=_EXPORT)
    return model


def parse_onnx(path: Path) -> onnx.ModelProto:
    """Read any self-contained ONNX file, edgeseg's or not.

    Raises:
        RequestError: There is no such file.
        VerifyError: It is not whole, not ONNX, too large, or keeps data outside the file.
    """
    if not path.is_file():
        raise RequestError("the model does not exist", value=path, allowed="an ONNX file or zoo:NAME", fix=_EXPORT)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise VerifyError("the ONNX file is too large", value=f"{path}: {size} bytes", allowed=f"{MAX_BYTES} bytes")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise VerifyError("the ONNX file is truncated or not ONNX", value=path, fix=_EXPORT) from error
    with _damage(path):
        _check(model, path)
    return model


def _check(model: onnx.ModelProto, path: Path) -> None:
    if not model.graph.node or not model.opset_import:
        raise VerifyError("the ONNX file is truncated or not ONNX", value=f"{path}: no graph", fix=_EXPORT)
    _refuse_external(model, path)
    try:
        model_opset(model)
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        first = str(error).strip().splitlines()[0]
        raise VerifyError("the ONNX file is not valid", value=f"{path}: {first}", fix=_EXPORT) from error


def save_model(path: Path, model: onnx.ModelProto) -> None:
    """Write a model with its seal, atomically.

    Raises:
        DataError: The disk is full.
        RequestError: The folder cannot be written to.
    """
    write_bytes(path, sealed_bytes(model))


def _other_weights(graph: Graph, meta: ModelMeta) -> bool:
    return meta.variant == "canonical" and graph_weights_sha256(graph) != meta.weights_sha256


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what protobuf and numpy raise over flipped bytes (text that is none, unknown types) into one error."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        detail = f"{path}: {type(error).__name__}"
        raise VerifyError("the ONNX file is damaged", value=detail, allowed="a whole ONNX file", fix=_EXPORT) from error


def _refuse_external(model: onnx.ModelProto, path: Path) -> None:
    tensors = [*model.graph.initializer]
    tensors += [attribute.t for node in model.graph.node for attribute in node.attribute if attribute.HasField("t")]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise VerifyError(
                "the ONNX file keeps tensors outside itself",
                value=f"{path}: {tensor.name}",
                allowed="one self-contained file",
                fix="onnx.save(onnx.load(FILE), OUT, save_as_external_data=False)",
            )
