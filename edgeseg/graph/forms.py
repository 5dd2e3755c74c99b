"""Exact rewrites: other ways to write the same computation, to be chosen for each target by measurement.

A rewrite keeps the names of tensors that other layers read, so ranges measured on the canonical graph serve every form.
They are applied to a model before Q/DQ nodes are inserted; the choice is kept in the model's metadata.
`tools/compare_forms.py` measures them.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import onnx

from edgeseg.graph.ir import Graph, Node, from_model, inferred_values
from edgeseg.graph.meta import meta_from_props, meta_props
from edgeseg.graph.phases import write_phases

# what a form appends to the name of a layer that it writes as several, for the part that computes
_SUFFIXES = (".cells", ".product")
TO_NHWC = [0, 2, 3, 1]
TO_NCHW = [0, 3, 1, 2]

# elementwise operators that do not care where the channels are, as long as their constants follow
_ELEMENTWISE = frozenset({"Relu", "Erf", "Tanh", "HardSwish", "Add", "Sub", "Mul", "Div", "Pow"})


class Forms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One exact form for each part that has several.

    Attributes:
        transposed: A 2x2 transposed convolution of stride 2 as one node; or a 1x1 convolution and DepthToSpace(CRD),
            which TensorRT runs in INT8; or a 1x1 convolution and a move of whole pixels, channels last, which ONNX
            Runtime runs in its blocked layout (needs a fixed size).
        pointwise: The 1x1 convolutions of ConvNeXt blocks as such, or as matrix products over NHWC.
        layer_norm: One node, or its parts: TensorRT 8.5 has no importer for the node, and OpenVINO runs edge-s-ln 15 %
            faster without the transpositions around it.
        tail: Enlarged logits and ArgMax, or ArgMax of each phase of the enlargement and depth-to-space of the winners;
            needs a fixed size.
        pad: Padding of planes behind the transposition, which TensorRT fuses into one kernel; or of whole pixels before
            it, while they are bytes: they reach the stem channels-last, as CPU convolutions want them, and TensorRT,
            which takes bytes only directly before a Cast, does not read it. Needs a fixed size.
    """

    transposed: Literal["node", "shuffle", "blocks"] = "node"
    pointwise: Literal["conv", "matmul"] = "conv"
    layer_norm: Literal["node", "parts"] = "node"
    tail: Literal["argmax", "phases"] = "argmax"
    pad: Literal["planes", "pixels"] = "planes"


def canonical_name(layer: str) -> str:
    """The canonical name of a layer that an exact form may have renamed."""
    for suffix in _SUFFIXES:
        layer = layer.removesuffix(suffix)
    return layer


def apply_forms(model: onnx.ModelProto, forms: Forms) -> onnx.ModelProto:
    """A copy of a model with the forms that are asked for; parts that it does not have are passed over.

    Args:
        model: A canonical graph, of fixed or symbolic size, without Q/DQ nodes.
        forms: The forms.
    """
    graph = from_model(model)
    if forms.transposed == "shuffle":
        shuffle_transposed(graph)
    if forms.transposed == "blocks":
        block_transposed(graph)
    if forms.pointwise == "matmul":
        pointwise_products(graph)
    if forms.layer_norm == "parts":
        decompose_layer_norms(graph)
    if forms.tail == "phases":
        write_phases(graph)
    if forms.pad == "pixels":
        pad_pixels(graph)
    meta = meta_from_props(graph.props)
    chosen = {name: value for name, value in msgspec.structs.asdict(forms).items() if value != getattr(Forms(), name)}
    changed = msgspec.structs.replace(
        meta, forms={**meta.forms, **chosen}, variant="rewritten" if chosen else meta.variant
    )
    graph.props = {**graph.props, **meta_props(changed)}
    return graph.to_model()


# ---------------------------------------------------------------- padding


