"""The tail of the network by phases: ArgMax at the small size, one index plane at the large one.

Enlarging logits by a whole factor f with half-pixel centres is linear in a 3x3 neighbourhood, with one kernel for each
of the f x f pixels of a cell: that many depthwise convolutions, each followed by ArgMax, and depth-to-space for the
winners alone. The enlarged logits, eleven planes for eleven classes, never exist.

OpenVINO spends 28 % (BF16) to 42 % (FP32) of edge-s on Resize and ArgMax: its Resize is slow for few channels, and its
FP32 ArgMax over channels that lie innermost takes 4 ms; over flattened planes it takes a sixth (360x480, two threads of
an AVX-512 CPU; tools/compare_forms.py measures both forms).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeseg.core.types import Size
from edgeseg.graph.geometry import SCORES, Geometry
from edgeseg.graph.ir import FLOAT, Array, Graph, Node
from edgeseg.graph.meta import GEOMETRY_PREFIX, meta_from_props

_P = GEOMETRY_PREFIX
EDGE = f"{SCORES}.edge"
"""The small logits with their edge repeated: what every phase reads."""
_PHASE = f"{SCORES}.phase"
_MAX_FACTOR = 4  # sixteen convolutions: beyond that their number costs more than the enlarged logits


def write_phases(graph: Graph) -> bool:
    """Rewrite the tail of a graph, in place.

    Returns:
        False where it does not apply, and nothing changed: the size is symbolic, or the network does not end with a
        linear enlargement by 2 or 4 of a convolution.
    """
    producers = graph.producers()
    enlarge, argmax = producers.get(SCORES), producers.get(f"{_P}index")
    if enlarge is None or argmax is None:
        return False
    factor = _linear_factor(graph, enlarge)
    classes = _channels(graph, producers.get(enlarge.inputs[0]))
    padded = _padded_size(graph)
    if not factor or not classes or padded is None:
        return False
    old = [producers[name] for name in (f"{_P}index_float", f"{_P}softmax", f"{_P}largest") if name in producers]
    graph.remove([enlarge, argmax, *old])
    planes = _write_phase_planes(graph, enlarge.inputs[0], classes, factor)
    cells = _Cells(factor, (padded[0] // factor, padded[1] // factor), bool(argmax.attrs["keepdims"]))
    winners = [graph.add("ArgMax", [plane], f"{_P}winner{key}", axis=1, keepdims=1) for key, plane in planes.items()]
    _write_plane(graph, winners, cells, f"{_P}index_float", cast=True)
    if f"{_P}largest" in producers:
        shares = [graph.add("Softmax", [plane], f"{_P}softmax{key}", axis=1) for key, plane in planes.items()]
        tops = [graph.add("ReduceMax", [share], f"{share}.max", axes=[1], keepdims=1) for share in shares]
        _write_plane(graph, tops, cells, f"{_P}largest", cast=False)
    return True


def is_phase(node: Node) -> bool:
    """Whether a node is the convolution of a phase: fixed weights of the enlargement, nothing to quantise."""
    return node.op == "Conv" and node.name.startswith(_PHASE)


def phase_kernels(factor: int) -> Array:
    """Weights of the pixels before, at and after, for each phase of an enlargement: float64 [factor, 3].

    Phase p of cell i lies at (p + 0.5) / factor - 0.5 from the cell's centre.
    """
    offset = (np.arange(factor) + 0.5) / factor - 0.5
    return np.stack([np.maximum(-offset, 0), 1 - np.abs(offset), np.maximum(offset, 0)], axis=1)


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cells of `factor` x `factor` pixels at (h, w); `keep` leaves a channel axis."""

    factor: int
    small: Size
    keep: bool


def _write_phase_planes(graph: Graph, x: str, classes: int, factor: int) -> dict[str, str]:
    """Logits [N, C, h, w] to those of each pixel of the cells, in row order: float [N, C, h w] each."""
    kernels = phase_kernels(factor)
    edge = graph.constant(f"{_P}edge", [0, 0, 1, 1, 0, 0, 1, 1])
    flat = graph.constant(f"{_P}flat", [0, classes, -1])
    padded = graph.add("Pad", [x, edge], EDGE, mode="edge")
    planes = {}
    for row in range(factor):
        for column in range(factor):
            name = f"{_PHASE}{row}{column}"
            kernel = np.outer(kernels[row], kernels[column]).astype(np.float32)
            weight = graph.constant(f"{name}.weight", np.tile(kernel, (classes, 1, 1, 1)))
            inputs = [padded, weight]
            graph.add("Conv", inputs, name, kernel_shape=[3, 3], strides=[1, 1], pads=[0] * 4, group=classes)
            # flattened, the channels lie outermost in every runtime's memory
            planes[f"{row}{column}"] = graph.add("Reshape", [name, flat], f"{name}.flat")
    return planes


def _write_plane(graph: Graph, parts: list[str], cells: _Cells, name: str, *, cast: bool) -> None:
    """[N, 1, h w] of each pixel of the cells to one plane: float [N, H, W], or [N, 1, H, W]."""
    factor = cells.factor
    value = graph.add("Concat", parts, f"{name}.parts", axis=1)
    if cast:
        value = graph.add("Cast", [value], f"{name}.values", to=FLOAT)
    shape = graph.constant(f"{_P}cells", [0, factor * factor, *cells.small])
    value = graph.add("Reshape", [value, shape], f"{name}.cells")
    plane = name if cells.keep else f"{name}.plane"
    graph.add("DepthToSpace", [value], plane, blocksize=factor, mode="DCR")
    if not cells.keep:
        graph.add("Squeeze", [plane, graph.constant(f"{_P}axis1", [1])], name)


def _padded_size(graph: Graph) -> Size | None:
    meta = meta_from_props(graph.props)
    return Geometry(
        stride=meta.stride, frame_size=meta.frame_size, layers_size=meta.layers_size, roi=meta.roi
    ).padded_size


def _linear_factor(graph: Graph, node: Node) -> int:
    """The factor 2 or 4 of a linear half-pixel enlargement; 0 where the node is none."""
    if node.op != "Resize" or node.attrs.get("mode") != "linear" or node.inputs[2] not in graph.constants:
        return 0
    scales = graph.constants[node.inputs[2]].tolist()
    factor = int(scales[2])
    return factor if scales == [1, 1, factor, factor] and factor in (2, _MAX_FACTOR) else 0


def _channels(graph: Graph, node: Node | None) -> int:
    if node is None or node.op != "Conv" or node.inputs[1] not in graph.constants:
        return 0
    return int(graph.constants[node.inputs[1]].shape[0])
