"""What stands around the network in the graph: from camera bytes to its input, and from its logits to the mask.

    frame -> Cast -> [Slice] -> Transpose -> [AveragePool] -> [Resize] -> [Pad] -> pixels
    scores -> ArgMax -> Cast -> [Slice] -> [nearest Resize] -> [Pad] -> Cast -> mask

The first Slice cuts the region of interest out, and the last Pad fills what lies outside of it with the ignore id.

The network itself (the *core*) reads `pixels`, float [N, 3, h, w], raw BGR values whose sides are multiples of the
stride, and gives `scores`, float [N, C, h, w]. Everything outside those two tensors is written here and nowhere else,
so fixing a frame size means cutting the core out and writing its surroundings anew.

Padding repeats the edge at the right and the bottom, on raw pixel values: mean and standard deviation are folded into
the stem, so the fold stays exact. The Cast comes first because TensorRT takes uint8 only directly before a Cast, and
the mask goes through float because it converts to uint8 from float alone. What was padded is cut off the one plane of
indices, not off the planes of all classes: measured in OpenVINO, that alone took 4 of 11 ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import onnx

from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.core.types import Region, Size
from edgeseg.graph.ir import FLOAT, UINT8, Dim, Graph, Value, from_model
from edgeseg.graph.meta import GEOMETRY_PREFIX, meta_from_props, meta_props
from edgeseg.graph.sizes import check_roi, check_size

FRAME = "frame"
MASK = "mask"
CONFIDENCE = "confidence"
PIXELS = "pixels"
"""The core's input: float [N, 3, h, w], BGR, 0 to 255."""
SCORES = "scores"
"""The core's output: float [N, C, h, w] logits at padded size."""

_P = GEOMETRY_PREFIX

Step = tuple[str, dict[str, Any], list[str]]
"""Operator, attributes, and inputs beside the running value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Sizes around a core.

    Attributes:
        stride: The core's sides must be multiples of this.
        frame_size: (H, W) of frame and mask; None leaves them symbolic.
        layers_size: (H, W) that the core sees before padding; None is the view's size.
        roi: Part of the frame that is segmented; None for all of it.
        outside: What the mask says outside of it.
        batch: Static batch; None leaves it symbolic.
        confidence: Whether to give the largest softmax as well.
    """

    stride: int
    frame_size: Size | None = None
    layers_size: Size | None = None
    roi: Region | None = None
    outside: int = 255
    batch: int | None = None
    confidence: bool = False

    @property
    def view_size(self) -> Size | None:
        """(H, W) of what is segmented: the region of interest, or the frame."""
        return self.frame_size if self.roi is None else self.roi[2:]

    @property
    def inner_size(self) -> Size | None:
        """What the core sees before padding, where it is static."""
        return self.layers_size or self.view_size

    @property
    def padded_size(self) -> Size | None:
        """What the core sees, where it is static."""
        inner = self.inner_size
        return None if inner is None else (_up(inner[0], self.stride), _up(inner[1], self.stride))


def attach(core: Graph, geometry: Geometry) -> Graph:
    """Write the surroundings of a core.

    Args:
        core: Reads `pixels` and gives `scores`.
        geometry: The sizes.

    Returns:
        A graph with input `frame` uint8 [N, H, W, 3] and outputs `mask` uint8 [N, H, W] and, where asked for,
        `confidence` uint8 [N, H, W].
    """
    graph = core.copy()
    batch: Dim = geometry.batch if geometry.batch is not None else "batch"
    height, width = _frame_dims(geometry)
    graph.inputs = [Value(FRAME, UINT8, (batch, height, width, 3))]
    graph.outputs = [Value(MASK, UINT8, (batch, height, width))]
    _write_input(graph, geometry)
    _write_mask(graph, geometry)
    if geometry.confidence:
        graph.outputs.append(Value(CONFIDENCE, UINT8, (batch, height, width)))
        _write_confidence(graph, geometry)
    return graph


