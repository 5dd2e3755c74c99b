"""From a SegModel to the canonical graph: one pass over its modules, no tracing.

Every module of the closed vocabulary (edgeseg/model/blocks.py) has a writer here; a layer bears its module's path.
Whatever changes a weight happens here, once: BatchNorm, layer scale, colour order, mean and standard deviation go into
the convolution before or after them. Folding is computed in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from torch import nn

from edgeseg.core.errors import RequestError
from edgeseg.export.fold import Convolution, f64, fold_input, folded, keeps_weight_scales, mixed, out_axis
from edgeseg.export.ops import write_gelu, write_max_unpool, write_mean_transposed
from edgeseg.graph.geometry import PIXELS, SCORES
from edgeseg.graph.ir import FLOAT, Array, Graph, Value
from edgeseg.model.blocks import LayerNorm2d, LayerScale, Residual, StochasticDepth
from edgeseg.model.config import InputConfig
from edgeseg.model.network import DecoderLevel, SegModel
from edgeseg.model.sampling import MaxUnpool2d, MeanTransposed2d

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
            if isinstance(module, Convolution):
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
        if _joins_by_sum(step):
            return self._write(f"{path}.filter", step.filter, self._write_joined(path, step, x, features))
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

    def _write_joined(self, path: str, step: DecoderLevel, x: str, features: str) -> str:
        """`fuse` over a concatenation as a sum, exactly: W [u; s] = W_u u + W_s s.

        W_u goes into the convolution of `up`, which leaves no node for the concatenation and half of the 1x1. Neither
        Q/DQ pairs with equal scales nor one behind a Concat are needed, which OpenVINO would never quantise through.
        """
        assert step.fuse is not None
        (name, fuse), *after = step.fuse.named_children()
        assert isinstance(fuse, nn.Conv2d)
        followers: list[nn.Module] = []
        while after and self._folds(fuse, followers, after[0][1]):
            followers.append(after.pop(0)[1])
        weight, bias = folded(fuse, followers)
        (up_name, up), *enlarge = step.up.named_children()
        assert isinstance(up, Convolution)
        wide = up.out_channels
        if any(isinstance(child, nn.PixelShuffle) for _, child in enlarge):
            wide //= 4
        y = self._write_weights(f"{path}.up.{up_name}", up, *mixed(up, weight[:, :wide, 0, 0], bias), x)
        y = self._write_chain(((f"{path}.up.{child_name}", child) for child_name, child in enlarge), y)
        skip = self._write_weights(f"{path}.skip.{name}", fuse, weight[:, wide:], np.zeros_like(bias), features)
        y = self.graph.add("Add", [y, skip], f"{path}.fuse.{name}")
        return self._write_chain(((f"{path}.fuse.{child_name}", child) for child_name, child in after), y)

    # ------------------------------------------------------------ convolutions

    def _folds(self, conv: Convolution, followers: list[nn.Module], module: nn.Module) -> bool:
        if isinstance(module, StochasticDepth | nn.Identity):
            return True
        if isinstance(conv, MeanTransposed2d):
            return False
        if isinstance(module, nn.BatchNorm2d):
            return True
        if isinstance(module, LayerScale):
            weight, _ = folded(conv, [*followers, module])
            return keeps_weight_scales(weight, out_axis(conv))
        return False

    def _write_conv(self, path: str, conv: Convolution, followers: list[nn.Module], x: str) -> str:
        weight, bias = folded(conv, followers)
        if self.first:
            self.first = False
            if any(conv.padding):
                raise RequestError("the stem pads with zeros, which mean and std cannot be folded over", value=path)
            weight, bias = fold_input(weight, bias, self.spec)
        return self._write_weights(path, conv, weight, bias, x)

    def _write_weights(self, path: str, conv: Convolution, weight: Array, bias: Array, x: str) -> str:
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
        if isinstance(module, Convolution):
            return self._write_conv(path, module, [], x)
        for kind, writer in _LEAVES.items():
            if isinstance(module, kind):
                return writer(self.graph, path, module, x)
        raise RequestError(
            "the network has a module that cannot be exported",
            value=f"{path}: {type(module).__name__}",
            allowed="the vocabulary of edgeseg/model/blocks.py",
        )


def _joins_by_sum(step: DecoderLevel) -> bool:
    """Whether `fuse` over the concatenation can be a sum: it starts with a 1x1 convolution, and `up` with any.

    What follows in `up` enlarges linearly, channel by channel, so a mixture of channels passes through it. Max
    un-pooling does not: it places each channel by itself.
    """
    if step.skip != "concat" or step.unpool is not None or step.fuse is None:
        return False
    first, up = next(iter(step.fuse.children())), next(iter(step.up.children()))
    return isinstance(first, nn.Conv2d) and first.kernel_size == (1, 1) and isinstance(up, Convolution)


# ---------------------------------------------------------------- one writer a kind of leaf


def _write_layer_norm(graph: Graph, path: str, module: nn.Module, x: str) -> str:
    assert isinstance(module, LayerNorm2d)
    nhwc = graph.add("Transpose", [x], f"{path}.nhwc", perm=[0, 2, 3, 1])
    weight = graph.constant(f"{path}.weight", _f32(f64(module.weight)))
    bias = graph.constant(f"{path}.bias", _f32(f64(module.bias)))
    normal = graph.add("LayerNormalization", [nhwc, weight, bias], path, axis=-1, epsilon=float(module.eps))
    return graph.add("Transpose", [normal], f"{path}.nchw", perm=[0, 3, 1, 2])


def _write_layer_scale(graph: Graph, path: str, module: nn.Module, x: str) -> str:
    assert isinstance(module, LayerScale)
    return graph.add("Mul", [x, graph.constant(f"{path}.weight", _f32(f64(module.weight)[:, None, None]))], path)


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


def _f32(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32)
