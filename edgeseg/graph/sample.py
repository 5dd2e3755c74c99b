"""A small network in canonical form, written without torch: what `doctor` and tests run to prove a runtime.

It is a ConvNeXt-U-Net in miniature (patchify stem, one block at stride 4, one at stride 8, transposed convolution,
concat skip, filter, head), with seeded random weights. The head is fitted in closed form to tell colours apart, so its
masks are not constant.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx

from edgeseg.core.types import Classes
from edgeseg.graph.geometry import PIXELS, SCORES, Geometry, attach
from edgeseg.graph.ir import FLOAT, Array, Graph, Value
from edgeseg.graph.meta import ModelMeta, graph_weights_sha256, meta_props

STRIDE = 8
CLASSES = Classes(
    names=("red", "green", "blue", "grey"), palette_rgb=((255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128))
)


def sample_model(*, seed: int = 0, width: int = 8, norm: str = "batch", confidence: bool = False) -> onnx.ModelProto:
    """A canonical model of symbolic frame size with four classes: red, green, blue, grey.

    Args:
        seed: Of the weights.
        width: Channels at stride 4.
        norm: `batch` (folded, ReLU) or `layer` (LayerNormalization, GELU).
        confidence: Whether it also gives `confidence`.
    """
    core = _Sample(np.random.default_rng(seed), norm).write(width)
    graph = attach(core, Geometry(stride=STRIDE, confidence=confidence))
    meta = ModelMeta(
        name=f"sample-{norm}",
        classes=CLASSES,
        network_size=(64, 96),
        stride=STRIDE,
        mean_rgb=(127.5, 127.5, 127.5),
        std_rgb=(64.0, 64.0, 64.0),
        package_version="0",
        weights_sha256=graph_weights_sha256(graph),
        confidence=confidence,
    )
    graph.props = meta_props(meta)
    return graph.to_model()


class _Sample:
    """Writes the layers one after the other."""

    def __init__(self, rng: np.random.Generator, norm: str) -> None:
        self.graph = Graph(
            inputs=[Value(PIXELS, FLOAT, ("batch", 3, "height", "width"))],
            outputs=[Value(SCORES, FLOAT, ("batch", "classes", "height", "width"))],
        )
        self.rng = rng
        self.norm = norm

    def write(self, width: int) -> Graph:
        stem = self._stem(width)
        skip = self._block("encoder.0.0", stem, width)
        down = self._conv("encoder.1.down", skip, width, 2 * width, kernel=2, stride=2)
        deep = self._block("encoder.1.0", down, 2 * width)
        weight = self._random((2 * width, width, 2, 2), 2 * width)
        up = self._weighted("ConvTranspose", "decoder.0.up", deep, weight, strides=[2, 2])
        both = self.graph.add("Concat", [up, skip], "decoder.0.concat", axis=1)
        fused = self._conv("decoder.0.fuse", both, 2 * width, width, kernel=3)
        active = self.graph.add("Relu", [fused], "decoder.0.act")
        # the first three channels carry blue, green, red untouched: the head reads colours and a little of the rest
        joined = self.graph.add("Concat", [active, self._colours()], "head.concat", axis=1)
        self._head(joined, width)
        return self.graph

    def _stem(self, width: int) -> str:
        weight = self._random((width, 3, 4, 4), 48) / 64
        bias = -127.5 * weight.sum(axis=(1, 2, 3))
        return self._weighted("Conv", "encoder.stem", PIXELS, weight, bias, strides=[4, 4], pads=[0] * 4)

    def _colours(self) -> str:
        mean = np.zeros((3, 3, 4, 4), np.float32)
        mean[range(3), range(3)] = 1 / 16 / 64
        bias = np.full(3, -127.5 / 64, np.float32)
        return self._weighted("Conv", "head.colours", PIXELS, mean, bias, strides=[4, 4], pads=[0] * 4)

    def _block(self, name: str, x: str, width: int) -> str:
        graph = self.graph
        y = self._conv(f"{name}.dw", x, width, width, kernel=7, group=width)
        if self.norm == "layer":
            y = graph.add("Transpose", [y], f"{name}.norm.nhwc", perm=[0, 2, 3, 1])
            scale = graph.constant(f"{name}.norm.weight", np.ones(width, np.float32))
            bias = graph.constant(f"{name}.norm.bias", np.zeros(width, np.float32))
            y = graph.add("LayerNormalization", [y, scale, bias], f"{name}.norm", axis=-1, epsilon=1e-6)
            y = graph.add("Transpose", [y], f"{name}.norm.nchw", perm=[0, 3, 1, 2])
        y = self._conv(f"{name}.pw1", y, width, 4 * width)
        y = self._gelu(f"{name}.act", y) if self.norm == "layer" else graph.add("Relu", [y], f"{name}.act")
        y = self._conv(f"{name}.pw2", y, 4 * width, width)
        gamma = graph.constant(f"{name}.scale.gamma", np.full((1, width, 1, 1), 0.3, np.float32))
        y = graph.add("Mul", [y, gamma], f"{name}.scale")
        return graph.add("Add", [x, y], f"{name}.add")

    def _gelu(self, name: str, x: str) -> str:
        graph = self.graph
        root = graph.constant("gelu.sqrt2", np.array(math.sqrt(2), np.float32))
        one = graph.constant("gelu.one", np.array(1, np.float32))
        half = graph.constant("gelu.half", np.array(0.5, np.float32))
        erf = graph.add("Erf", [graph.add("Div", [x, root], f"{name}.div")], f"{name}.erf")
        gate = graph.add("Add", [erf, one], f"{name}.gate")
        return graph.add("Mul", [graph.add("Mul", [x, gate], f"{name}.mul"), half], name)

    def _head(self, x: str, width: int) -> None:
        weight = 0.05 * self._random((4, width + 3, 1, 1), width)
        # blue, green, red minus the mean of all three; grey wins where no colour stands out
        weight[:3, width:, 0, 0] = (np.eye(3) - 1 / 3)[::-1]
        weight[3, width:] = 0
        bias = np.array([0, 0, 0, 0.15], np.float32)
        scores = self._weighted("Conv", "head.logits", x, weight, bias, pads=[0] * 4)
        scales = self.graph.constant("head.up.scales", np.array([1, 1, 4, 4], np.float32))
        half_pixel = "half_pixel"
        self.graph.add("Resize", [scores, "", scales], SCORES, mode="linear", coordinate_transformation_mode=half_pixel)

    def _conv(self, name: str, x: str, cin: int, cout: int, *, kernel: int = 1, stride: int = 1, group: int = 1) -> str:
        weight = self._random((cout, cin // group, kernel, kernel), cin // group * kernel**2)
        pads = [0 if stride > 1 else kernel // 2] * 4
        return self._weighted("Conv", name, x, weight, strides=[stride] * 2, pads=pads, group=group)

    def _weighted(
        self,
        op: str,
        name: str,
        x: str,
        weight: Array,
        bias: Array | None = None,
        **attrs: Any,
    ) -> str:
        if bias is None:
            cout = weight.shape[1] if op == "ConvTranspose" else weight.shape[0]
            bias = 0.1 * self._random((cout,), 1)
        inputs = [
            x,
            self.graph.constant(f"{name}.weight", weight.astype(np.float32)),
            self.graph.constant(f"{name}.bias", bias.astype(np.float32)),
        ]
        return self.graph.add(op, inputs, name, kernel_shape=list(weight.shape[2:]), **attrs)

    def _random(self, shape: tuple[int, ...], fan_in: int) -> Array:
        return self.rng.normal(0, 1 / math.sqrt(fan_in), shape).astype(np.float32)
