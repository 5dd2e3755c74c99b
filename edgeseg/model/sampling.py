"""Changing resolution by two: downsampling of the encoder, upsampling of the decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeseg.model.blocks import make_norm, sequence
from edgeseg.model.config import ModelConfig


class MeanTransposed2d(nn.ConvTranspose2d):
    """Transposed 4x4 convolution of stride 2 whose overlapping contributions are averaged, not summed.

    `y = conv_transpose(x, w) / conv_transpose(1, 1) + b`: inside, four inputs meet at each output; at an edge two, in
    a corner one.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 4, stride=2, padding=1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[N, C, H, W] to [N, C', 2H, 2W]."""
        del output_size
        total = nn.functional.conv_transpose2d(x, self.weight, stride=2, padding=1)
        ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
        kernel = torch.ones((1, 1, 4, 4), dtype=x.dtype, device=x.device)
        count = nn.functional.conv_transpose2d(ones, kernel, stride=2, padding=1)
        assert self.bias is not None
        return total / count + self.bias[:, None, None]


class MaxUnpool2d(nn.Module):
    """Un-pooling of 2x2 max pooling with remembered indices (Zeiler and Fergus 2014, arXiv:1311.2901).

    The indices are those of `reference`, the tensor that was pooled on the way down: taking them from it again keeps
    the module free of state, and an exported graph needs no index tensor.
    """

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        """[N, C, H, W] and its reference [N, C, 2H, 2W] to [N, C, 2H, 2W], zero outside the maxima."""
        _, indices = nn.functional.max_pool2d(reference, 2, return_indices=True)
        return nn.functional.max_unpool2d(x, indices, [2, 2])


class EnlargedLogits(nn.Upsample):
    """Bilinear enlargement of logits by a whole factor, half-pixel centres, in float32.

    Bilinear enlargement is linear and separable: `rows @ x @ columns.T`. Where gradients are wanted it is computed so,
    in contiguous planes. On a CPU it takes, with the log-softmax that follows, a third of the time of torch's own
    kernel, whose backward pass over interleaved channels was a tenth of a training step; on a GPU that pass adds up
    in an order that changes from run to run.
    """

    def __init__(self, factor: int) -> None:
        super().__init__(scale_factor=factor, mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to float32 [N, C, factor H, factor W] where gradients are wanted, else the dtype of x."""
        if x.device.type == "meta" or not torch.is_grad_enabled():
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            rows, columns = (self._weights(side, x.device) for side in x.shape[2:])
            return torch.matmul(torch.matmul(rows, x.float().contiguous()), columns.T)

    def _weights(self, side: int, device: torch.device) -> Tensor:
        """Each new place as a mixture of the old ones, float32 [factor side, side]."""
        with torch.no_grad():
            unit = torch.eye(side, device=device)[None]
            return nn.functional.interpolate(unit, scale_factor=self.scale_factor, mode="linear")[0].T.contiguous()


def make_down(channels_in: int, channels_out: int, config: ModelConfig) -> nn.Sequential:
    """Half the resolution: [N, C, H, W] to [N, C', H/2, W/2].

    LayerNorm comes before the convolution, as published; BatchNorm after it, where it folds into it.
    """
    pool = {"conv": None, "max": nn.MaxPool2d(2), "avg": nn.AvgPool2d(2)}[config.downsample]
    side = 2 if pool is None else 1
    conv = nn.Conv2d(channels_in, channels_out, side, stride=side)
    if config.norm == "layer":
        return sequence(nn.Sequential, pool=pool, norm=make_norm("layer", channels_in), conv=conv)
    return sequence(nn.Sequential, pool=pool, conv=conv, norm=make_norm(config.norm, channels_out))


def make_up(channels_in: int, channels_out: int, config: ModelConfig) -> nn.Sequential:
    """Double the resolution: [N, C, H, W] to [N, C', 2H, 2W].

    Where the enlargement itself learns nothing, the 1x1 convolution to the new width comes first: it commutes with
    nearest and bilinear enlargement, at a quarter of the work.
    """
    kind = config.upsample
    if kind == "transposed2":
        return sequence(nn.Sequential, conv=nn.ConvTranspose2d(channels_in, channels_out, 2, stride=2))
    if kind == "transposed4_sum":
        return sequence(nn.Sequential, conv=nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1))
    if kind == "transposed4_mean":
        return sequence(nn.Sequential, conv=MeanTransposed2d(channels_in, channels_out))
    if kind == "pixel_shuffle":
        return sequence(
            nn.Sequential, conv=nn.Conv2d(channels_in, 4 * channels_out, 1), shuffle=nn.PixelShuffle(upscale_factor=2)
        )
    conv = nn.Conv2d(channels_in, channels_out, 1)
    if kind == "max_unpool":  # the decoder level un-pools, which takes the reference as a second input
        return sequence(nn.Sequential, conv=conv)
    return sequence(nn.Sequential, conv=conv, enlarge=enlarge(2, bilinear=kind == "bilinear"))


def enlarge(factor: int, *, bilinear: bool) -> nn.Upsample:
    """Enlargement by a whole factor; bilinear with half-pixel centres."""
    if bilinear:
        return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=False)
    return nn.Upsample(scale_factor=factor, mode="nearest")