def detach(graph: Graph) -> Graph:
    """The core of a graph: what lies between `pixels` and `scores`.

    Raises:
        VerifyError: The graph has no such tensors.
    """
    core = graph.copy()
    produced = core.producers()
    if PIXELS not in produced or SCORES not in produced:
        raise VerifyError("the model is not a canonical graph", value=f"it has no tensors {PIXELS} and {SCORES}")
    core.remove([produced[PIXELS]])
    core.inputs = [Value(PIXELS, FLOAT, ("batch", 3, "height", "width"))]
    core.outputs = [Value(SCORES, FLOAT, ("batch", "classes", "height", "width"))]
    core.prune()
    return core


def fix_frame_size(
    model: onnx.ModelProto,
    frame_size: Size,
    network_size: Size | None = None,
    batch: int = 1,
    *,
    confidence: bool | None = None,
    roi: Region | None = None,
) -> onnx.ModelProto:
    """A model with static sizes, by graph surgery.

    Args:
        model: As `load_model` gave it; of symbolic or of another fixed size.
        frame_size: (H, W) of `frame` and `mask`.
        network_size: (H, W) that the layers see; by default that of the frame or of the region of interest, so nothing
            is resized. Any other size puts the resize into the graph: linear, half-pixel centres, a reduction by 2 or
            more through AveragePool first.
        batch: Frames a call.
        confidence: Whether to give the output `confidence`; by default as the model has it.
        roi: Part of the frame that is segmented; outside of it the mask is the ignore id and the confidence 0.

    Returns:
        A new model; where the layers' sides are multiples of the stride it has neither Pad nor Slice.

    Raises:
        RequestError: A size that cannot be.
        VerifyError: The model is not a canonical graph.
    """
    graph = from_model(model)
    meta = meta_from_props(graph.props)
    if roi is not None:
        check_roi(roi, frame_size)
    view_size = frame_size if roi is None else roi[2:]
    for size in (frame_size, view_size, network_size or view_size):
        check_size(size)
    if not 1 <= batch <= 256:
        raise RequestError("the batch cannot be", value=batch, allowed="1 to 256")
    layers = None if network_size in (None, view_size) else network_size
    geometry = Geometry(
        stride=meta.stride,
        frame_size=frame_size,
        layers_size=layers,
        roi=roi,
        outside=meta.classes.ignore_id,
        batch=batch,
        confidence=meta.confidence if confidence is None else confidence,
    )
    core = detach(graph)
    fixed = attach(core, geometry)
    changed = msgspec.structs.replace(
        meta,
        frame_size=frame_size,
        layers_size=network_size or view_size,
        roi=roi,
        batch=batch,
        confidence=geometry.confidence,
    )
    fixed.props = {**graph.props, **meta_props(changed)}
    return fixed.to_model()


# ---------------------------------------------------------------- frame to pixels


def _frame_dims(geometry: Geometry) -> tuple[Dim, Dim]:
    return geometry.frame_size or ("height", "width")


def _write_input(graph: Graph, geometry: Geometry) -> None:
    cast: Step = ("Cast", {"to": FLOAT}, [])
    write_steps(graph, FRAME, [cast, *plane_steps(graph, geometry)], PIXELS)


def write_steps(graph: Graph, x: str, steps: list[Step], name: str) -> None:
    """Operators one after the other; the last one gives the tensor `name`."""
    prefix = _prefix(name)
    for number, (op, attrs, extra) in enumerate(steps):
        last = number == len(steps) - 1
        x = graph.add(op, [x, *extra], name if last else f"{prefix}{op.lower()}{number}", **attrs)


def plane_steps(
    graph: Graph, geometry: Geometry, sub: Size = (1, 1), padded_sub: Size = (1, 1), name: str = PIXELS
) -> list[Step]:
    """What makes of a float plane [N, H, W, C] what the layers see, [N, C, h, w].

    In this order TensorRT makes one kernel of all of it; `edgeseg.graph.forms` has another for CPUs.

    Args:
        graph: Gets the constants.
        geometry: Sizes in frame pixels.
        sub: Height and width of the plane's pixels, in frame pixels: (2, 2) for the chroma of NV12, (1, 2) of YUYV.
        padded_sub: The same behind the resize, in pixels of the layers.
        name: Tensor that will be written; distinguishes the planes' constants.
    """
    to_nchw: Step = ("Transpose", {"perm": [0, 3, 1, 2]}, [])
    resize = _resize_steps(graph, geometry, sub, padded_sub, name)
    return [*_roi_steps(graph, geometry, sub, name), to_nchw, *resize, *_pad_steps(graph, geometry, padded_sub, name)]


