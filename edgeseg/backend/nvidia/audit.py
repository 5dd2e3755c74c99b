"""What precision every kernel really runs in, and which Q/DQ pairs did not become an INT8 kernel.

Two sources tell it: the engine inspector's JSON (8.6 and 10 pack format and type into one field, 11 splits them), and,
where there is no GPU, the lines after `Layers:` in TensorRT-RTX's build log. Both name the ONNX nodes of a kernel.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import onnx

from edgeseg.core.errors import VerifyError
from edgeseg.core.types import Precision

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
    def moves(self) -> bool:
        """Whether it only changes the layout or type of a tensor."""
        return bool(_MOVES.search(self.kind) or _FUSED_MOVES.search(self.name))

    @property
    def multiplies(self) -> bool:
        """Whether it is a convolution or matrix product, which is where INT8 pays."""
        return bool(_MULTIPLIES.search(self.kind) or _FUSED_PRODUCT.search(self.name))


class Fallback(msgspec.Struct, frozen=True, kw_only=True):
    """A convolution or matrix product of the model that runs wider than it was built for.

    Attributes:
        node: Its name in the model.
        wanted: `int8` for a Q/DQ pair, else the engine's float type.
        runs_in: What its kernel computes in; `unknown` where no kernel names it.
    """

    node: str
    wanted: str
    runs_in: str


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """The kernels of an engine, summed up.

    Attributes:
        kernels: In order of execution.
        layers: Number of kernels by precision.
        multiplying: Number of convolutions and matrix products by precision.
        reformats: Kernels that only change the layout or type of a tensor.
        fallbacks: Products that run wider than they were built for.
        unmapped: Number of kernels that name no ONNX node.
    """

    kernels: tuple[Kernel, ...]
    layers: dict[str, int]
    multiplying: dict[str, int]
    reformats: tuple[str, ...]
    fallbacks: tuple[Fallback, ...]
    unmapped: int

    @property
    def not_int8(self) -> tuple[str, ...]:
        """Names of the products with Q/DQ whose kernel is not INT8."""
        return tuple(item.node for item in self.fallbacks if item.wanted == "int8")

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
            "fallbacks": msgspec.to_builtins(self.fallbacks),
            "unmapped": self.unmapped,
            "by_kernel": [
                {"name": item.name, "kind": item.kind, "precision": item.precision, "nodes": list(item.nodes)}
                for item in self.kernels
            ],
        }


def audit(kernels: Sequence[Kernel], model: onnx.ModelProto, precision: Precision = "fp32") -> Audit:
    """Sum up an engine's kernels against the graph that it was built from.

    Args:
        kernels: In order of execution.
        model: The exact ONNX file of the engine.
        precision: What the engine was built for.
    """
    return Audit(
        kernels=tuple(kernels),
        layers=dict(Counter(kernel.precision for kernel in kernels)),
        multiplying=dict(Counter(kernel.precision for kernel in kernels if kernel.multiplies)),
        reformats=tuple(kernel.name for kernel in kernels if kernel.moves),
        fallbacks=tuple(_fallbacks(kernels, model, precision)),
        unmapped=sum(not kernel.nodes for kernel in kernels),
    )


def quantised_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions and matrix products whose data or weights come through DequantizeLinear.

    One of the two is enough to be listed: such a graph parses and builds, and silently does not run in integers.
    """
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return [node.name for node in _products(model) if dequantised & set(node.input[:2])]


def _products(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type in _WEIGHTED and len(node.input) > 1]


def _fallbacks(kernels: Sequence[Kernel], model: onnx.ModelProto, precision: Precision) -> Iterator[Fallback]:
    """Each product against the kernel that multiplies for it: a node may be split over several."""
    runs_in: dict[str, str] = {}
    for kernel in sorted(kernels, key=lambda item: item.multiplies):  # the one that multiplies has the last word
        runs_in.update(dict.fromkeys(kernel.nodes, kernel.precision))
    # any INT8 kernel of a quantised node will do: the bias and the activation are kernels of their own on RTX
    int8 = {node for kernel in kernels if kernel.precision == "int8" for node in kernel.nodes}
    quantised = set(quantised_nodes(model))
    for node in _products(model):
        found = runs_in.get(node.name, "unknown")
        if node.name in quantised:
            if node.name not in int8:
                yield Fallback(node=node.name, wanted="int8", runs_in=found)
        elif found == "fp32" and precision != "fp32":
            yield Fallback(node=node.name, wanted="bf16" if precision == "bf16" else "fp16", runs_in=found)


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
    layers = _inspected(text).get("Layers")
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


def _inspected(text: str) -> dict[str, object]:
    # not msgspec: on an H200 8.6's answer was no JSON. What broke it is unknown; others report bare control characters
    # between the ONNX nodes of a kernel (NVIDIA/TensorRT#2779), which a lenient reader takes
    try:
        found = json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        around = repr(text[max(error.pos - 30, 0) : error.pos + 30])
        raise VerifyError(
            "the engine inspector's answer cannot be read", value=f"{error.msg} at {error.pos}: {around}"
        ) from None
    if not isinstance(found, dict):
        raise VerifyError("the engine inspector's answer cannot be read", value=text[:60])
    return found


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


def _type(text: str) -> str:
    words = re.findall(r"[a-z0-9]+", text.lower())
    for name, aliases in _TYPES:
        if any(word in aliases for word in words):
            return name
    return text.lower() or "unknown"
