"""Pretraining: a linear auto-encoder reaches PCA's error; hidden pixels count alone; a training starts from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from edgeseg.core.config import load_config
from edgeseg.core.errors import DataError
from edgeseg.core.progress import Silent
from edgeseg.train import pretrain_model, train_model
from edgeseg.train.config import PretrainConfig, RunConfig
from edgeseg.train.plan import Purpose, generator
from edgeseg.train.pretrain import draw_mask, read_frames, reconstruction_loss
from edgeseg.train.request import TrainRequest

from .conftest import tiny_overrides

COMPONENTS = 3
STILL = {
    "crop": [24, 32], "scale": [1, 1], "aspect": 1, "flip": 0.0,
    "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0,
}  # fmt: skip


@pytest.fixture
def gradients(tmp_path: Path) -> Path:
    """A folder of smooth pictures with a little noise: a few components say most about their patches."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(25, 3, 6, 8, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(coarse, (24, 32), mode="bilinear")
    noisy = (smooth + 2 * torch.randn(smooth.shape, generator=generator)).round().clamp(0, 255).to(torch.uint8)
    folder = tmp_path / "gradients"
    folder.mkdir()
    for index, picture in enumerate(noisy):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{index:02d}.png")
    return folder


def test_a_linear_auto_encoder_reaches_the_error_of_pca(tmp_path: Path, gradients: Path) -> None:
    overrides = {
        "data": {"train": str(gradients)},
        "model": {
            "stem": "patch4", "widths": [COMPONENTS], "depths": [0], "decoder_widths": [], "decoder_depths": [],
            "decoder_blocks": ["convnext"], "norm": "none", "activation": "none", "head": "shuffle",
        },
        "train": {
            "epochs": 80, "batch": 5, "lr": 0.1, "weight_decay": 0.0, "warmup_epochs": 5, "validate_every": 80,
            "threads": 1, "precision": "fp32", "ema_decay": 0.9, "clip_norm": 0.0, "final_lr": 0.001,
        },
        "augment": STILL,
        "pretrain": {"mask": 0.0, "holdout": 0.0},
    }  # fmt: skip
    run = pretrain_model(TrainRequest(out=tmp_path / "run", model="edge-s", overrides=overrides, device="cpu"))
    reached = json.loads((run / "done.json").read_text())["scores"]["val"]["mse"]

    config = load_config(run / "config.toml", RunConfig)
    train, _ = read_frames(config, torch.device("cpu"), Silent())
    mean, std = torch.tensor(config.input.mean_rgb)[:, None, None], torch.tensor(config.input.std_rgb)[:, None, None]
    frames = torch.stack([(image.float() - mean) / std for image in train.images]).double()
    patches = torch.nn.functional.unfold(frames, 4, stride=4).transpose(1, 2).reshape(-1, 48)
    values = torch.linalg.svdvals(patches - patches.mean(dim=0))
    best = float(values[COMPONENTS:].square().sum() / patches.numel())
    assert best <= reached * (1 + 1e-6)  # nothing linear of this width can be better
    assert reached <= 1.01 * best


def test_masks_hide_their_share_in_whole_patches() -> None:
    config = PretrainConfig(mask=0.5, patch=4)
    mask = draw_mask(generator(1, Purpose.MASK, 0, 0), (16, 24), config)
    assert mask.shape == (1, 16, 24)
    cells = mask.reshape(4, 4, 6, 4).float().mean(dim=(1, 3))
    assert set(cells.unique().tolist()) == {0.0, 1.0}
    assert cells.sum() == 12
    assert draw_mask(generator(1, Purpose.MASK, 0, 0), (10, 10), config).shape == (1, 10, 10)


def test_only_what_counts_is_in_the_loss() -> None:
    frame = torch.zeros(1, 3, 2, 2)
    counted = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    outputs = torch.full((1, 3, 2, 2), 5.0)
    outputs[..., 0, 0] = 2.0
    assert reconstruction_loss(frame, outputs, torch.cat([frame, counted], dim=1)).item() == pytest.approx(4.0)


def test_a_training_starts_from_its_encoder_and_it_resumes(tmp_path: Path, folder_data: str) -> None:
    tables = tiny_overrides(folder_data, epochs=2)
    overrides = {name: table for name, table in tables.items() if name != "loss"}
    overrides["pretrain"] = {"mask": 0.5, "patch": 8, "holdout": 0.2}
    run = pretrain_model(TrainRequest(out=tmp_path / "pre", model="edge-s", overrides=overrides, device="cpu"))
    done = json.loads((run / "done.json").read_text())
    assert done["scores"]["val"]["psnr_db"] > 0
    pretrain_model(TrainRequest(out=run, resume=True, device="cpu", overrides={"train": {"epochs": 3}}))

    trained = train_model(
        TrainRequest(
            out=tmp_path / "run", model="edge-s", overrides={**tables, "train": {**tables["train"], "lr": 1e-12}},
            init=str(run), device="cpu",
        )
    )  # fmt: skip
    before, after = load_file(run / "weights.safetensors"), load_file(trained / "weights.safetensors")
    assert torch.allclose(before["encoder.0.0.pw1.weight"], after["encoder.0.0.pw1.weight"], atol=1e-6)
    painter = "decoder.0.filter.0.pw1.weight"
    assert before[painter].shape == after[painter].shape
    assert not torch.allclose(before[painter], after[painter], atol=1e-3)


def test_too_few_frames(tmp_path: Path, folder_data: str) -> None:
    overrides = {**tiny_overrides(folder_data), "pretrain": {"frames": 3}}
    with pytest.raises(DataError, match="too few frames"):
        pretrain_model(TrainRequest(out=tmp_path / "run", model="edge-s", overrides=overrides, device="cpu"))
    assert not (tmp_path / "run").exists()


def test_frames_of_a_folder_of_pictures(tmp_path: Path, folder_data: str) -> None:
    pictures = Path(folder_data.partition(":")[2]) / "train" / "images"
    overrides = {**tiny_overrides(str(pictures), epochs=1)}
    run = pretrain_model(TrainRequest(out=tmp_path / "run", model="edge-s", overrides=overrides, device="cpu"))
    config = load_config(run / "config.toml", RunConfig)
    assert config.model.skip == "none"
    assert np.isfinite(json.loads((run / "done.json").read_text())["scores"]["val"]["mse"])