def pad_pixels(graph: Graph) -> None:
    """Padding by constants right behind a transposition to NCHW moves before it, in place.

    Where a Cast stands there it moves before that too: a frame's bytes are a quarter of its floats.
    """
    producers, readers = graph.producers(), graph.consumers()
    for node in [node for node in graph.nodes if node.op == "Pad" and node.inputs[1] in graph.constants]:
        turned = producers.get(node.inputs[0])
        if (
            turned is None
            or turned.op != "Transpose"
            or turned.attrs["perm"] != TO_NCHW
            or len(readers[turned.name]) > 1
        ):
            continue
        pads = graph.constants[node.inputs[1]].reshape(2, 4)[:, [0, 2, 3, 1]].reshape(-1)
        constant = graph.constant(f"{node.inputs[1]}.nhwc", np.ascontiguousarray(pads))
        graph.remove([turned, node])
        x, cast = turned.inputs[0], producers.get(turned.inputs[0])
        if cast is not None and cast.op == "Cast" and len(readers[x]) == 1 and node.attrs.get("mode") == "edge":
            graph.remove([cast])
            x = graph.add("Pad", [cast.inputs[0], constant], f"{x}.padded", **node.attrs)
            x = graph.add("Cast", [x], cast.name, **cast.attrs)
        else:
            x = graph.add("Pad", [x, constant], f"{turned.name}.padded", **node.attrs)
        graph.add("Transpose", [x], node.name, perm=TO_NCHW)


# ---------------------------------------------------------------- transposed convolution


def shuffle_transposed(graph: Graph) -> None:
    """2x2 transposed convolutions of stride 2 as 1x1 convolutions and depth-to-space, in place.

    Without overlap each input gives its own 2x2 cell: y[o, 2i+a, 2j+b] = sum_c x[c, i, j] w[c, o, a, b]. The new
    convolution is named `NAME.cells`.
    """
    for node in list(graph.nodes):
        if not _is_plain_transposed(graph, node):
            continue
        weight = graph.constants[node.inputs[1]]
        cells = f"{node.name}.cells"
        wide = np.ascontiguousarray(weight.transpose(1, 2, 3, 0).reshape(-1, weight.shape[0], 1, 1))
        bias = graph.constants[node.inputs[2]].repeat(4)
        inputs = [node.inputs[0], graph.constant(f"{cells}.weight", wide), graph.constant(f"{cells}.bias", bias)]
        graph.remove([node])
        graph.add("Conv", inputs, cells, kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4, group=1)
        graph.add("DepthToSpace", [cells], node.name, blocksize=2, mode="CRD")


def block_transposed(graph: Graph) -> None:
    """2x2 transposed convolutions of stride 2 as 1x1 convolutions and a move of whole pixels, in place.

    The convolution gives all four pixels of a cell, one behind the other; channels last, [N h, w, 2, 2 C] becomes
    [N h, 2, w, 2 C], which are the rows of the enlarged map. ONNX Runtime has no transposed convolution in its blocked
    layout (NCHWc) and leaves it before each; it computes the sum behind in that layout only where both operands are in
    it, and a product with one for each channel, exact and as cheap as a copy, is there for that alone.

    Where the size is symbolic nothing changes. The new convolution is named `NAME.cells`.
    """
    sizes = {value.name: value.shape for value in inferred_values(graph.to_model())}
    for node in [node for node in graph.nodes if _is_plain_transposed(graph, node)]:
        *_, height, width = sizes.get(node.inputs[0], ("height", "width"))
        if isinstance(height, int) and isinstance(width, int):
            _write_blocks(graph, node, height, width)


def _write_blocks(graph: Graph, node: Node, height: int, width: int) -> None:
    name, cells = node.name, f"{node.name}.cells"
    weight, bias = graph.constants[node.inputs[1]], graph.constants[node.inputs[2]]
    channels = weight.shape[1]
    wide = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0], 1, 1))
    inputs = [node.inputs[0], graph.constant(f"{cells}.weight", wide)]
    inputs.append(graph.constant(f"{cells}.bias", np.tile(bias, 4)))
    rows = graph.constant(f"{name}.rows_shape", [-1, width, 2, 2 * channels])
    enlarged = graph.constant(f"{name}.nhwc_shape", [-1, 2 * height, 2 * width, channels])
    graph.remove([node])
    graph.add("Conv", inputs, cells, kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4, group=1)
    x = graph.add("Transpose", [cells], f"{cells}.nhwc", perm=TO_NHWC)
    x = graph.add("Reshape", [x, rows], f"{cells}.rows")
    x = graph.add("Transpose", [x], f"{name}.rows", perm=[0, 2, 1, 3])
    x = graph.add("Reshape", [x, enlarged], f"{name}.nhwc")
    x = graph.add("Transpose", [x], f"{name}.nchw", perm=TO_NCHW)
    ones = graph.constant(f"{name}.ones", np.ones((channels, 1, 1, 1), np.float32))
    graph.add("Conv", [x, ones], name, kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4, group=channels)


