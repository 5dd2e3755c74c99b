"""The tail of the network as class planes: enlarging and ArgMax at the small size, one index plane at the large one.

Enlarging logits by a whole factor f with half-pixel centres is linear in a 3x3 neighbourhood, so one depthwise
convolution gives all f x f pixels of each cell. Comparing the classes' planes one after the other is ArgMax (the first
of equal classes wins, as there), and only the winning index goes through depth-to-space.
"""

from __future__ import annotations

import numpy as np

from edgeseg.graph.geometry import CONFIDENCE, SCORES
from edgeseg.graph.ir import Array, Graph, Node
from edgeseg.graph.meta import GEOMETRY_PREFIX

_P = GEOMETRY_PREFIX
CELLS = "scores.cells"


def write_planes(graph: Graph) -> bool:
    """Rewrite the tail of a graph, in place.

    Returns:
        False where it does not apply, and nothing changed: the network does not end with a linear enlargement by a
        whole even factor, the graph gives confidences, or the number of classes is not known.
    """
    producers = graph.producers()
    enlarge, argmax, number = (producers.get(name) for name in (SCORES, f"{_P}index", f"{_P}index_float"))
    if enlarge is None or argmax is None or number is None or CONFIDENCE in graph.output_names():
        return False
    factor = _linear_factor(graph, enlarge)
    classes = _channels(graph, producers.get(enlarge.inputs[0]))
    if not factor or not classes:
        return False
    graph.remove([enlarge, argmax, number])
    cells = _write_cells(graph, enlarge.inputs[0], classes, factor)
    index = _write_comparison(graph, cells, classes, factor)
    if argmax.attrs["keepdims"]:
        graph.add("DepthToSpace", [index], number.name, blocksize=factor, mode="DCR")
    else:
        plane = graph.add("DepthToSpace", [index], f"{_P}index_plane", blocksize=factor, mode="DCR")
        graph.add("Squeeze", [plane, graph.constant(f"{_P}axis1", [1])], number.name)
    return True


def phase_kernels(factor: int) -> Array:
    """Weights of the pixels before, at and after, for each phase of an enlargement: float64 [factor, 3].

    Phase p of cell i lies at (p + 0.5) / factor - 0.5 from the cell's centre.
    """
    offset = (np.arange(factor) + 0.5) / factor - 0.5
    return np.stack([np.maximum(-offset, 0), 1 - np.abs(offset), np.maximum(offset, 0)], axis=1)


def _write_cells(graph: Graph, x: str, classes: int, factor: int) -> str:
    """[N, C, h, w] to [N, C f f, h, w]: class-major, pixels of the cell in row order."""
    kernels = phase_kernels(factor)
    pixels = np.einsum("ai,bj->abij", kernels, kernels).reshape(factor * factor, 1, 3, 3)
    weight = graph.constant(f"{CELLS}.weight", np.tile(pixels, (classes, 1, 1, 1)).astype(np.float32))
    edge = graph.constant(f"{_P}edge", [0, 0, 1, 1, 0, 0, 1, 1])
    padded = graph.add("Pad", [x, edge], f"{CELLS}.edge", mode="edge")
    return graph.add("Conv", [padded, weight], CELLS, kernel_shape=[3, 3], strides=[1, 1], pads=[0] * 4, group=classes)


def _write_comparison(graph: Graph, cells: str, classes: int, factor: int) -> str:
    sizes = graph.constant(f"{_P}plane_sizes", [factor * factor] * classes)
    planes = [f"{_P}class{index}" for index in range(classes)]
    graph.add("Split", [cells, sizes], planes[0], outputs=planes[1:], axis=1)
    best, index = planes[0], graph.constant(f"{_P}number0", np.array(0, np.float32))
    for number in range(1, classes):
        plane = planes[number]
        larger = graph.add("Greater", [plane, best], f"{_P}larger{number}")
        value = graph.constant(f"{_P}number{number}", np.array(number, np.float32))
        index = graph.add("Where", [larger, value, index], f"{_P}index{number}")
        if number < classes - 1:
            best = graph.add("Max", [best, plane], f"{_P}best{number}")
    return index


def _linear_factor(graph: Graph, node: Node) -> int:
    """The even whole factor of a linear half-pixel enlargement; 0 where the node is none."""
    if node.op != "Resize" or node.attrs.get("mode") != "linear" or node.inputs[2] not in graph.constants:
        return 0
    scales = graph.constants[node.inputs[2]].tolist()
    factor = int(scales[2])
    return factor if scales == [1, 1, factor, factor] and factor % 2 == 0 else 0


def _channels(graph: Graph, node: Node | None) -> int:
    if node is None or node.op != "Conv" or node.inputs[1] not in graph.constants:
        return 0
    return int(graph.constants[node.inputs[1]].shape[0])
