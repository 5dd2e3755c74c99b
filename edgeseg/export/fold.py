"""What goes into a convolution's weights: input statistics, BatchNorm, layer scale, a mixture of channels behind it.

Everything is computed in double precision and rounded once.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor, nn

from edgeseg.graph.ir import Array
from edgeseg.model.blocks import LayerScale
from edgeseg.model.config import InputConfig

Convolution = nn.Conv2d | nn.ConvTranspose2d

MIN_WEIGHT_SCALE = 2.0**-14
"""Smallest normal number of FP16: INT8 weight scales below it would underflow in an FP16 graph."""


def fold_input(weight: Array, bias: Array, spec: InputConfig) -> tuple[Array, Array]:
    """Weights for raw BGR pixels from weights for normalised RGB: w' = w / std in reverse order, b' = b - sum w' mean.

    Exact for a convolution that does not pad, or whose padding repeats the edge.
    """
    std, mean = np.asarray(spec.std_rgb), np.asarray(spec.mean_rgb)
    raw = weight / std[:, None, None]
    shift = np.einsum("ochw,c->o", raw, mean)
    return raw[:, ::-1], bias - shift


def folded(conv: Convolution, followers: Iterable[nn.Module]) -> tuple[Array, Array]:
    """float64 weight and bias of a convolution and what follows it."""
    weight = f64(conv.weight)
    axis = out_axis(conv)
    bias = np.zeros(weight.shape[axis]) if conv.bias is None else f64(conv.bias)
    shape = [-1 if index == axis else 1 for index in range(4)]
    for module in followers:
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            factor = f64(module.weight) / np.sqrt(f64(module.running_var) + module.eps)
            bias = (bias - f64(module.running_mean)) * factor + f64(module.bias)
        elif isinstance(module, LayerScale):
            factor = f64(module.weight)
            bias = bias * factor
        else:
            continue
        weight = weight * factor.reshape(shape)
    return weight, bias


def mixed(up: Convolution, mix: Array, bias: Array) -> tuple[Array, Array]:
    """Weight and bias of a convolution whose output channels are mixed by `mix` [C', C] afterwards, plus `bias` [C'].

    Where a pixel shuffle follows, it has a multiple of C channels, and each place of the cell is mixed by itself.
    """
    weight, own = folded(up, [])
    if isinstance(up, nn.ConvTranspose2d):
        return np.einsum("oc,icab->ioab", mix, weight), mix @ own + bias
    cells = own.size // mix.shape[1]
    grouped = weight.reshape(mix.shape[1], cells, *weight.shape[1:])
    joined = np.einsum("oc,ckiab->okiab", mix, grouped).reshape(-1, *weight.shape[1:])
    return joined, (mix @ own.reshape(-1, cells) + bias[:, None]).reshape(-1)


def keeps_weight_scales(weight: Array, axis: int) -> bool:
    """Whether INT8 scales of the weight stay normal numbers in FP16; channels of zeros have none."""
    others = tuple(index for index in range(weight.ndim) if index != axis)
    peaks = np.abs(weight).max(axis=others)
    return bool(np.all((peaks == 0) | (peaks / 127 >= MIN_WEIGHT_SCALE)))


def out_axis(conv: Convolution) -> int:
    """Axis of the output channels in a convolution's weight."""
    return 1 if isinstance(conv, nn.ConvTranspose2d) else 0


def f64(tensor: Tensor) -> Array:
    """A tensor as float64 numpy, on the CPU."""
    array: Array = tensor.detach().cpu().double().numpy()
    return array