def _roi_steps(graph: Graph, geometry: Geometry, sub: Size, name: str) -> list[Step]:
    """From the frame to its region of interest."""
    if geometry.roi is None:
        return []
    prefix = _prefix(name)
    top, left, height, width = geometry.roi
    starts = graph.constant(f"{prefix}roi_starts", [top // sub[0], left // sub[1]])
    ends = graph.constant(f"{prefix}roi_ends", [(top + height) // sub[0], (left + width) // sub[1]])
    axes = graph.constant(f"{_P}roi_axes", [1, 2])
    return [("Slice", {}, [starts, ends, axes])]


def _pad_steps(graph: Graph, geometry: Geometry, sub: Size, name: str) -> list[Step]:
    """To a multiple of the stride."""
    prefix = _prefix(name)
    inner, padded = geometry.inner_size, geometry.padded_size
    if inner is not None and padded is not None:
        if inner == padded:
            return []
        missing = [(large - small) // side for small, large, side in zip(inner, padded, sub, strict=True)]
        pads = graph.constant(f"{prefix}pads", [0, 0, 0, 0, 0, 0, *missing])
        return [("Pad", {"mode": "edge"}, [pads])]
    # pads = (-size) mod stride, of the symbolic frame
    shape = graph.add("Shape", [FRAME], f"{_P}size", start=1, end=3)
    negative = graph.add("Neg", [shape], f"{_P}size_negative")
    stride = graph.constant(f"{_P}stride", [geometry.stride])
    rest = graph.add("Mod", [negative, stride], f"{_P}missing")
    zeros = graph.constant(f"{_P}zeros", [0] * 6)
    pads = graph.add("Concat", [zeros, rest], f"{_P}pads", axis=0)
    return [("Pad", {"mode": "edge"}, [pads])]


def _resize_steps(graph: Graph, geometry: Geometry, sub: Size, padded_sub: Size, name: str) -> list[Step]:
    """From the view's size to the layers'."""
    view_size = geometry.view_size
    if geometry.layers_size is None or view_size is None or geometry.layers_size == view_size:
        return []
    prefix = _prefix(name)
    before = [view // side for view, side in zip(view_size, sub, strict=True)]
    after = [layers // side for layers, side in zip(geometry.layers_size, padded_sub, strict=True)]
    steps: list[Step] = []
    # a linear Resize reads two pixels a side, so it aliases beyond a factor of 2; the mean of whole cells does not
    cells = [large // small if large > 2 * small else 1 for large, small in zip(before, after, strict=True)]
    pooled = [math.ceil(large / cell) for large, cell in zip(before, cells, strict=True)]
    spare = [cell * count - large for large, cell, count in zip(before, cells, pooled, strict=True)]
    if any(spare):
        pads = graph.constant(f"{prefix}cell_pads", [0, 0, 0, 0, 0, 0, *spare])
        steps.append(("Pad", {"mode": "edge"}, [pads]))
    if cells != [1, 1]:
        steps.append(("AveragePool", {"kernel_shape": cells, "strides": cells}, []))
    if pooled != after:
        # scales, not sizes: an incomplete last cell must not stretch the picture
        exact = [small * cell / large for large, small, cell in zip(before, after, cells, strict=True)]
        scales = [_scale(*item) for item in zip(exact, pooled, after, strict=True)]
        constant = graph.constant(f"{prefix}scales", np.array([1, 1, *scales], np.float32))
        attrs = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        steps.append(("Resize", attrs, ["", constant]))
    return steps


def _prefix(name: str) -> str:
    """Prefix of the inner names that lead to a plane: the BGR plane has none of its own."""
    return _P if name == PIXELS else f"{_P}{name.removeprefix(PIXELS + '.')}_"


def _scale(exact: float, before: int, after: int) -> float:
    """The float32 nearest to `exact` for which floor(before * scale) is `after`, in float and in double arithmetic."""
    scale = np.float32(exact)
    while math.floor(np.float32(before) * scale) < after or math.floor(before * float(scale)) < after:
        scale = np.nextafter(scale, np.float32(np.inf))
    return float(scale)


# ---------------------------------------------------------------- scores to mask


def _write_mask(graph: Graph, geometry: Geometry) -> None:
    keep = int(geometry.layers_size is not None)
    index = graph.add("ArgMax", [SCORES], f"{_P}index", axis=1, keepdims=keep)
    value = graph.add("Cast", [index], f"{_P}index_float", to=FLOAT)
    graph.add("Cast", [_write_to_frame(graph, geometry, value, MASK, geometry.outside)], MASK, to=UINT8)


def _write_confidence(graph: Graph, geometry: Geometry) -> None:
    keep = int(geometry.layers_size is not None)
    softmax = graph.add("Softmax", [SCORES], f"{_P}softmax", axis=1)
    largest = graph.add("ReduceMax", [softmax], f"{_P}largest", axes=[1], keepdims=keep)
    bytes_a_unit = graph.constant(f"{_P}255", np.array(255, np.float32))
    scaled = graph.add("Mul", [largest, bytes_a_unit], f"{_P}confidence_scaled")
    value = graph.add("Round", [scaled], f"{_P}confidence_float")
    graph.add("Cast", [_write_to_frame(graph, geometry, value, CONFIDENCE, 0)], CONFIDENCE, to=UINT8)


def _write_to_frame(graph: Graph, geometry: Geometry, value: str, what: str, outside: int) -> str:
    """From padded to frame size: cut, enlarged where the layers see another size, `outside` around the region."""
    value = _write_cut(graph, geometry, value, what)
    if geometry.layers_size is not None:
        value = _write_nearest(graph, geometry, value, what)
    if geometry.roi is None or geometry.frame_size is None:
        return value
    top, left, height, width = geometry.roi
    below, right = geometry.frame_size[0] - top - height, geometry.frame_size[1] - left - width
    pads = graph.constant(f"{_P}roi_pads", [0, top, left, 0, below, right])
    fill = graph.constant(f"{_P}{what}_outside", np.array(outside, np.float32))
    return graph.add("Pad", [value, pads, fill], f"{_P}{what}_frame", mode="constant")


def _write_cut(graph: Graph, geometry: Geometry, value: str, what: str) -> str:
    inner, padded = geometry.inner_size, geometry.padded_size
    if inner is not None and inner == padded:
        return value
    starts = graph.constant(f"{_P}starts", [0, 0])
    ends = f"{_P}size" if inner is None else graph.constant(f"{_P}ends", list(inner))
    axes = graph.constant(f"{_P}axes", [1, 2] if geometry.layers_size is None else [2, 3])
    return graph.add("Slice", [value, starts, ends, axes], f"{_P}{what}_cut")


def _write_nearest(graph: Graph, geometry: Geometry, value: str, what: str) -> str:
    """[N, 1, h, w] to the view's [N, H, W]: pixel i takes the cell that its centre lies in."""
    assert geometry.layers_size is not None
    assert geometry.view_size is not None
    sides = zip(geometry.view_size, geometry.layers_size, strict=True)
    scales = [_scale(view / layers, layers, view) for view, layers in sides]
    back = graph.constant(f"{_P}scales_back", np.array([1, 1, *scales], np.float32))
    large = graph.add(
        "Resize",
        [value, "", back],
        f"{_P}{what}_large",
        mode="nearest",
        coordinate_transformation_mode="half_pixel",
        nearest_mode="round_prefer_floor",
    )
    return graph.add("Squeeze", [large, graph.constant(f"{_P}axis1", [1])], f"{_P}{what}_plane")


def _up(side: int, stride: int) -> int:
    return -(-side // stride) * stride
