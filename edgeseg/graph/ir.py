"""A graph in memory: named nodes, numpy constants, and the way to an ONNX model and back.

Every part of edgeseg that writes or rewrites ONNX does it through `Graph`, so that one place decides how things are
named and stored. A node's first output bears the node's own name: `encoder.2.1.pw1` is both the layer and the tensor
that it gives, which is what ranges, placement and layer audits speak of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeseg.core.errors import VerifyError

Array = NDArray[Any]
Dim = int | str
"""A size, or the name of a symbolic one."""

FLOAT = int(onnx.TensorProto.FLOAT)
FLOAT16 = int(onnx.TensorProto.FLOAT16)
BFLOAT16 = int(onnx.TensorProto.BFLOAT16)
UINT8 = int(onnx.TensorProto.UINT8)
INT8 = int(onnx.TensorProto.INT8)
INT64 = int(onnx.TensorProto.INT64)

OPSET = 17
"""Opset of the canonical graph: the newest that TensorRT 8.6 reads, the first with LayerNormalization."""

# the oldest IR version that carries each opset (onnx/docs/Versioning.md): older runtimes refuse newer containers
_IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}


@dataclass(slots=True)
class Value:
    """An input or output of a graph: name, ONNX element type and dimensions."""

    name: str
    elem: int
    shape: tuple[Dim, ...]


@dataclass(slots=True)
class Node:
    """One operator. `name` equals the first output; an empty input name is an optional input left out."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    domain: str = ""

    @property
    def name(self) -> str:
        """The layer's name: that of its first output."""
        return self.outputs[0]