def merge_shuffled(graph: Graph) -> None:
    """The inverse: a 1x1 convolution that only a DepthToSpace(CRD) of 2 reads becomes a transposed convolution."""
    producers, readers = graph.producers(), graph.consumers()
    for node in list(graph.nodes):
        conv = producers.get(node.inputs[0])
        if node.op != "DepthToSpace" or node.attrs.get("mode") != "CRD" or node.attrs["blocksize"] != 2:
            continue
        if conv is None or not _is_pointwise(graph, conv) or len(readers[conv.name]) > 1:
            continue
        weight, bias = graph.constants[conv.inputs[1]], graph.constants[conv.inputs[2]]
        cells = bias.reshape(-1, 4)
        if np.ptp(cells, axis=1).any():
            continue  # a transposed convolution has one bias a channel, not one a pixel of the cell
        narrow = np.ascontiguousarray(weight[:, :, 0, 0].reshape(-1, 2, 2, weight.shape[1]).transpose(3, 0, 1, 2))
        name = node.name
        inputs = [
            conv.inputs[0],
            graph.constant(f"{name}.weight", narrow),
            graph.constant(f"{name}.bias", np.ascontiguousarray(cells[:, 0])),
        ]
        graph.remove([node, conv])
        graph.add("ConvTranspose", inputs, name, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4, group=1)


def _is_plain_transposed(graph: Graph, node: Node) -> bool:
    return (
        node.op == "ConvTranspose"
        and len(node.inputs) == 3
        and graph.constants[node.inputs[1]].shape[2:] == (2, 2)
        and node.attrs.get("strides") == [2, 2]
        and not any(node.attrs.get("pads", []))
        and node.attrs.get("group", 1) == 1
    )


# ---------------------------------------------------------------- pointwise convolution


def pointwise_products(graph: Graph) -> None:
    """The pointwise convolutions of blocks (`….pw1`, `….pw2`) as matrix products over NHWC, in place.

    Each is wrapped in two transpositions; those move down through elementwise layers and cancel, so that a block with
    LayerNorm keeps two in all. A tensor that stays in NHWC keeps its name: its values are the same.
    """
    for node in list(graph.nodes):
        if node.name.endswith((".pw1", ".pw2")) and _is_pointwise(graph, node):
            _write_product(graph, node)
    _sink_transpositions(graph)
    _cancel_transpositions(graph)


def _is_pointwise(graph: Graph, node: Node) -> bool:
    return (
        node.op == "Conv"
        and len(node.inputs) == 3
        and node.inputs[1] in graph.constants
        and graph.constants[node.inputs[1]].shape[2:] == (1, 1)
        and node.attrs.get("strides", [1, 1]) == [1, 1]
        and node.attrs.get("group", 1) == 1
    )


def _write_product(graph: Graph, node: Node) -> None:
    name = node.name
    matrix = np.ascontiguousarray(graph.constants[node.inputs[1]][:, :, 0, 0].T)
    graph.remove([node])
    graph.rename_input(name, f"{name}.nchw")
    x = graph.add("Transpose", [node.inputs[0]], f"{name}.nhwc", perm=TO_NHWC)
    product = graph.add("MatMul", [x, graph.constant(f"{name}.matrix", matrix)], f"{name}.product")
    graph.add("Add", [product, node.inputs[2]], name)
    graph.add("Transpose", [name], f"{name}.nchw", perm=TO_NCHW)


