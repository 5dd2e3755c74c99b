"""What precision every kernel really runs in, and which Q/DQ pairs did not become an INT8 kernel.

Two sources tell it: the engine inspector's JSON (8.6 and 10 pack format and type into one field, 11 splits them), and,
where there is no GPU, the lines after `Layers:` in TensorRT-RTX's build log. Both name the ONNX nodes of a kernel.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import onnx

from edgeseg.core.errors import VerifyError

_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_NAME = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), Inputs: \[(?P<rest>.*)$", re.MULTILINE)
_DATATYPE = re.compile(r"Datatype: (\w+)")
_TYPES = (
    ("bf16", ("bfloat16", "bf16")),
    ("fp16", ("half", "fp16", "float16")),
    ("fp32", ("float", "fp32", "float32")),
    ("fp8", ("fp8",)),
    ("int64", ("int64",)),
    ("int32", ("int32",)),
    ("uint8", ("uint8",)),
    ("int8", ("int8",)),
    ("bool", ("bool",)),
)
_FLOATS = ("fp32", "bf16", "fp16")  # widest first: what arithmetic between two types is done in
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
_MULTIPLIES = re.compile(r"correlation|conv|gemm|matmul|matrixmultiply", re.IGNORECASE)
_FUSED_PRODUCT = re.compile(r"^__myl_\w*?(?:Corr|Deco|Gemm|MatMul|FcMul)")  # a fusion is named after its parts
_MOVES = re.compile(r"reformat|noop|shuffle|copy", re.IGNORECASE)
_FUSED_MOVES = re.compile(r"^__myl_(?:Move|Tran|Resh|Slic|Conc)+_")  # a fusion of nothing else


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel of an engine.

    Attributes:
        name: The runtime's name for it.
        kind: The runtime's layer type.
        precision: What it computes in: the type of its operands where it multiplies, else its widest float type.
        inputs: Types of its inputs.
        outputs: Types of its outputs.
        nodes: ONNX nodes that it carries out.
    """

    name: str
    kind: str
    precision: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def multiplies(self) -> bool:
        """Whether it is a convolution or matrix product, which is where INT8 pays."""
        return bool(_MULTIPLIES.search(self.kind) or _FUSED_PRODUCT.search(self.name))


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """The kernels of an engine, summed up.

    Attributes:
        kernels: In order of execution.
        layers: Number of kernels by precision.
        multiplying: Number of convolutions and matrix products by precision.
        reformats: Kernels that only change the layout or type of a tensor.
        not_int8: ONNX nodes with Q/DQ on data and weights whose kernel is not INT8.
        unmapped: Number of kernels that name no ONNX node.
    """

    kernels: tuple[Kernel, ...]
    layers: dict[str, int]
    multiplying: dict[str, int]
    reformats: tuple[str, ...]
    not_int8: tuple[str, ...]
    unmapped: int

    @property
    def int8_share(self) -> float:
        """Share of convolutions and matrix products that run in INT8, 0 to 1."""
        total = sum(self.multiplying.values())
        return self.multiplying.get("int8", 0) / total if total else 0.0

    def summary(self) -> dict[str, object]:
        """What a report keeps of it, as JSON values."""
        return {
            "kernels": len(self.kernels),
            "layers": self.layers,
            "multiplying": self.multiplying,
            "int8_share": round(self.int8_share, 4),
            "reformats": list(self.reformats),
            "qdq_not_int8": list(self.not_int8),
            "unmapped": self.unmapped,
        }


def audit(kernels: Sequence[Kernel], model: onnx.ModelProto) -> Audit:
    """Sum up an engine's kernels against the graph that it was built from."""
    int8_nodes = {node for kernel in kernels if kernel.precision == "int8" for node in kernel.nodes}
    return Audit(
        kernels=tuple(kernels),
        layers=dict(Counter(kernel.precision for kernel in kernels)),
        multiplying=dict(Counter(kernel.precision for kernel in kernels if kernel.multiplies)),
        reformats=tuple(kernel.name for kernel in kernels if _only_moves(kernel)),
        not_int8=tuple(name for name in quantised_nodes(model) if name not in int8_nodes),
        unmapped=sum(not kernel.nodes for kernel in kernels),
    )


def quantised_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions and matrix products whose data and weights both come through DequantizeLinear."""
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in _WEIGHTED and len(node.input) > 1 and set(node.input[:2]) <= dequantised
    ]


def kernels_from_log(lines: Iterable[str]) -> list[Kernel]:
    """Kernels from TensorRT-RTX's verbose build log; empty where the log has no layer list."""
    listing = next((line for line in lines if line.lstrip().startswith("Layers:")), "")
    kernels = []
    for match in _NAME.finditer(listing):
        operands, _, rest = match["rest"].partition("], Outputs: [")
        inputs, _, _ = operands.partition("], Constants: [")
        outputs, _, metadata = rest.partition("], TacticName: ")
        kernels.append(
            _kernel(match["name"], match["kind"], _DATATYPE.findall(inputs), _DATATYPE.findall(outputs), metadata)
        )
    return kernels


def kernels_from_inspector(text: str) -> list[Kernel]:
    """Kernels from the engine inspector's JSON.

    Raises:
        VerifyError: Not the inspector's JSON, or an engine that was built without layer details.
    """
    try:
        layers = msgspec.json.decode(text, type=dict[str, object]).get("Layers")
    except msgspec.DecodeError as error:
        raise VerifyError("the engine inspector's answer cannot be read", value=error) from None
    if not isinstance(layers, list) or any(isinstance(layer, str) for layer in layers):
        raise VerifyError(
            "the engine holds no layer details", allowed="an engine built with detailed profiling verbosity"
        )
    return [
        _kernel(
            str(layer.get("Name", "")),
            str(layer.get("LayerType", "")),
            _inspector_types(layer.get("Inputs", ())),
            _inspector_types(layer.get("Outputs", ())),
            str(layer.get("Metadata", "")),
        )
        for layer in layers
    ]


def _inspector_types(tensors: Iterable[Mapping[str, object]]) -> list[str]:
    """`Format/Datatype` ("Row major linear FP16 format") before 11, `DataType` from 11 on."""
    return [
        str(tensor.get("DataType") or tensor.get("Datatype") or tensor.get("Format/Datatype", "")) for tensor in tensors
    ]


def _kernel(name: str, kind: str, inputs: Sequence[str], outputs: Sequence[str], metadata: str) -> Kernel:
    types_in, types_out = tuple(map(_type, inputs)), tuple(map(_type, outputs))
    kernel = Kernel(
        name=name,
        kind=kind,
        precision="",
        inputs=types_in,
        outputs=types_out,
        nodes=tuple(dict.fromkeys(_ONNX_LAYER.findall(metadata))),
    )
    return msgspec.structs.replace(kernel, precision=_precision(kernel))


def _precision(kernel: Kernel) -> str:
    if kernel.multiplies and kernel.inputs:
        return kernel.inputs[0]
    found = {*kernel.inputs, *kernel.outputs}
    widest = next((kind for kind in _FLOATS if kind in found), None)
    return widest or (kernel.inputs or kernel.outputs or ("unknown",))[0]


def _only_moves(kernel: Kernel) -> bool:
    return bool(_MOVES.search(kernel.kind) or _FUSED_MOVES.search(kernel.name))


def _type(text: str) -> str:
    words = re.findall(r"[a-z0-9]+", text.lower())
    for name, aliases in _TYPES:
        if any(word in aliases for word in words):
            return name
    return text.lower() or "unknown"
