"""The closed vocabulary of modules that a network is made of.

Every module of a `SegModel` is one of the following, so that a graph writer can walk the tree without tracing; the
path of a module (`encoder.2.1.pw1`) is the name of its tensor in the exported graph.

Leaves (one input, one output, no state between calls)

    nn.Conv2d            zeros as padding, dilation 1, one group
    DepthwiseConv2d      a Conv2d with a group for each channel, same size
    nn.ConvTranspose2d   2x2 stride 2, or 4x4 stride 2 padding 1 (overlaps summed)
    MeanTransposed2d     a ConvTranspose2d, 4x4 stride 2 padding 1, overlaps averaged; the bias is added afterwards
    nn.BatchNorm2d       always right after a convolution: folds into it exactly
    LayerNorm2d          over channels, at each pixel
    LayerScale           one factor a channel, right after a convolution or its normalisation: folds too
    StochasticDepth      the identity in eval mode
    nn.ReLU, nn.GELU (approximate = "none" or "tanh"), nn.Hardswish, nn.Identity
    nn.MaxPool2d, nn.AvgPool2d    2x2, stride 2
    nn.Upsample          whole factor, "nearest" or "bilinear" (half-pixel centres: align_corners is False)
    EnlargedLogits       an Upsample, "bilinear", last of a head
    nn.PixelShuffle      depth to space, channel-major (ONNX mode CRD)
    nn.ReplicationPad2d  only first in a stem: edge padding commutes with the folded mean and std, zeros would not

Leaf of two inputs

    MaxUnpool2d(x, reference)    x goes where the maximum of each 2x2 cell of `reference` is, first in row order

Composites

    nn.Sequential        its children in order
    Residual             a Sequential whose input is added to its output; a child named `after` comes after the sum
    network.DecoderLevel, network.SegModel    see there; `SegModel.aux` is used in training only
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from edgeseg.model.config import Activation, BlockKind, ModelConfig, NormKind

LAYER_NORM_EPS = 1e-6  # of the published ConvNeXt
BATCH_NORM_EPS = 1e-5


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of [N, C, H, W], at each pixel (Ba et al. 2016, arXiv:1607.06450).

    Under channels_last both permutations are views, and one fused kernel over the last axis does the work.
    """

    def __init__(self, channels: int, eps: float = LAYER_NORM_EPS) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        x = nn.functional.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class DepthwiseConv2d(nn.Conv2d):
    """One square filter a channel, padded to keep the size.

    On a CPU it stays out of autocast: the weight gradient of a depthwise 7x7 takes three to four times as long in
    bf16 as in float32 there (oneDNN has a fast kernel for float32 alone), and was almost half of a training step.

    Args:
        channels: In and out.
        kernel: Side of the filter, odd.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, channels, kernel, padding=kernel // 2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape and dtype."""
        if x.device.type != "cpu" or x.dtype != torch.bfloat16 or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(x.dtype)


class LayerScale(nn.Module):
    """A learned factor for each channel (Touvron et al. 2021, arXiv:2103.17239)."""

    def __init__(self, channels: int, first: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), first))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        return x * self.weight[:, None, None]


