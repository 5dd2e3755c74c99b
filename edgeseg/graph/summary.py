"""What is in an ONNX file, for a person and for programs: `edgeseg inspect`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import onnx

from edgeseg.core.types import Size
from edgeseg.graph.costs import LayerCost, cost, parameters
from edgeseg.graph.ir import BFLOAT16, FLOAT16, Graph, Node, from_model, model_opset
from edgeseg.graph.load import load_model
from edgeseg.graph.meta import GEOMETRY_PREFIX, GEOMETRY_TENSORS, ModelMeta, read_meta
from edgeseg.graph.receptive import receptive_field

_PASSIVE = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Identity"})
_PRECISIONS = ("int8", "fp16", "bf16", "fp32")


class TensorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output: name, ONNX element type in lower case, dimensions (names where they are symbolic)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class ModelSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a model.

    Attributes:
        path: The file.
        kind: `model`.
        name: Model.
        variant: `canonical`, or what a rewrite made of it.
        opset: Version of the operator set.
        bytes: Size of the file.
        inputs: Tensors in.
        outputs: Tensors out.
        layers: Number of the network's layers by precision.
        ops: Number of them by operator.
        parameters: Numbers in its weights.
        macs: Multiply-adds of one frame of `counted_at`.
        bytes_moved: Bytes that its layers read and write for such a frame, if nothing stays in a cache.
        counted_at: (H, W) of the frame that costs are counted at.
        receptive_field: Theoretical, (H, W) in pixels of what the layers see.
        effective_field: Measured side, in pixels, of the field with these weights; runs only, since it needs torch.
        most_expensive: Its five layers with the most multiply-adds.
        metadata: What the model says about itself.
    """

    path: str
    kind: str = "model"
    name: str
    variant: str
    opset: int
    bytes: int
    inputs: list[TensorSummary]
    outputs: list[TensorSummary]
    layers: dict[str, int]
    ops: dict[str, int]
    parameters: int
    macs: int
    bytes_moved: int
    counted_at: Size
    receptive_field: Size
    effective_field: float | None = None
    most_expensive: list[LayerCost]
    metadata: ModelMeta


def summarise(path: Path) -> ModelSummary:
    """Read a model and count what is in it.

    Raises:
        RequestError: There is no such file.
        VerifyError: It is truncated, foreign or altered.
    """
    model = load_model(path)
    meta = read_meta(model)
    graph = from_model(model)
    costs = cost(model)
    return ModelSummary(
        path=str(path),
        name=meta.name,
        variant=meta.variant,
        opset=model_opset(model),
        bytes=path.stat().st_size,
        inputs=[_tensor(value) for value in model.graph.input],
        outputs=[_tensor(value) for value in model.graph.output],
        layers=layers_by_precision(model),
        ops=dict(Counter(node.op for node in network_layers(graph)).most_common()),
        parameters=parameters(model),
        macs=sum(layer.macs for layer in costs),
        bytes_moved=sum(layer.bytes_in + layer.bytes_weights + layer.bytes_out for layer in costs),
        counted_at=meta.frame_size or meta.network_size,
        receptive_field=receptive_field(graph, meta.stride),
        most_expensive=sorted(costs, key=lambda layer: -layer.macs)[:5],
        metadata=meta,
    )


def network_layers(graph: Graph) -> list[Node]:
    """The nodes that compute: without the geometry, Q/DQ pairs and casts."""
    return [
        node
        for node in graph.nodes
        if node.op not in _PASSIVE and not node.name.startswith(GEOMETRY_PREFIX) and node.name not in GEOMETRY_TENSORS
    ]


def layers_by_precision(model: onnx.ModelProto) -> dict[str, int]:
    """Number of layers that can run in each precision, as the graph states it.

    A layer counts as INT8 where all its data (and weights, where it has them) come from DequantizeLinear: what a
    runtime makes of it is the engine's affair, and is in a bundle's report.
    """
    graph = from_model(model)
    producers = graph.producers()
    half = _elements(model)
    counts = dict.fromkeys(_PRECISIONS, 0)
    for node in network_layers(graph):
        data = [name for name in node.inputs if name and name not in graph.constants]
        sources = [producers[name].op for name in data if name in producers]
        if sources and all(op == "DequantizeLinear" for op in sources) and _has_integer_weights(graph, node):
            counts["int8"] += 1
        else:
            counts[half.get(node.name, "fp32")] += 1
    return {name: count for name, count in counts.items() if count or name != "bf16"}


def _has_integer_weights(graph: Graph, node: Node) -> bool:
    if node.op not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return True
    return node.inputs[1] not in graph.constants


def _elements(model: onnx.ModelProto) -> dict[str, str]:
    names = {FLOAT16: "fp16", BFLOAT16: "bf16"}
    values = [*model.graph.value_info, *model.graph.output]
    found = {value.name: names.get(int(value.type.tensor_type.elem_type)) for value in values}
    return {name: kind for name, kind in found.items() if kind}


def _tensor(value: onnx.ValueInfoProto) -> TensorSummary:
    tensor = value.type.tensor_type
    shape = tuple(int(d.dim_value) if d.HasField("dim_value") else str(d.dim_param) for d in tensor.shape.dim)
    return TensorSummary(name=value.name, dtype=onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), shape=shape)
