"""The seal of a saved model: a hash of everything in it that is computed or read, kept as one of its properties.

It is taken over the content, not over the file's bytes, which another version of protobuf may order otherwise. It finds
damage and hand edits; it is no signature: who can rewrite the file can seal it anew. Bundles are signed instead.
"""

from __future__ import annotations

import hashlib

import msgspec
import onnx

from edgeseg.graph.ir import Graph, from_model, inferred_values
from edgeseg.graph.meta import plain_attrs

PROPERTY = "edgeseg_seal"
"""Its name does not begin as those of the model's metadata do, which it covers."""


def sealed_bytes(model: onnx.ModelProto) -> bytes:
    """The bytes of a model with its seal; the model itself stays as it is."""
    props = {prop.key: prop.value for prop in model.metadata_props}
    try:
        # first, so that a file cut off behind it still has it
        onnx.helper.set_model_props(model, {PROPERTY: _digest(model, from_model(model)), **props})
        data: bytes = model.SerializeToString(deterministic=True)
        return data
    finally:
        onnx.helper.set_model_props(model, props)


def break_seal(model: onnx.ModelProto) -> str | None:
    """Take the seal off a model that was read, so that no later change carries it on; None where there was none."""
    props: dict[str, str] = {prop.key: prop.value for prop in model.metadata_props}
    found = props.pop(PROPERTY, None)
    onnx.helper.set_model_props(model, props)
    return found


def seal_holds(seal: str, model: onnx.ModelProto, graph: Graph) -> bool:
    """Whether a model without its seal, and the same as a graph, is what was sealed."""
    return seal == _digest(model, graph)


def _digest(model: onnx.ModelProto, graph: Graph) -> str:
    digest = hashlib.sha256()

    def add(*parts: object) -> None:
        digest.update(msgspec.json.encode(parts))
        digest.update(b"\n")

    add(graph.opset)
    for kind, values in (("in", graph.inputs), ("out", graph.outputs)):
        for value in values:
            add(kind, value.name, value.elem, value.shape)
    for name, elem, shape in sorted((v.name, v.elem, str(v.shape)) for v in inferred_values(model)):
        add(name, elem, shape)
    for node in graph.nodes:
        add(node.domain, node.op, node.inputs, node.outputs, plain_attrs(node))
    for name in sorted(graph.constants):
        array = graph.constants[name]
        add(name, str(array.dtype), array.shape)
        digest.update(array.tobytes())
    for key in sorted(graph.props):
        add(key, graph.props[key])
    return digest.hexdigest()
