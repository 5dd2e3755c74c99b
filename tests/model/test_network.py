"""One contract suite for every network: shapes, gradients, sizes, determinism, memory format."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgeseg.core.errors import RequestError
from edgeseg.model import build_model, preset, preset_names
from edgeseg.model.config import ModelConfig

CLASSES = 5


def frames(config: ModelConfig, height: int = 2, width: int = 3, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((batch, 3, height * config.stride, width * config.stride), generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", [name for name in preset_names() if name.startswith("edge")])
def test_every_preset_gives_logits_of_the_input_size(name: str) -> None:
    config = preset(name)
    model = build_model(config, CLASSES).eval()
    x = frames(config)
    with torch.inference_mode():
        logits = model(x)
    assert logits.shape == (2, CLASSES, *x.shape[2:])
    assert torch.isfinite(logits).all()


def test_a_size_off_the_stride_is_refused_with_the_size_to_pad_to() -> None:
    model = build_model(preset("edge-s"), CLASSES).eval()
    with pytest.raises(RequestError, match="pad to 64x96"):
        model(torch.zeros((1, 3, 60, 90)))
