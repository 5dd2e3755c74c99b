"""What the export's tests share: small networks with lively weights, and a run folder without a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgeseg.core.config import dump_toml, to_tables
from edgeseg.core.types import Classes
from edgeseg.model import InputConfig, ModelConfig, build_model, preset
from edgeseg.model.network import SegModel

CLASSES = Classes(
    names=("road", "sky", "tree", "car", "person"),
    palette_rgb=((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12), (13, 14, 15)),
)
SMALL = {"widths": (8, 12, 16), "depths": (1, 1, 1), "decoder_widths": (8, 12), "decoder_depths": (1, 1)}


def lively(model: SegModel, seed: int = 0) -> SegModel:
    """In eval mode, with biases and BatchNorm statistics that a fold could get wrong."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.normal_(1, 0.2, generator=generator)
            bias = getattr(module, "bias", None)
            if isinstance(bias, torch.nn.Parameter):
                bias.normal_(0, 0.1, generator=generator)
    return model.eval()


@pytest.fixture
def network() -> Callable[..., SegModel]:
    """A small network of five classes, or a preset; keywords replace fields of the small config."""

    def network(preset_name: str = "", **fields: object) -> SegModel:
        config = preset(preset_name) if preset_name else ModelConfig(**{**SMALL, **fields})
        return lively(build_model(config, len(CLASSES), seed=3))

    return network


@pytest.fixture
def classes() -> Classes:
    """Vocabulary of the networks."""
    return CLASSES


@pytest.fixture
def make_run(tmp_path: Path, network) -> Callable[..., Path]:
    """A complete run folder whose network was never trained."""
    from edgeseg.model.run import save_weights

    def make_run(frames: int = 2, name: str = "run", **fields: object) -> Path:
        run = tmp_path / name
        (run / "frames").mkdir(parents=True)
        model = network(**fields)
        save_weights(run / "weights.safetensors", model)
        tables = {
            "model": to_tables(model.config),
            "input": to_tables(InputConfig(network_size=(45, 60))),
            "classes": to_tables(CLASSES),
            "data": {"train": "street:seed=1,frames=8", "split": "train"},
        }
        (run / "config.toml").write_text(dump_toml(tables))
        (run / "done.json").write_text('{"scores": {"val": {"miou": 0.5, "iou": {"road": 0.9, "car": null}}}}')
        rng = np.random.default_rng(0)
        for index in range(frames):
            cells = rng.integers(0, 256, (5, 6, 3)).astype(np.uint8)
            Image.fromarray(cells).resize((60, 45)).save(run / "frames" / f"{index:05d}.png")
            Image.new("P", (60, 45)).save(run / "frames" / f"{index:05d}.label.png")
        return run

    return make_run
