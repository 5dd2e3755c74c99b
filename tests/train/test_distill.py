"""Distillation: the formulas, the tap, and that a student moves towards its teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgeseg.core.config import convert, load_config
from edgeseg.core.errors import RequestError
from edgeseg.model import ModelConfig, build_model
from edgeseg.train import train_model
from edgeseg.train.config import RunConfig
from edgeseg.train.distill import FeatureTap, attention_distance, divergence
from edgeseg.train.request import TrainRequest

from .conftest import TINY, tiny_overrides


def test_divergence_is_hinton_s() -> None:
    student, teacher = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    p, q = torch.softmax(teacher / 3, 1), torch.softmax(student / 3, 1)
    expected = 9 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(divergence(student, teacher, 3.0), expected)
    assert divergence(teacher, teacher, 2.0).abs() < 1e-12


def test_attention_does_not_see_scale_or_channels() -> None:
    features = torch.randn(2, 4, 5, 6)
    wider = torch.cat([features, features], dim=1) * 3
    assert attention_distance(features, wider).item() == pytest.approx(0, abs=1e-6)
    left, right = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    left[..., 0, 0], right[..., 1, 1] = 1, 1
    assert attention_distance(left, right).item() == pytest.approx(2)


def test_the_tap_names_features_by_stride() -> None:
    model = build_model(convert(TINY, ModelConfig, origin="test"), 3).eval()
    tap = FeatureTap(model)
    x = torch.randn(1, 3, 16, 24)
    model(x)
    assert {stride: tuple(found.shape[2:]) for stride, found in tap.found.items()} == {2: (8, 12), 4: (4, 6)}
    for ours, theirs in zip(tap.found.values(), model.features(x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_student_learns_from_its_teacher(tmp_path: Path, folder_data: str) -> None:
    tables = tiny_overrides(folder_data, epochs=1)
    teacher = train_model(TrainRequest(out=tmp_path / "teacher", model="edge-s", overrides=tables, device="cpu"))
    student = {**tables, "model": {**TINY, "widths": [4, 6]}}
    run = train_model(
        TrainRequest(out=tmp_path / "student", model="edge-s", overrides=student, teacher=str(teacher), device="cpu")
    )
    assert load_config(run / "config.toml", RunConfig).teacher == str(teacher)
    plain = train_model(TrainRequest(out=tmp_path / "plain", model="edge-s", overrides=student, device="cpu"))
    assert (run / "weights.safetensors").read_bytes() != (plain / "weights.safetensors").read_bytes()


def test_a_teacher_that_is_not_there(tmp_path: Path, folder_data: str) -> None:
    request = TrainRequest(
        out=tmp_path / "run", model="edge-s", overrides=tiny_overrides(folder_data), teacher=str(tmp_path / "none")
    )
    with pytest.raises(RequestError, match="none"):
        train_model(request)
    assert not (tmp_path / "run").exists()
