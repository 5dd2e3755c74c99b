"""Camera formats: NV12 and YUYV bytes straight into the stem.

The conversion from YUV to RGB is affine (ITU-R BT.601-7 and BT.709-6, section 3), and chroma is the same for the pixels
that share it, so a stem without overlap takes it in exactly: one convolution over luma, one over chroma, added. What
the converted picture would lose to rounding and to clipping at 0 and 255, this form keeps.

A stem of another kind gets its BGR pixels from a 1x1 convolution in the graph; the model's notes say which it is.
"""

from __future__ import annotations

import msgspec
import numpy as np
import onnx

from edgeseg.core.errors import RequestError
from edgeseg.core.types import Colour, InputFormat, format_size
from edgeseg.graph.geometry import FRAME, PIXELS, Geometry, Step, plane_steps, write_steps
from edgeseg.graph.ir import FLOAT, UINT8, Array, Graph, Node, Value, from_model
from edgeseg.graph.meta import GEOMETRY_PREFIX, ModelMeta, meta_from_props, meta_props

_P = GEOMETRY_PREFIX
LUMA, CHROMA = "pixels.y", "pixels.uv"
"""The core's inputs: float [N, 1, h, w] and float [N, 2, h / v, w / 2], raw bytes; v is 2, or 1 for YUYV."""


def camera_input(model: onnx.ModelProto, input_format: InputFormat, colour: Colour | None = None) -> onnx.ModelProto:
    """A model that takes a camera's own bytes instead of BGR.

    Args:
        model: A canonical graph of fixed frame size, as `fix_frame_size` gave it.
        input_format: `nv12`: inputs `y` uint8 [N, H, W, 1] and `uv` uint8 [N, H/2, W/2, 2]. `yuyv`: input `frame`
            uint8 [N, H, W, 2], as V4L2 gives it. `bgr` returns the model as it is.
        colour: What the bytes mean; by default BT.601, limited range, as OpenCV takes it.

    Raises:
        RequestError: The model's size is not fixed or already another format, or a side is odd.
    """
    graph = from_model(model)
    meta = meta_from_props(graph.props)
    if input_format == meta.input_format:
        return model
    if meta.input_format != "bgr" or meta.frame_size is None or meta.batch is None or PIXELS not in graph.producers():
        raise RequestError(
            "the model cannot take another input", value=input_format, allowed="a model of fixed frame size and BGR"
        )
    colour = colour or Colour()
    _check_even(meta)
    _drop_input(graph)
    # YUYV halves chroma in width only, until a resize brings both planes to the layers' size
    resized = meta.layers_size not in (None, meta.frame_size if meta.roi is None else meta.roi[2:])
    rows = 2 if input_format == "nv12" or resized else 1
    _write_planes(graph, meta, input_format, rows)
    folded = _fold_stem(graph, colour, rows)
    if not folded:
        _write_conversion(graph, colour, rows)
    notes = {
        **meta.notes,
        "colour": str(colour),
        "colour_conversion": "folded into the stem" if folded else "1x1 convolution before the stem",
    }
    graph.props.update(
        meta_props(msgspec.structs.replace(meta, input_format=input_format, notes=notes, variant="rewritten"))
    )
    return graph.to_model()


def _check_even(meta: ModelMeta) -> None:
    sizes = {"frame size": meta.frame_size, "network size": meta.layers_size}
    if meta.roi is not None:
        sizes |= {"corner of the region of interest": meta.roi[:2], "size of it": meta.roi[2:]}
    for what, size in sizes.items():
        if size is not None and (size[0] % 2 or size[1] % 2):
            raise RequestError(f"chroma needs an even {what}", value=format_size(size), allowed="even height and width")


# ---------------------------------------------------------------- bytes to planes


def _drop_input(graph: Graph) -> None:
    """Remove what leads from `frame` to `pixels`."""
    producers = graph.producers()
    name = PIXELS
    while name != FRAME:
        node = producers[name]
        graph.remove([node])
        name = node.inputs[0]


