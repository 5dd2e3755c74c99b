"""From a SegModel to the canonical graph: one pass over its modules, no tracing.

Every module of the closed vocabulary (edgeseg/model/blocks.py) has a writer here; a layer bears its module's path.
Whatever changes a weight happens here, once: BatchNorm, layer scale, colour order, mean and standard deviation go into
the convolution before or after them. Folding is computed in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from torch import Tensor, nn

from edgeseg.core.errors import RequestError
from edgeseg.export.ops import write_gelu, write_max_unpool, write_mean_transposed
from edgeseg.graph.geometry import PIXELS, SCORES
from edgeseg.graph.ir import FLOAT, Array, Graph, Value
from edgeseg.model.blocks import LayerNorm2d, LayerScale, Residual, StochasticDepth
from edgeseg.model.config import InputConfig
from edgeseg.model.network import DecoderLevel, SegModel
from edgeseg.model.sampling import MaxUnpool2d, MeanTransposed2d

MIN_WEIGHT_SCALE = 2.0**-14
"""Smallest normal number of FP16: INT8 weight scales below it would underflow in an FP16 graph."""

_Named = tuple[str, nn.Module]


def emit_core(model: SegModel, spec: InputConfig) -> Graph:
    """The network as a graph from `pixels` (raw BGR) to `scores`.

    Args:
        model: In eval mode.
        spec: Mean and standard deviation, which are folded into the stem.

    Raises:
        RequestError: A module that is not of the vocabulary.
    """
    if model.training:
        raise ValueError("the model is in training mode; allowed: eval mode")
    return _Emitter(spec).write(model)


class _Emitter:
    """Writes module after module; every `_write_*` takes a path and a tensor and returns the tensor it gave."""

    def __init__(self, spec: InputConfig) -> None:
        self.graph = Graph(
            inputs=[Value(PIXELS, FLOAT, ("batch", 3, "height", "width"))],
            outputs=[Value(SCORES, FLOAT, ("batch", "classes", "height", "width"))],
        )
        self.spec = spec
        self.first = True

    def write(self, model: SegModel) -> Graph:
        x = self._write("stem", model.stem, PIXELS)
        features: list[str] = []
        for index, level in enumerate(model.encoder):
            x = self._write(f"encoder.{index}", level, x)
            features.append(x)
        for name, step in model.decoder.items():
            assert isinstance(step, DecoderLevel)
            x = self._write_decoder(f"decoder.{name}", step, x, features[int(name)])
        scores = self._write("head", model.head, x)
        for node in self.graph.nodes:
            node.outputs = [SCORES if name == scores else name for name in node.outputs]
        return self.graph

    # ------------------------------------------------------------ composites

    def _write(self, path: str, module: nn.Module, x: str) -> str:
        if isinstance(module, Residual):
            return self._write_residual(path, module, x)
        if isinstance(module, nn.Sequential):
            return self._write_chain(((f"{path}.{name}", child) for name, child in module.named_children()), x)
        return self._write_leaf(path, module, x)

    def _write_chain(self, children: Iterable[_Named], x: str) -> str:
        """Modules in order; what folds into a convolution is taken together with it."""
        pending = list(children)
        while pending:
            path, module = pending.pop(0)
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                followers: list[nn.Module] = []
                while pending and self._folds(module, followers, pending[0][1]):
                    followers.append(pending.pop(0)[1])
                x = self._write_conv(path, module, followers, x)
            else:
                x = self._write(path, module, x)
        return x

    def _write_residual(self, path: str, module: Residual, x: str) -> str:
        children = [(f"{path}.{name}", child) for name, child in module.named_children() if name != "after"]
        branch = self._write_chain(children, x)
        total = self.graph.add("Add", [x, branch], f"{path}.add")
        after = module._modules.get("after")
        return total if after is None else self._write(f"{path}.after", after, total)

    def _write_decoder(self, path: str, step: DecoderLevel, x: str, features: str) -> str:
        y = self._write(f"{path}.up", step.up, x)
        if isinstance(step.unpool, MaxUnpool2d):
            y = write_max_unpool(self.graph, f"{path}.unpool", y, features)
        if step.skip == "concat":
            y = self.graph.add("Concat", [y, features], f"{path}.concat", axis=1)
        if step.skip == "add":
            assert step.fuse is not None
            y = self.graph.add("Add", [y, self._write(f"{path}.fuse", step.fuse, features)], f"{path}.add")
        elif step.fuse is not None:
            y = self._write(f"{path}.fuse", step.fuse, y)
        return self._write(f"{path}.filter", step.filter, y)

    # ------------------------------------------------------------ convolutions

    def _folds(self, conv: nn.Conv2d | nn.ConvTranspose2d, followers: list[nn.Module], module: nn.Module) -> bool:
        if isinstance(module, StochasticDepth | nn.Identity):
            return True
        if isinstance(conv, MeanTransposed2d):
            return False
        if isinstance(module, nn.BatchNorm2d):
            return True
        if isinstance(module, LayerScale):
            weight, _ = _folded(conv, [*followers, module])
            return _keeps_weight_scales(weight, _out_axis(conv))
        return False

    def _write_conv(self, path: str, conv: nn.Conv2d | nn.ConvTranspose2d, followers: list[nn.Module], x: str) -> str:
        weight, bias = _folded(conv, followers)
        if self.first:
            self.first = False
            if any(conv.padding):
                raise RequestError("the stem pads with zeros, which mean and std cannot be folded over", value=path)
            weight, bias = fold_input(weight, bias, self.spec)
        if isinstance(conv, MeanTransposed2d):
            return write_mean_transposed(self.graph, path, x, _f32(weight), _f32(bias))
        inputs = [
            x,
            self.graph.constant(f"{path}.weight", _f32(weight)),
            self.graph.constant(f"{path}.bias", _f32(bias)),
        ]
        pads = [int(side) for side in conv.padding] * 2
        strides = [int(side) for side in conv.stride]
        op = "ConvTranspose" if isinstance(conv, nn.ConvTranspose2d) else "Conv"
        kernel = list(weight.shape[2:])
        return self.graph.add(op, inputs, path, kernel_shape=kernel, strides=strides, pads=pads, group=conv.groups)

    # ------------------------------------------------------------ leaves

    def _write_leaf(self, path: str, module: nn.Module, x: str) -> str:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            return self._write_conv(path, module, [], x)
        for kind, writer in _LEAVES.items():
            if isinstance(module, kind):
                return writer(self.graph, path, module, x)
        raise RequestError(
            "the network has a module that cannot be exported",
            value=f"{path}: {type(module).__name__}",
            allowed="the vocabulary of edgeseg/model/blocks.py",
        )


def fold_input(weight: Array, bias: Array, spec: InputConfig) -> tuple[Array, Array]:
    """Weights for raw BGR pixels from weights for normalised RGB: w' = w / std in reverse order, b' = b - sum w' mean.

    Exact for a convolution that does not pad, or whose padding repeats the edge.
    """
    std, mean = np.asarray(spec.std_rgb), np.asarray(spec.mean_rgb)
    raw = weight / std[:, None, None]
    shift = np.einsum("ochw,c->o", raw, mean)
    return raw[:, ::-1], bias - shift


def _folded(conv: nn.Conv2d | nn.ConvTranspose2d, followers: Iterable[nn.Module]) -> tuple[Array, Array]:
    """float64 weight and bias of a convolution and what follows it."""
    weight = _f64(conv.weight)
    axis = _out_axis(conv)
    bias = np.zeros(weight.shape[axis]) if conv.bias is None else _f64(conv.bias)
    shape = [-1 if index == axis else 1 for index in range(4)]
    for module in followers:
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            factor = _f64(module.weight) / np.sqrt(_f64(module.running_var) + module.eps)
            bias = (bias - _f64(module.running_mean)) * factor + _f64(module.bias)
        elif isinstance(module, LayerScale):
            factor = _f64(module.weight)
            bias = bias * factor
        else:
            continue
        weight = weight * factor.reshape(shape)
    return weight, bias


def _keeps_weight_scales(weight: Array, axis: int) -> bool:
    """Whether INT8 scales of the weight stay normal numbers in FP16; channels of zeros have none."""
    others = tuple(index for index in range(weight.ndim) if index != axis)
    peaks = np.abs(weight).max(axis=others)
    return bool(np.all((peaks == 0) | (peaks / 127 >= MIN_WEIGHT_SCALE)))


def _out_axis(conv: nn.Conv2d | nn.ConvTranspose2d) -> int:
    return 1 if isinstance(conv, nn.ConvTranspose2d) else 0


# ---------------------------------------------------------------- one writer a kind of leaf


def _write_layer_norm(graph: Graph, path: str, module: nn.Module, x: str) -> str:
    assert isinstance(module, LayerNorm2d)
    nhwc = graph.add("Transpose", [x], f"{path}.nhwc", perm=[0, 2, 3, 1])
    weight = graph.constant(f"{path}.weight", _f32(_f64(module.weight)))
    bias = graph.constant(f"{path}.bias", _f32(_f64(module.bias)))
    normal = graph.add("LayerNormalization", [nhwc, weight, bias], path, axis=-1, epsilon=float(module.eps))
    return graph.add("Transpose", [normal], f"{path}.nchw", perm=[0, 3, 1, 2])


def _write_layer_scale(graph: Graph, path: str, module: nn.Module, x: str) -> str:
    assert isinstance(module, LayerScale)
    return graph.add("Mul", [x, graph.constant(f"{path}.weight", _f32(_f64(module.weight)[:, None, None]))], path)


def _write_gelu(graph: Graph, path: str, module: nn.Module, x: str) -> str:
    assert isinstance(module, nn.GELU)
    return write_gelu(graph, path, x, tanh=module.approximate == "tanh")


def _write_pad(graph: Graph, path: str, module: nn.Module, x: str) -> str:
    assert isinstance(module, nn.ReplicationPad2d)
    left, right, top, bottom = module.padding
    pads = graph.constant(f"{path}.pads", [0, 0, top, left, 0, 0, bottom, right])
    return graph.add("Pad", [x, pads], path, mode="edge")


def _write_enlarge(graph: Graph, path: str, module: nn.Module, x: str) -> str:
    assert isinstance(module, nn.Upsample)
    factor = float(module.scale_factor) if isinstance(module.scale_factor, int | float) else 0.0
    if factor < 1 or factor != int(factor) or module.align_corners:
        raise RequestError("the network enlarges in a way that cannot be exported", value=f"{path}: {module}")
    scales = graph.constant(f"{path}.scales", np.array([1, 1, factor, factor], np.float32))
    if module.mode == "bilinear":
        centres = "half_pixel"
        return graph.add("Resize", [x, "", scales], path, mode="linear", coordinate_transformation_mode=centres)
    corners, floor = "asymmetric", "floor"
    return graph.add(
        "Resize", [x, "", scales], path, mode="nearest", coordinate_transformation_mode=corners, nearest_mode=floor
    )


def _write_pool(graph: Graph, path: str, module: nn.Module, x: str) -> str:
    assert isinstance(module, nn.MaxPool2d | nn.AvgPool2d)
    op = "MaxPool" if isinstance(module, nn.MaxPool2d) else "AveragePool"
    return graph.add(op, [x], path, kernel_shape=_pair(module.kernel_size), strides=_pair(module.stride))


def _write_shuffle(graph: Graph, path: str, module: nn.Module, x: str) -> str:
    assert isinstance(module, nn.PixelShuffle)
    return graph.add("DepthToSpace", [x], path, blocksize=module.upscale_factor, mode="CRD")


def _write_relu(graph: Graph, path: str, module: nn.Module, x: str) -> str:
    del module
    return graph.add("Relu", [x], path)


def _write_hardswish(graph: Graph, path: str, module: nn.Module, x: str) -> str:
    del module
    return graph.add("HardSwish", [x], path)


def _write_nothing(graph: Graph, path: str, module: nn.Module, x: str) -> str:
    del graph, path, module
    return x


_LEAVES: dict[type[nn.Module], Callable[[Graph, str, nn.Module, str], str]] = {
    LayerNorm2d: _write_layer_norm,
    LayerScale: _write_layer_scale,
    StochasticDepth: _write_nothing,
    nn.Identity: _write_nothing,
    nn.ReLU: _write_relu,
    nn.GELU: _write_gelu,
    nn.Hardswish: _write_hardswish,
    nn.MaxPool2d: _write_pool,
    nn.AvgPool2d: _write_pool,
    nn.Upsample: _write_enlarge,
    nn.PixelShuffle: _write_shuffle,
    nn.ReplicationPad2d: _write_pad,
}


def _pair(value: int | tuple[int, ...]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _f64(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().double().numpy()
    return array


def _f32(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32)