class StochasticDepth(nn.Module):
    """Drops a residual branch for whole samples, and divides the kept ones by the chance of being kept.

    Huang et al. 2016, arXiv:1603.09382; the same draw as torchvision.ops.stochastic_depth(mode="row").
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape; the identity in eval mode."""
        if not self.training or self.p == 0:
            return x
        keep = 1.0 - self.p
        noise = torch.empty((x.shape[0], 1, 1, 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * noise.div_(keep)

    def extra_repr(self) -> str:
        """The probability, for `print(model)`."""
        return f"p={self.p:.3f}"


class Residual(nn.Sequential):
    """`x + branch(x)`, then the child named `after` where there is one; the branch is all other children in order."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        y = x
        for child in self.branch():
            y = child(y)
        y = x + y
        after = self._modules.get("after")
        return y if after is None else after(y)

    def branch(self) -> Iterable[nn.Module]:
        """The children whose result is added to the input."""
        return (child for name, child in self.named_children() if name != "after")


def sequence(kind: type[nn.Sequential], **children: nn.Module | None) -> nn.Sequential:
    """A Sequential or Residual of named children; those that are None are left out."""
    return kind(OrderedDict((name, child) for name, child in children.items() if child is not None))


def make_norm(kind: NormKind, channels: int) -> nn.Module | None:
    """The normalisation of a config, or None."""
    if kind == "batch":
        return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)
    return LayerNorm2d(channels) if kind == "layer" else None


def make_activation(kind: Activation) -> nn.Module | None:
    """The activation of a config, or None."""
    if kind == "none":
        return None
    if kind == "relu":
        return nn.ReLU(inplace=True)
    if kind == "hardswish":
        return nn.Hardswish(inplace=True)
    return nn.GELU(approximate="tanh" if kind == "gelu_tanh" else "none")


def make_block(kind: BlockKind, width: int, config: ModelConfig, drop: float) -> nn.Sequential:
    """A block of `width` channels in and out; `drop` is its probability of stochastic depth.

    - `convnext`: Liu et al. 2022, arXiv:2201.03545, figure 4.
    - `basic`, `bottleneck`: He et al. 2016, arXiv:1512.03385, figure 5.
    - `plain`: 3x3 convolution, activation, 1x1 convolution; no sum, so neither layer scale nor stochastic depth.
    """
    makers = {"convnext": _convnext, "basic": _basic, "bottleneck": _bottleneck, "plain": _plain}
    return makers[kind](width, config, drop)


def _convnext(width: int, config: ModelConfig, drop: float) -> nn.Sequential:
    inner = width * config.expansion
    return sequence(
        Residual,
        dw=DepthwiseConv2d(width, config.kernel),
        norm=make_norm(config.norm, width),
        pw1=nn.Conv2d(width, inner, 1),
        act=make_activation(config.activation),
        pw2=nn.Conv2d(inner, width, 1),
        **_end(width, config, drop),
    )


def _basic(width: int, config: ModelConfig, drop: float) -> nn.Sequential:
    return sequence(
        Residual,
        conv1=nn.Conv2d(width, width, 3, padding=1),
        norm1=make_norm(config.norm, width),
        act1=make_activation(config.activation),
        conv2=nn.Conv2d(width, width, 3, padding=1),
        norm2=make_norm(config.norm, width),
        **_end(width, config, drop),
        after=make_activation(config.activation),
    )


def _bottleneck(width: int, config: ModelConfig, drop: float) -> nn.Sequential:
    inner = max(width // config.expansion, 1)
    return sequence(
        Residual,
        pw1=nn.Conv2d(width, inner, 1),
        norm1=make_norm(config.norm, inner),
        act1=make_activation(config.activation),
        conv=nn.Conv2d(inner, inner, 3, padding=1),
        norm2=make_norm(config.norm, inner),
        act2=make_activation(config.activation),
        pw2=nn.Conv2d(inner, width, 1),
        norm3=make_norm(config.norm, width),
        **_end(width, config, drop),
        after=make_activation(config.activation),
    )


def _plain(width: int, config: ModelConfig, drop: float) -> nn.Sequential:
    del drop
    return sequence(
        nn.Sequential,
        conv=nn.Conv2d(width, width, 3, padding=1),
        norm=make_norm(config.norm, width),
        act=make_activation(config.activation),
        pw=nn.Conv2d(width, width, 1),
    )


def _end(width: int, config: ModelConfig, drop: float) -> dict[str, nn.Module | None]:
    """The end of every residual branch."""
    return {
        "scale": LayerScale(width, config.layer_scale) if config.layer_scale else None,
        "drop": StochasticDepth(drop) if drop else None,
    }