def _sink_transpositions(graph: Graph) -> None:
    """Let elementwise layers work in NHWC where all that they read was just transposed from there."""
    graph.sort()
    for node in list(graph.nodes):
        if node.op not in _ELEMENTWISE or node.name in graph.output_names():
            continue
        producers = graph.producers()
        data = [name for name in node.inputs if name not in graph.constants]
        sources = [producers.get(name) for name in data]
        if not data or not all(s is not None and s.op == "Transpose" and s.attrs["perm"] == TO_NCHW for s in sources):
            continue
        moved = {name: _channels_last(graph, name) for name in node.inputs if name in graph.constants}
        if None in moved.values():
            continue
        origin = {name: source.inputs[0] for name, source in zip(data, sources, strict=True) if source is not None}
        node.inputs = [origin.get(name) or moved.get(name) or name for name in node.inputs]
        graph.rename_input(node.name, f"{node.name}.nchw")
        graph.add("Transpose", [node.name], f"{node.name}.nchw", perm=TO_NCHW)


def _channels_last(graph: Graph, name: str) -> str | None:
    """The constant for NHWC: a scalar is the same, [C, 1, 1] becomes [C]; None where it is neither."""
    value = graph.constants[name]
    if value.size == 1:
        return name
    if value.ndim >= 3 and value.size == value.shape[-3]:
        return graph.constant(f"{name}.nhwc", value.reshape(-1))
    return None


def _cancel_transpositions(graph: Graph) -> None:
    producers = graph.producers()
    for node in graph.nodes:
        if node.op != "Transpose" or node.attrs["perm"] != TO_NHWC:
            continue
        source = producers.get(node.inputs[0])
        if source is not None and source.op == "Transpose" and source.attrs["perm"] == TO_NCHW:
            graph.rename_input(node.name, source.inputs[0])
    graph.prune()


# ---------------------------------------------------------------- layer normalisation


def decompose_layer_norms(graph: Graph) -> None:
    """LayerNormalization as mean, variance, division, scale and shift (Ba et al. 2016, arXiv:1607.06450), in place.

    Between two transpositions the parts work on channels where they are, and the transpositions go.
    """
    producers, readers = graph.producers(), graph.consumers()
    for node in [node for node in graph.nodes if node.op == "LayerNormalization"]:
        before, after = producers.get(node.inputs[0]), readers.get(node.name, [])
        framed = (
            before is not None
            and before.op == "Transpose"
            and before.attrs["perm"] == TO_NHWC
            and len(after) == 1
            and after[0].op == "Transpose"
            and after[0].attrs["perm"] == TO_NCHW
        )
        graph.remove([node, after[0]] if framed else [node])
        x = before.inputs[0] if framed and before is not None else node.inputs[0]
        _write_parts(graph, node, x, after[0].name if framed else node.name, axis=1 if framed else -1)
    graph.prune()


def _write_parts(graph: Graph, node: Node, x: str, out: str, *, axis: int) -> None:
    name = node.name
    weight, bias = node.inputs[1], node.inputs[2]
    if axis == 1:
        weight = graph.constant(f"{weight}.nchw", graph.constants[weight][:, None, None])
        bias = graph.constant(f"{bias}.nchw", graph.constants[bias][:, None, None])
    epsilon = graph.constant(f"{name}.epsilon", np.array(node.attrs.get("epsilon", 1e-5), np.float32))
    mean = graph.add("ReduceMean", [x], f"{name}.mean", axes=[axis], keepdims=1)
    centred = graph.add("Sub", [x, mean], f"{name}.centred")
    square = graph.add("Mul", [centred, centred], f"{name}.square")
    variance = graph.add("ReduceMean", [square], f"{name}.variance", axes=[axis], keepdims=1)
    root = graph.add("Sqrt", [graph.add("Add", [variance, epsilon], f"{name}.shifted")], f"{name}.root")
    normal = graph.add("Div", [centred, root], f"{name}.normal")
    scaled = graph.add("Mul", [normal, weight], f"{name}.scaled")
    graph.add("Add", [scaled, bias], out)
