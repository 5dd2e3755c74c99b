"""How far a network sees: the theoretical receptive field, and what a gradient shows of it.

Theory: Araujo, Norris and Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks", Distill
(doi:10.23915/distill.00021), equations 1 to 3: a convolution of kernel k, stride s and padding p needs, for the
outputs a to b, the inputs `a s - p` to `b s - p + k - 1`. The same is written here for each leaf of the vocabulary
and followed from one logit back to the pixels; where paths meet, the hull of both counts.

Measure: Luo et al. 2016, "Understanding the Effective Receptive Field" (arXiv:1701.04128), section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeseg.model.blocks import Residual
from edgeseg.model.network import DecoderLevel, SegModel


@dataclass(frozen=True, slots=True)
class Span:
    """Positions `first` to `last` along one axis, both included; negative ones lie in the padding."""

    first: int
    last: int

    def __or__(self, other: Span) -> Span:
        return Span(min(self.first, other.first), max(self.last, other.last))

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class MeasuredField:
    """What the gradient of the central logits shows.

    Attributes:
        extent: Side of the smallest square, in pixels, outside which the gradient is exactly 0.
        effective: Square root of the number of pixels whose gradient is above 4.55 % (outside two standard deviations
            of a Gaussian) of the largest, in pixels: the definition of Luo et al.
    """

    extent: int
    effective: float


def theoretical_field(model: SegModel) -> int:
    """Side, in pixels, of the square that one pixel's logits can depend on: the largest over all pixels of a cell."""
    return max(len(theoretical_span(model, at)) for at in range(model.stride))


def theoretical_span(model: SegModel, at: int) -> Span:
    """Pixels along one axis that the logits of the pixel `at` can depend on; negative ones lie in the padding."""
    config = model.config
    needed = {config.output_level: _back(model.head, Span(at, at))}
    for level in config.decoder_levels:
        step = model.decoder[str(level)]
        assert isinstance(step, DecoderLevel)
        # the skip reads the same positions; without a skip they come in by the longer way
        joined = _back(step.filter, needed[level])
        needed[level] = joined
        if step.unpool is not None:  # which reads whole cells of the skip
            joined = Span(joined.first // 2, joined.last // 2)
            needed[level] |= Span(2 * joined.first, 2 * joined.last + 1)
        needed[level + 1] = _back(step.up, joined)
    found = needed[config.levels - 1]
    for level in reversed(range(config.levels)):
        found = _back(model.encoder[level], found)
        if level - 1 in needed:
            found |= needed[level - 1]
    return _back(model.stem, found)


def measured_field(model: SegModel, *, seed: int = 0) -> MeasuredField:
    """The receptive field of a network with its present weights, on noise, by the gradient of the central logits.

    The network is left in the mode it was in; its weights gather no gradient.
    """
    side = (math.ceil(theoretical_field(model) / model.stride) + 2) * model.stride
    device = next(model.parameters()).device
    x = torch.randn((1, 3, side, side), generator=torch.Generator().manual_seed(seed)).to(device).requires_grad_()
    training = model.training
    try:
        logits = model.eval()(x)
    finally:
        model.train(training)
    (gradient,) = torch.autograd.grad(logits[0, :, side // 2, side // 2].sum(), x)
    return _extents(gradient[0].abs().amax(0))


def _extents(strength_hw: Tensor) -> MeasuredField:
    rows, columns = (strength_hw.amax(axis).nonzero().flatten() for axis in (1, 0))
    extent = max(int(hit[-1] - hit[0]) + 1 if len(hit) else 0 for hit in (rows, columns))
    above = int((strength_hw > (1 - 0.9545) * strength_hw.max()).sum())
    return MeasuredField(extent=extent, effective=math.sqrt(above))


def _back(module: nn.Module, span: Span) -> Span:
    """Inputs of `module` that its outputs at `span` depend on."""
    if isinstance(module, nn.Sequential):
        inner = span
        for child in reversed(list(module)):
            inner = _back(child, inner)
        return inner | span if isinstance(module, Residual) else inner
    if isinstance(module, nn.ConvTranspose2d):
        kernel, stride, padding = module.kernel_size[0], module.stride[0], int(module.padding[0])
        return Span(-((kernel - 1 - padding - span.first) // stride), (span.last + padding) // stride)
    if isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):  # 2x2, stride 2
        return Span(2 * span.first, 2 * span.last + 1)
    if isinstance(module, nn.Conv2d):
        kernel, stride, padding = module.kernel_size[0], module.stride[0], int(module.padding[0])
        return Span(span.first * stride - padding, span.last * stride - padding + kernel - 1)
    if isinstance(module, nn.ReplicationPad2d):
        return Span(span.first - module.padding[0], span.last - module.padding[0])
    if isinstance(module, nn.PixelShuffle):
        return Span(span.first // module.upscale_factor, span.last // module.upscale_factor)
    if isinstance(module, nn.Upsample):
        factor = int(module.scale_factor)  # type: ignore[arg-type]
        if module.mode == "nearest":
            return Span(span.first // factor, span.last // factor)
        # half-pixel centres: output o lies at (o + 1/2) / factor - 1/2 and reads the inputs on both sides of it
        first, last = ((2 * at + 1 - factor) // (2 * factor) for at in (span.first, span.last))
        return Span(first, last + 1)
    return span
