"""What a model says about itself: the metadata_props of an ONNX file, typed.

One property a field, `edgeseg.NAME`, its value in JSON, so that any ONNX viewer shows them.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np
import onnx

from edgeseg.core.errors import VerifyError
from edgeseg.core.types import Classes, InputFormat, Region
from edgeseg.graph.ir import Graph, Node, from_model

FORMAT = 1
"""Version of the canonical graph: its names, its geometry and these properties."""

_PREFIX = "edgeseg."
GEOMETRY_PREFIX = "geometry/"
"""Prefix of the constants and inner tensors of the geometry around the network."""
GEOMETRY_TENSORS = frozenset({"frame", "pixels", "pixels.y", "pixels.uv", "mask", "confidence"})
"""Tensors of the geometry that other rooms may name."""


class ModelMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What a model says about itself.

    Attributes:
        name: Name of the model, as its preset or zoo entry is called.
        classes: Vocabulary of the mask.
        network_size: (H, W) that the network was trained at.
        stride: The network's sides must be multiples of this.
        mean_rgb: Mean of the input in 0..255, as folded into the stem; information.
        std_rgb: Standard deviation, likewise.
        package_version: Version of edgeseg that exported it.
        config_sha256: Hash of the run's resolved config.
        weights_sha256: Hash of the canonical network's weights. Variants and quantised models keep it: it is what range
            files are checked against.
        trained_on: Data specification of the training set.
        metrics: Scores of the run, by name.
        frame_size: (H, W) of `frame` and `mask` where they are fixed.
        layers_size: (H, W) that the layers see where it is fixed, before padding.
        roi: Part of the frame that is segmented; None for all of it.
        batch: Batch where it is fixed.
        input_format: Layout of the input.
        confidence: Whether the graph has the output `confidence`.
        variant: `canonical`, whose weights are those of `weights_sha256`; `rewritten` in another exact form;
            `quantised` with Q/DQ nodes; or the variant for a runtime (see `edgeseg.graph.variants`).
        forms: Exact forms that were chosen, by name: {"pointwise": "matmul"}.
        notes: Anything else worth keeping, by name.
    """

    name: str
    classes: Classes
    network_size: tuple[int, int]
    stride: int
    mean_rgb: tuple[float, float, float]
    std_rgb: tuple[float, float, float]
    package_version: str
    config_sha256: str = ""
    weights_sha256: str = ""
    trained_on: str = ""
    metrics: dict[str, float | None] = {}
    frame_size: tuple[int, int] | None = None
    layers_size: tuple[int, int] | None = None
    roi: Region | None = None
    batch: int | None = None
    input_format: InputFormat = "bgr"
    confidence: bool = False
    variant: str = "canonical"
    forms: dict[str, str] = {}
    notes: dict[str, str] = {}


def meta_props(meta: ModelMeta) -> dict[str, str]:
    """The properties that say `meta`."""
    fields = {_PREFIX + key: msgspec.json.encode(value).decode() for key, value in msgspec.structs.asdict(meta).items()}
    # a file cut off between two properties is still well-formed: their count tells
    return {_PREFIX + "format": str(FORMAT), _PREFIX + "fields": str(len(fields)), **fields}


def read_meta(model: onnx.ModelProto, *, origin: str = "the model") -> ModelMeta:
    """What the model says about itself; `origin` names it in errors.

    Raises:
        VerifyError: It was not written by edgeseg, its properties were edited, or its format is newer.
    """
    return meta_from_props({prop.key: prop.value for prop in model.metadata_props}, origin=origin)


def meta_from_props(props: dict[str, str], *, origin: str = "the model") -> ModelMeta:
    """`read_meta` of properties alone."""
    ours = {key[len(_PREFIX) :]: value for key, value in props.items() if key.startswith(_PREFIX)}
    if "format" not in ours:
        raise VerifyError(
            "the ONNX file was not written by edgeseg",
            value=f"{origin} has no edgeseg metadata",
            fix="edgeseg export RUN --out MODEL.onnx",
        )
    version = ours.pop("format")
    if version != str(FORMAT):
        raise VerifyError(
            "the model is of another format", value=f"{origin}: format {version}", allowed=f"format {FORMAT}"
        )
    if ours.pop("fields", "") != str(len(ours)):
        raise VerifyError(
            "the model's metadata are not whole", value=f"{origin}: {len(ours)} fields", allowed="a whole ONNX file"
        )
    try:
        raw = {key: msgspec.json.decode(value) for key, value in ours.items()}
        return msgspec.convert(raw, ModelMeta)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise VerifyError(
            "the model's metadata do not verify", value=f"{origin}: {error}", allowed="an unaltered file"
        ) from error


def write_meta(model: onnx.ModelProto, meta: ModelMeta) -> None:
    """Replace the model's edgeseg properties, in place; others stay."""
    kept = {prop.key: prop.value for prop in model.metadata_props if not prop.key.startswith(_PREFIX)}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**kept, **meta_props(meta)})


def weights_sha256(model: onnx.ModelProto) -> str:
    """Identity of the network in a model: every node and constant of it, by name, attributes, dtype, shape and bytes.

    The geometry around it does not count, so fixing the frame size does not change it.
    """
    return graph_weights_sha256(from_model(model))


def graph_weights_sha256(graph: Graph) -> str:
    """`weights_sha256` of a graph in memory."""
    digest = hashlib.sha256()
    for name in sorted(graph.constants):
        if not name.startswith(GEOMETRY_PREFIX):
            value = graph.constants[name]
            digest.update(f"{name}\0{value.dtype}\0{value.shape}\0".encode())
            digest.update(value.tobytes())
    for node in sorted(graph.nodes, key=lambda node: node.name):
        if not node.name.startswith(GEOMETRY_PREFIX) and node.name not in GEOMETRY_TENSORS:
            digest.update(msgspec.json.encode([node.op, node.inputs, node.outputs, plain_attrs(node)]))
    return digest.hexdigest()


def plain_attrs(node: Node) -> dict[str, Any]:
    """A node's attributes by name, sorted, as they are hashed.

    ONNX stores floats in 32 bits: a graph just written must hash as the same graph read back.
    """
    present = {key: value for key, value in sorted(node.attrs.items()) if value is not None}
    return {key: float(np.float32(value)) if isinstance(value, float) else value for key, value in present.items()}
