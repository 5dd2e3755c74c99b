"""Modules that no single operator is: GELU, max un-pooling, transposed convolution with averaged overlaps."""

from __future__ import annotations

import math

import numpy as np

from edgeseg.graph.ir import FLOAT, Array, Graph

_LAST = np.iinfo(np.int64).max


def write_gelu(graph: Graph, name: str, x: str, *, tanh: bool = False) -> str:
    """GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415), in the operators that every runtime fuses again.

    erf form: x (1 + erf(x / sqrt 2)) / 2. The tanh form approximates it:
    x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
    """

    def number(key: str, value: float) -> str:
        return graph.constant(f"gelu.{key}", np.array(value, np.float32))

    if tanh:
        cube = graph.add("Pow", [x, number("three", 3)], f"{name}.cube")
        small = graph.add("Mul", [cube, number("cubic", 0.044715)], f"{name}.cubic")
        inner = graph.add("Add", [x, small], f"{name}.inner")
        scaled = graph.add("Mul", [inner, number("sqrt2_pi", math.sqrt(2 / math.pi))], f"{name}.scaled")
        curve = graph.add("Tanh", [scaled], f"{name}.tanh")
    else:
        scaled = graph.add("Div", [x, number("sqrt2", math.sqrt(2))], f"{name}.scaled")
        curve = graph.add("Erf", [scaled], f"{name}.erf")
    gate = graph.add("Add", [curve, number("one", 1)], f"{name}.gate")
    twice = graph.add("Mul", [x, gate], f"{name}.twice")
    return graph.add("Mul", [twice, number("half", 0.5)], name)


def write_max_unpool(graph: Graph, name: str, x: str, reference: str) -> str:
    """Max un-pooling of 2x2 cells without indices: MaxUnpool exists in no TensorRT.

    The four pixels of each cell are strided slices of the reference; where one equals their maximum and none before it
    does (the order of torch's indices), its mask is 1. Four masked copies of `x` in row order are a depth-to-space.
    """
    places = {"a": (0, 0), "b": (0, 1), "c": (1, 0), "d": (1, 1)}
    ends = graph.constant("unpool.ends", [_LAST, _LAST])
    axes = graph.constant("unpool.axes", [2, 3])
    steps = graph.constant("unpool.steps", [2, 2])
    pixels = {}
    for key, start in places.items():
        starts = graph.constant(f"unpool.{key}", list(start))
        pixels[key] = graph.add("Slice", [reference, starts, ends, axes, steps], f"{name}.{key}")
    largest = graph.add("Max", list(pixels.values()), f"{name}.max")
    free = graph.constant("unpool.one", np.array(1, np.float32))
    masks: list[str] = []
    for key in "abc":
        equal = graph.add("Equal", [pixels[key], largest], f"{name}.{key}.equal")
        mask = graph.add("Cast", [equal], f"{name}.{key}.float", to=FLOAT)
        if masks:
            mask = graph.add("Mul", [mask, free], f"{name}.{key}.first")
        masks.append(mask)
        free = graph.add("Sub", [free, mask], f"{name}.{key}.free")
    masks.append(free)  # what none of the first three took is the fourth pixel's
    parts = [graph.add("Mul", [x, mask], f"{name}.{key}.value") for key, mask in zip(places, masks, strict=True)]
    cells = graph.add("Concat", parts, f"{name}.cells", axis=1)
    return graph.add("DepthToSpace", [cells], name, blocksize=2, mode="DCR")


def write_mean_transposed(graph: Graph, name: str, x: str, weight: Array, bias: Array) -> str:
    """A 4x4 transposed convolution of stride 2 and padding 1 whose overlapping contributions are averaged.

    Inside, four inputs meet, so a quarter goes into the weights. In the first and last row and column half as many
    meet: those are doubled again.
    """
    quarter = graph.constant(f"{name}.weight", weight / 4)
    y = graph.add(
        "ConvTranspose", [x, quarter], f"{name}.sum", kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4, group=1
    )
    y = _double_ends(graph, f"{name}.rows", y, 2)
    y = _double_ends(graph, f"{name}.columns", y, 3)
    return graph.add("Add", [y, graph.constant(f"{name}.bias", bias[:, None, None])], name)


def _double_ends(graph: Graph, name: str, x: str, axis: int) -> str:
    two = graph.constant("mean_transposed.two", np.array(2, np.float32))
    where = graph.constant(f"mean_transposed.axis{axis}", [axis])
    parts = []
    for key, start, end in (("first", 0, 1), ("inner", 1, -1), ("last", -1, _LAST)):
        bounds = [
            graph.constant(f"mean_transposed.{end_name}_{key}", [value])
            for end_name, value in (("from", start), ("to", end))
        ]
        part = graph.add("Slice", [x, *bounds, where], f"{name}.{key}")
        parts.append(part if key == "inner" else graph.add("Mul", [part, two], f"{name}.{key}.doubled"))
    return graph.add("Concat", parts, name, axis=axis)