@dataclass(slots=True)
class Graph:
    """Nodes, constants, inputs and outputs; `props` are the model's metadata_props.

    The order of `nodes` need not be topological while a rewrite is under way: `to_model` sorts.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    props: dict[str, str] = field(default_factory=dict)
    name: str = "edgeseg"
    opset: int = OPSET

    # ------------------------------------------------------------ writing

    def constant(self, name: str, value: Array | Sequence[int] | Sequence[float]) -> str:
        """Store a constant; Python integers become int64. Returns its name.

        Raises:
            ValueError: The name is taken by another value.
        """
        array = np.asarray(value)
        if name in self.constants and not _same(self.constants[name], array):
            raise ValueError(f"constant {name} exists with another value")
        self.constants[name] = array
        return name

    def add(self, op: str, inputs: Sequence[str], name: str, *, outputs: Sequence[str] = (), **attrs: Any) -> str:
        """Append a node whose first output is `name`; `outputs` are further ones. Returns `name`."""
        self.nodes.append(Node(op, list(inputs), [name, *outputs], dict(attrs)))
        return name

    # ------------------------------------------------------------ reading

    def producers(self) -> dict[str, Node]:
        """The node that writes each tensor."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each tensor, in order, each once per tensor."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    found.setdefault(name, []).append(node)
        return found

    def output_names(self) -> set[str]:
        """Names of the graph's outputs."""
        return {value.name for value in self.outputs}

    def weight(self, node: Node, index: int = 1) -> Array | None:
        """The constant behind one input of a node, looking through a Q/DQ pair; None where it is not constant."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return None
        name = node.inputs[index]
        producers = (
            {output: item for item in self.nodes for output in item.outputs} if name not in self.constants else {}
        )
        while name not in self.constants:
            source = producers.get(name)
            if source is None or source.op not in ("DequantizeLinear", "QuantizeLinear", "Cast"):
                return None
            name = source.inputs[0]
        return self.constants[name]

    # ------------------------------------------------------------ editing

    def rename_input(self, old: str, new: str, *, only: Iterable[Node] | None = None) -> None:
        """Let every reader of tensor `old` (or only the given nodes) read `new`; graph outputs stay as they are."""
        for node in self.nodes if only is None else only:
            node.inputs = [new if name == old else name for name in node.inputs]

    def remove(self, nodes: Iterable[Node]) -> None:
        """Take nodes out (by identity)."""
        gone = {id(node) for node in nodes}
        self.nodes = [node for node in self.nodes if id(node) not in gone]

    def prune(self) -> None:
        """Remove nodes and constants that no output needs."""
        producers = self.producers()
        needed: set[str] = set()
        keep: set[int] = set()
        pending = [value.name for value in self.outputs]
        while pending:
            name = pending.pop()
            if not name or name in needed:
                continue
            needed.add(name)
            node = producers.get(name)
            if node is not None:
                keep.add(id(node))
                pending.extend(node.inputs)
        self.nodes = [node for node in self.nodes if id(node) in keep]
        self.constants = {name: value for name, value in self.constants.items() if name in needed}

    def sort(self) -> None:
        """Order the nodes topologically, keeping the present order where it is free.

        Raises:
            ValueError: A tensor that nothing produces, or a cycle.
        """
        ready = {"", *self.constants, *(value.name for value in self.inputs)}
        pending = list(self.nodes)
        ordered: list[Node] = []
        while pending:
            later = []
            for node in pending:
                if all(name in ready for name in node.inputs):
                    ordered.append(node)
                    ready.update(node.outputs)
                else:
                    later.append(node)
            if len(later) == len(pending):
                missing = next(name for name in later[0].inputs if name not in ready)
                raise ValueError(f"node {later[0].name} reads {missing}, which nothing before it produces")
            pending = later
        self.nodes = ordered

    def copy(self) -> Graph:
        """A copy whose nodes and lists are its own; constant arrays are shared and must not be written into."""
        return Graph(
            nodes=[Node(n.op, list(n.inputs), list(n.outputs), dict(n.attrs), n.domain) for n in self.nodes],
            constants=dict(self.constants),
            inputs=[Value(v.name, v.elem, v.shape) for v in self.inputs],
            outputs=[Value(v.name, v.elem, v.shape) for v in self.outputs],
            props=dict(self.props),
            name=self.name,
            opset=self.opset,
        )

    # ------------------------------------------------------------ ONNX

    def to_model(self) -> onnx.ModelProto:
        """The graph as an ONNX model: pruned, sorted, checked, with the shapes that inference finds.

        Raises:
            ValueError: The graph is not sound (a fault of the code that wrote it).
        """
        self.prune()
        self.sort()
        proto = helper.make_graph(
            [_node_proto(node) for node in self.nodes],
            self.name,
            [helper.make_tensor_value_info(v.name, v.elem, v.shape) for v in self.inputs],
            [helper.make_tensor_value_info(v.name, v.elem, v.shape) for v in self.outputs],
            [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in self.constants.items()],
        )
        model = helper.make_model(
            proto,
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=_IR_VERSIONS[self.opset],
            producer_name="edgeseg",
        )
        helper.set_model_props(model, self.props)
        try:
            model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
            onnx.checker.check_model(model)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ValueError(f"the graph that was written is not valid ONNX: {error}") from error
        return model


def from_model(model: onnx.ModelProto) -> Graph:
    """Read an ONNX model into a `Graph`; Constant nodes become constants.

    Raises:
        VerifyError: Sub-graphs, sparse or quoted tensors, or functions: nothing that edgeseg writes has them.
    """
    graph = model.graph
    if model.functions or graph.sparse_initializer or graph.quantization_annotation:
        raise VerifyError("the model has parts that edgeseg does not write", allowed="plain nodes and initializers")
    result = Graph(name=graph.name, opset=model_opset(model))
    result.props = {prop.key: prop.value for prop in model.metadata_props}
    for tensor in graph.initializer:
        result.constants[tensor.name] = numpy_helper.to_array(tensor)
    for proto in graph.node:
        attrs = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
        if proto.op_type == "Constant" and not proto.domain and "value" in attrs:
            result.constants[proto.output[0]] = numpy_helper.to_array(attrs["value"])
        else:
            result.nodes.append(Node(proto.op_type, list(proto.input), list(proto.output), attrs, proto.domain))
    constants = result.constants
    result.inputs = [_value(item) for item in graph.input if item.name not in constants]
    result.outputs = [_value(item) for item in graph.output]
    return result


def model_opset(model: onnx.ModelProto) -> int:
    """The model's version of the default operator set."""
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            return int(opset.version)
    raise VerifyError("the model names no operator set", allowed="a whole ONNX file")


def inferred_values(model: onnx.ModelProto) -> list[Value]:
    """Type and dimensions of inner tensors, as shape inference left them in the model."""
    return list(_values(model.graph.value_info))


def _values(items: Iterable[onnx.ValueInfoProto]) -> Iterator[Value]:
    return (_value(item) for item in items)


def _value(item: onnx.ValueInfoProto) -> Value:
    tensor = item.type.tensor_type
    dims = tuple(int(d.dim_value) if d.HasField("dim_value") else str(d.dim_param) for d in tensor.shape.dim)
    return Value(item.name, int(tensor.elem_type), dims)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        raise VerifyError("the model has sub-graphs", value=attribute.name, allowed="plain nodes and initializers")
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | onnx.TensorProto) else value


def _node_proto(node: Node) -> onnx.NodeProto:
    attrs: Mapping[str, Any] = {key: value for key, value in node.attrs.items() if value is not None}
    return helper.make_node(node.op, node.inputs, node.outputs, name=node.name, domain=node.domain, **attrs)


def _same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