def _write_planes(graph: Graph, meta: ModelMeta, input_format: InputFormat, rows: int) -> None:
    assert meta.frame_size is not None
    batch = meta.batch or 1
    height, width = meta.frame_size
    geometry = Geometry(stride=meta.stride, frame_size=meta.frame_size, layers_size=meta.layers_size, roi=meta.roi)
    cast: Step = ("Cast", {"to": FLOAT}, [])
    if input_format == "nv12":
        graph.inputs = [
            Value("y", UINT8, (batch, height, width, 1)),
            Value("uv", UINT8, (batch, height // 2, width // 2, 2)),
        ]
        write_steps(graph, "y", [cast, *plane_steps(graph, geometry, name=LUMA)], LUMA)
        write_steps(graph, "uv", [cast, *plane_steps(graph, geometry, (2, 2), (rows, 2), CHROMA)], CHROMA)
        return
    # each four bytes are Y0 U Y1 V
    graph.inputs = [Value(FRAME, UINT8, (batch, height, width, 2))]
    value = graph.add("Cast", [FRAME], f"{_P}bytes", to=FLOAT)
    quads = graph.constant(f"{_P}quads", [batch, height, width // 2, 4])
    value = graph.add("Reshape", [value, quads], f"{_P}pairs")
    plane: Step = ("Reshape", {}, [graph.constant(f"{_P}luma_shape", [batch, height, width, 1])])
    first = graph.add("Gather", [value, graph.constant(f"{_P}luma_bytes", [0, 2])], f"{_P}luma", axis=3)
    write_steps(graph, first, [plane, *plane_steps(graph, geometry, name=LUMA)], LUMA)
    second = graph.add("Gather", [value, graph.constant(f"{_P}chroma_bytes", [1, 3])], f"{_P}chroma", axis=3)
    write_steps(graph, second, plane_steps(graph, geometry, (1, 2), (rows, 2), CHROMA), CHROMA)


# ---------------------------------------------------------------- planes to the network


def _fold_stem(graph: Graph, colour: Colour, rows: int) -> bool:
    """Let the convolutions that read pixels read luma and chroma; False where one of them overlaps."""
    readers = graph.consumers()[PIXELS]
    if not all(_is_patchify(graph, node) for node in readers):
        return False
    for node in readers:
        graph.remove([node])
        weight, bias = (graph.constants[name].astype(np.float64) for name in node.inputs[1:3])
        matrix, offset = colour.to_bgr()
        luma = np.einsum("ocij,c->oij", weight, matrix[:, 0])[:, None]
        spread = np.einsum("ocij,cu->ouij", weight, matrix[:, 1:])
        out, _, height, width = spread.shape
        cells = spread.reshape(out, 2, height // rows, rows, width // 2, 2).sum(axis=(3, 5))
        shift = bias + np.einsum("ocij,c->o", weight, offset)
        parts = [_write_part(graph, node, LUMA, luma, shift), _write_part(graph, node, CHROMA, cells, None)]
        graph.add("Add", parts, node.name)
    return True


def _write_part(graph: Graph, node: Node, plane: str, weight: Array, bias: Array | None) -> str:
    name = f"{node.name}{plane.removeprefix(PIXELS)}"
    inputs = [plane, graph.constant(f"{name}.weight", weight.astype(np.float32))]
    if bias is not None:
        inputs.append(graph.constant(f"{name}.bias", bias.astype(np.float32)))
    kernel = list(weight.shape[2:])
    return graph.add("Conv", inputs, name, kernel_shape=kernel, strides=kernel, pads=[0] * 4, group=1)


def _is_patchify(graph: Graph, node: Node) -> bool:
    if node.op != "Conv" or len(node.inputs) != 3 or node.inputs[1] not in graph.constants:
        return False
    kernel = list(graph.constants[node.inputs[1]].shape[2:])
    strides, pads = node.attrs.get("strides"), node.attrs.get("pads", [])
    return kernel == strides and not any(pads) and all(side % 2 == 0 for side in kernel)


def _write_conversion(graph: Graph, colour: Colour, rows: int) -> None:
    """BGR pixels from both planes: chroma repeated, then one 1x1 convolution."""
    matrix, offset = colour.to_bgr()
    scales = graph.constant(f"{_P}chroma_scales", np.array([1, 1, rows, 2], np.float32))
    corners, floor = "asymmetric", "floor"
    large = graph.add(
        "Resize",
        [CHROMA, "", scales],
        f"{_P}chroma_large",
        mode="nearest",
        coordinate_transformation_mode=corners,
        nearest_mode=floor,
    )
    yuv = graph.add("Concat", [LUMA, large], f"{_P}yuv", axis=1)
    weight = graph.constant(f"{_P}colour.weight", matrix.astype(np.float32)[:, :, None, None])
    bias = graph.constant(f"{_P}colour.bias", offset.astype(np.float32))
    graph.add("Conv", [yuv, weight, bias], PIXELS, kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4, group=1)
