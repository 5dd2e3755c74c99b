"""The tail of the network by phases: ArgMax at the small size, one index plane at the large one.

Enlarging logits by a whole factor f with half-pixel centres is linear in a 3x3 neighbourhood, with one kernel for each
of the f x f pixels of a cell: that many depthwise convolutions, each followed by ArgMax, and depth-to-space for the
winners alone. The enlarged logits, eleven planes for eleven classes, never exist.

OpenVINO spends 28 % (BF16) to 42 % (FP32) of edge-s on Resize and ArgMax: its Resize is slow for few channels, and its
FP32 ArgMax over channels that lie innermost takes 4 ms; over flattened planes it takes a sixth.
"""

from __future__ import annotations

import numpy as np

from edgeseg.core.types import Size
from edgeseg.graph.geometry import CONFIDENCE, SCORES, Geometry
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
        False where it does not apply, and nothing changed: the size is symbolic, the network does not end with a linear
        enlargement by 2 or 4 of a convolution, or the graph gives confidences.
    """
    producers = graph.producers()
    enlarge, argmax, number = (producers.get(name) for name in (SCORES, f"{_P}index", f"{_P}index_float"))
    if enlarge is None or argmax is None or number is None or CONFIDENCE in graph.output_names():
        return False
    factor = _linear_factor(graph, enlarge)
    classes = _channels(graph, producers.get(enlarge.inputs[0]))
    padded = _padded_size(graph)
    if not factor or not classes or padded is None:
        return False
    graph.remove([enlarge, argmax, number])
    small = (padded[0] // factor, padded[1] // factor)
    cells = _write_winners(graph, enlarge.inputs[0], classes, factor, small)
    if argmax.attrs["keepdims"]:
        graph.add("DepthToSpace", [cells], number.name, blocksize=factor, mode="DCR")
    else:
        plane = graph.add("DepthToSpace", [cells], f"{_P}index_plane", blocksize=factor, mode="DCR")
        graph.add("Squeeze", [plane, graph.constant(f"{_P}axis1", [1])], number.name)
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


def _write_winners(graph: Graph, x: str, classes: int, factor: int, small: Size) -> str:
    """Logits [N, C, h, w] to the classes of each cell's pixels: float [N, f f, h, w], in row order."""
    kernels = phase_kernels(factor)
    edge = graph.constant(f"{_P}edge", [0, 0, 1, 1, 0, 0, 1, 1])
    flat = graph.constant(f"{_P}flat", [0, classes, -1])
    padded = graph.add("Pad", [x, edge], EDGE, mode="edge")
    winners = []
    for row in range(factor):
        for column in range(factor):
            name = f"{_PHASE}{row}{column}"
            kernel = np.outer(kernels[row], kernels[column]).astype(np.float32)
            weight = graph.constant(f"{name}.weight", np.tile(kernel, (classes, 1, 1, 1)))
            inputs = [padded, weight]
            graph.add("Conv", inputs, name, kernel_shape=[3, 3], strides=[1, 1], pads=[0] * 4, group=classes)
            # flattened, the channels lie outermost in every runtime's memory
            planes = graph.add("Reshape", [name, flat], f"{name}.flat")
            winners.append(graph.add("ArgMax", [planes], f"{_P}winner{row}{column}", axis=1, keepdims=1))
    together = graph.add("Concat", winners, f"{_P}winners", axis=1)
    values = graph.add("Cast", [together], f"{_P}winners_float", to=FLOAT)
    shape = graph.constant(f"{_P}cells", [0, factor * factor, *small])
    return graph.add("Reshape", [values, shape], f"{_P}winners_cells")


def _padded_size(graph: Graph) -> Size | None:
    meta = meta_from_props(graph.props)
    return Geometry(stride=meta.stride, frame_size=meta.frame_size, layers_size=meta.layers_size).padded_size


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
