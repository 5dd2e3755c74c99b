"""Decay groups, the schedule and the averaged weights."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from edgeseg.core.config import convert
from edgeseg.model import ModelConfig, build_model
from edgeseg.train.config import TrainConfig
from edgeseg.train.optimiser import AveragedModel, decay_groups, learning_rate

from .conftest import TINY


def test_only_filters_decay() -> None:
    model = build_model(convert(TINY, ModelConfig, origin="test"), 3)
    decayed, free = (group["params"] for group in decay_groups(model, 0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(names[id(parameter)].endswith("weight") and parameter.ndim == 4 for parameter in decayed)
    assert {name.rpartition(".")[2] for name in (names[id(parameter)] for parameter in free)} == {"weight", "bias"}
    assert not any(parameter.ndim == 4 for parameter in free)
    assert len(decayed) + len(free) == len(names)


@pytest.mark.parametrize("schedule", ["cosine", "trapezoid"])
def test_the_rate_climbs_stays_within_the_peak_and_ends_low(schedule: str) -> None:
    config = TrainConfig(epochs=10, warmup_epochs=2, lr=1.0, schedule=schedule, final_lr=0.01, cooldown=0.3)  # type: ignore[arg-type]
    rates = [learning_rate(config, step, 5) for step in range(50)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(rates) == 1.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert 0.01 <= rates[-1] < 0.08
    if schedule == "trapezoid":
        assert rates[10:35] == [1.0] * 25


def test_a_short_run_still_has_a_peak_in_its_middle() -> None:
    config = TrainConfig(epochs=1, warmup_epochs=3, lr=1.0)
    assert max(learning_rate(config, step, 4) for step in range(4)) == 1.0


def test_the_average_follows_the_formula_and_copies_counters() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    averaged = AveragedModel(model, 0.9)
    expected = copy.deepcopy(model[0].weight.detach())
    for step in range(200):
        with torch.no_grad():
            model[0].weight += 0.1
            model[1].num_batches_tracked += 1
        averaged.update(step)
        keep = min(0.9, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * model[0].weight.detach()
    torch.testing.assert_close(averaged.module[0].weight, expected)
    assert averaged.module[1].num_batches_tracked == 200
    assert not averaged.module.training
