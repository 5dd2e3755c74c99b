"""The network: stem, encoder, decoder with skips, head."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from edgeseg.core.errors import RequestError
from edgeseg.core.types import format_size
from edgeseg.model.blocks import make_activation, make_block, make_norm, sequence
from edgeseg.model.config import ModelConfig
from edgeseg.model.sampling import EnlargedLogits, MaxUnpool2d, MeanTransposed2d, make_down, make_up


class DecoderLevel(nn.Module):
    """One step up: enlarge, join the encoder's features of that level, filter.

        y = up(x)                       then unpool(y, features) where upsample is max_unpool
        y = fuse(concat(y, features))   where skip is concat
        y = y + fuse(features)          where skip is add
        y = filter(y)

    Children: `up`, `unpool` or None, `fuse` or None, `filter`.
    """

    def __init__(self, channels_in: int, channels_skip: int, channels: int, level: int, config: ModelConfig) -> None:
        super().__init__()
        self.skip = config.skip
        unpool = config.upsample == "max_unpool"
        # un-pooled values go to the places of the encoder's maxima, so they need the encoder's width
        wide = channels_skip if unpool else channels
        self.up = make_up(channels_in, wide, config)
        self.unpool = MaxUnpool2d() if unpool else None
        inputs = {"concat": wide + channels_skip, "add": channels_skip, "none": wide}[config.skip]
        outputs = wide if config.skip == "add" else channels
        self.fuse: nn.Sequential | None = None
        if config.skip != "none" or wide != channels:
            self.fuse = sequence(
                nn.Sequential,
                conv=nn.Conv2d(inputs, outputs, 1),
                norm=make_norm(config.norm, outputs),
                # without it a concat skip would be an add skip: two linear maps in a row are one
                act=make_activation(config.activation),
            )
        self.filter = nn.Sequential()
        if outputs != channels:
            self.filter.add_module("conv", nn.Conv2d(outputs, channels, 1))
        for index in range(config.decoder_depths[level - config.output_level]):
            block = make_block(config.decoder_block(level), channels, config, _drop(config, level))
            self.filter.add_module(str(index), block)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """[N, C, H, W] and the encoder's [N, S, 2H, 2W] to [N, C', 2H, 2W]."""
        y: Tensor = self.up(x)
        if self.unpool is not None:
            y = self.unpool(y, features)
        if self.skip == "concat":
            y = torch.cat((y, features), dim=1)
        if self.skip == "add":
            assert self.fuse is not None
            y = y + self.fuse(features)
        elif self.fuse is not None:
            y = self.fuse(y)
        out: Tensor = self.filter(y)
        return out


class SegModel(nn.Module):
    """A U-Net of one vocabulary of blocks (Ronneberger et al. 2015, arXiv:1505.04597).

        stem       nn.Sequential
        encoder    one nn.Sequential a level, finest first: `down` (not in level 0), then blocks `0`, `1`, …
        decoder    nn.ModuleDict, level to DecoderLevel; run from the coarsest to the finest
        head       nn.Sequential: `conv` to classes, then `enlarge` or `shuffle` to pixels
        aux        nn.ModuleDict, level to a 1x1 classifier; used in training only

    Args:
        config: What shapes it.
        num_classes: Channels of the result.
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.stem = _stem(config)
        self.encoder = nn.ModuleList(_encoder_level(level, config) for level in range(config.levels))
        self.decoder = nn.ModuleDict()
        below = config.widths[-1]
        for level in reversed(config.decoder_levels):
            width = config.decoder_widths[level - config.output_level]
            self.decoder[str(level)] = DecoderLevel(below, config.widths[level], width, level, config)
            below = width
        self.head = _head(below, num_classes, config)
        self.aux = nn.ModuleDict()
        for level in config.decoder_levels[1 : 1 + config.aux_heads]:
            width = config.decoder_widths[level - config.output_level]
            self.aux[str(level)] = nn.Conv2d(width, num_classes, 1)

    @property
    def stride(self) -> int:
        """Heights and widths must be multiples of it."""
        return self.config.stride

    def features(self, x: Tensor) -> list[Tensor]:
        """Encoder features of every level, finest first: [N, widths[i], H / s_i, W / s_i]."""
        found: list[Tensor] = []
        x = self.stem(x)
        for level in self.encoder:
            x = level(x)
            found.append(x)
        return found

    def decode(self, features: list[Tensor]) -> dict[int, Tensor]:
        """Features of every level that the decoder restores, by level, the coarsest (the encoder's own) included."""
        level = self.config.levels - 1
        found = {level: features[level]}
        for level in reversed(self.config.decoder_levels):
            found[level] = self.decoder[str(level)](found[level + 1], features[level])
        return found

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits of every pixel.

        Args:
            x: float [N, 3, H, W], RGB, normalised; H and W multiples of `stride`.

        Returns:
            float [N, classes, H, W]. In training mode with auxiliary heads a list: these logits first, then those of
            each auxiliary head at its own resolution, finest first.

        Raises:
            RequestError: A height or width that is not a multiple of the stride; names the size to pad to.
        """
        self._check_size(x)
        found = self.decode(self.features(x))
        logits: Tensor = self.head(found[self.config.output_level])
        if not self.training or not self.aux:
            return logits
        return [logits, *(head(found[int(level)]) for level, head in self.aux.items())]

    def _check_size(self, x: Tensor) -> None:
        if torch.compiler.is_compiling():
            return
        height, width = int(x.shape[-2]), int(x.shape[-1])
        if height % self.stride or width % self.stride:
            size = (math.ceil(height / self.stride) * self.stride, math.ceil(width / self.stride) * self.stride)
            raise RequestError(
                "the network cannot take this size",
                value=format_size((height, width)),
                allowed=f"multiples of {self.stride}: pad to {format_size(size)}",
            )


def build_model(config: ModelConfig, num_classes: int, *, seed: int = 0) -> SegModel:
    """A network with deterministic first weights, in channels_last, in training mode.

    Convolutions are drawn from a truncated normal of variance 1 / fan-in (LeCun), doubled where a ReLU-like activation
    follows (He et al. 2015, arXiv:1502.01852); biases are 0. The global random state is left as it was. A bias that a
    BatchNorm takes off again does not learn.

    Args:
        config: What shapes it.
        num_classes: Channels of the result.
        seed: Of the first weights.
    """
    if num_classes < 1:
        raise RequestError("a network needs classes", value=num_classes, allowed="at least 1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SegModel(config, num_classes)
        _initialise(model)
    _hold_cancelled_biases(model)
    # weights in channels_last carry the activations with them: LayerNorm is then five times faster on CPUs
    return model.to(memory_format=torch.channels_last)


def _initialise(model: SegModel) -> None:
    activated = _activated(model)
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            std = math.sqrt((2.0 if name in activated else 1.0) / _fan_in(module))
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _hold_cancelled_biases(model: SegModel) -> None:
    """Biases right before a BatchNorm have no gradient: it is 0 but for rounding, but takes a sum over all pixels."""
    for module in model.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for conv, norm in itertools.pairwise(module.children()):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and conv.bias is not None:
                conv.bias.requires_grad_(False)


def _fan_in(module: nn.Conv2d | nn.ConvTranspose2d) -> float:
    """Inputs that meet in one output, in units of their variance."""
    taps = math.prod(module.kernel_size)
    if isinstance(module, nn.Conv2d):
        return taps * module.in_channels / module.groups
    overlap = taps / math.prod(module.stride)
    # an average of n terms has 1 / n^2 of the variance of their sum
    return module.in_channels * (1 / overlap if isinstance(module, MeanTransposed2d) else overlap)


def _activated(model: SegModel) -> set[str]:
    """Convolutions whose input comes from an activation, which halves the variance."""
    found: set[str] = set()
    for path, module in model.named_modules():
        if not isinstance(module, nn.Sequential):
            continue
        active = False
        for name, child in module.named_children():
            if active and isinstance(child, nn.Conv2d):
                found.add(f"{path}.{name}")
            active = isinstance(child, (nn.ReLU, nn.GELU, nn.Hardswish))
    return found


def _drop(config: ModelConfig, level: int) -> float:
    return config.drop_path * level / max(config.levels - 1, 1)


def _stem(config: ModelConfig) -> nn.Sequential:
    width = config.widths[0]
    kind = config.stem
    if kind in ("patch4", "patch2"):
        side = config.stem_stride
        return sequence(nn.Sequential, conv=nn.Conv2d(3, width, side, stride=side), norm=make_norm(config.norm, width))
    if kind == "pixel":
        return sequence(
            nn.Sequential,
            pad=nn.ReplicationPad2d((1, 1, 1, 1)),
            conv=nn.Conv2d(3, width, 3),
            norm=make_norm(config.norm, width),
        )
    # even sizes need padding at the top and left only: the last window ends at the last pixel
    first = max(width // 2, 1) if kind == "conv4" else width
    children: dict[str, nn.Module | None] = {
        "pad": nn.ReplicationPad2d((1, 0, 1, 0)),
        "conv": nn.Conv2d(3, first, 3, stride=2),
        "norm": make_norm(config.norm, first),
        "act": make_activation(config.activation),
    }
    if kind == "conv4":
        children["conv2"] = nn.Conv2d(first, width, 3, stride=2, padding=1)
        children["norm2"] = make_norm(config.norm, width)
    return sequence(nn.Sequential, **children)


def _encoder_level(level: int, config: ModelConfig) -> nn.Sequential:
    width = config.widths[level]
    blocks = nn.Sequential()
    if level:
        blocks.add_module("down", make_down(config.widths[level - 1], width, config))
    before = sum(config.depths[:level])
    last = max(sum(config.depths) - 1, 1)
    for index in range(config.depths[level]):
        drop = config.drop_path * (before + index) / last
        blocks.add_module(str(index), make_block(config.encoder_block(level), width, config, drop))
    return blocks


def _head(channels: int, num_classes: int, config: ModelConfig) -> nn.Sequential:
    factor = config.stem_stride << config.output_level
    side = config.head_kernel
    outputs = num_classes * factor**2 if config.head == "shuffle" else num_classes
    conv = nn.Conv2d(channels, outputs, side, padding=side // 2)
    if factor == 1:
        return sequence(nn.Sequential, conv=conv)
    if config.head == "shuffle":
        return sequence(nn.Sequential, conv=conv, shuffle=nn.PixelShuffle(factor))
    return sequence(nn.Sequential, conv=conv, enlarge=EnlargedLogits(factor))
