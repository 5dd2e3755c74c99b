"""What a network costs and sees, before it is trained: parameters, multiply-adds, receptive field."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import torch
from torch import Tensor, nn

from edgeseg.core.types import Size
from edgeseg.model.config import ModelConfig
from edgeseg.model.network import SegModel
from edgeseg.model.receptive import theoretical_field


class NetworkSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The price of a config.

    Attributes:
        name: The config's label.
        parameters: Numbers that are trained; auxiliary heads, which are not exported, left out.
        multiply_adds: Of all convolutions, for one frame of `size`.
        size: (height, width) that they are counted at: the size asked for, padded to the stride.
        stride: Heights and widths must be multiples of it.
        receptive_field: Side, in pixels, of the square that one pixel's logits can depend on.
        layers: Multiply-adds by module path, in the order of execution.
    """

    name: str
    parameters: int
    multiply_adds: int
    size: Size
    stride: int
    receptive_field: int
    layers: dict[str, int]


def describe(config: ModelConfig, num_classes: int, size: Size) -> NetworkSummary:
    """Count a config without giving it weights: shapes alone are followed.

    Args:
        config: What shapes the network.
        num_classes: Channels of its result.
        size: (height, width) of the pixels that the network sees.
    """
    with torch.device("meta"):
        model = SegModel(config, num_classes).eval()
        height, width = (math.ceil(side / model.stride) * model.stride for side in size)
        with _counted(model) as layers, torch.no_grad():
            model(torch.empty((1, 3, height, width)))
    parameters = sum(parameter.numel() for name, parameter in model.named_parameters() if not name.startswith("aux."))
    return NetworkSummary(
        name=config.name,
        parameters=parameters,
        multiply_adds=sum(layers.values()),
        size=(height, width),
        stride=model.stride,
        receptive_field=theoretical_field(model),
        layers=layers,
    )


@contextmanager
def _counted(model: SegModel) -> Iterator[dict[str, int]]:
    """Collect the multiply-adds of every convolution of one forward pass, by module path."""
    layers: dict[str, int] = {}

    def count(path: str, module: nn.Conv2d | nn.ConvTranspose2d, x: Tensor, y: Tensor) -> None:
        # each output of a convolution gathers, each input of a transposed one scatters
        reach = module.in_channels // module.groups if isinstance(module, nn.Conv2d) else module.out_channels
        layers[path] = (y if isinstance(module, nn.Conv2d) else x).numel() * reach * math.prod(module.kernel_size)

    hooks = [
        module.register_forward_hook(lambda module, args, y, path=path: count(path, module, args[0], y))
        for path, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    try:
        yield layers
    finally:
        for hook in hooks:
            hook.remove()
