"""A time instead of a number of epochs: decided once, at the place where the rate has to begin to fall."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeseg.core.config import load_config
from edgeseg.core.errors import RequestError
from edgeseg.train import train_model
from edgeseg.train.budget import TimeBudget
from edgeseg.train.config import RunConfig, TrainConfig
from edgeseg.train.optimiser import learning_rate
from edgeseg.train.request import TrainRequest

from .conftest import tiny_overrides

CONFIG = TrainConfig(minutes=10, schedule="trapezoid", cooldown=0.4, warmup_epochs=0)


def test_the_epochs_that_are_left_follow_from_the_pace_of_the_last_ones() -> None:
    budget = TimeBudget(CONFIG)
    config = CONFIG
    for epoch in range(1, 35):  # the first epoch takes a minute, then ten seconds each
        found = budget.finish_epoch(config, epoch, 60 + 10 * (epoch - 1))
        if found is not None:
            break
    assert found is not None
    assert epoch == 31  # 360 s of 600: the first end of an epoch that leaves no more than the cooldown's share
    assert (found.epochs, found.minutes) == (31 + 24, 0.0)
    rates = [learning_rate(found, step, 1) / found.lr for step in (0, 30, 31, 43, 54)]
    assert rates[:3] == pytest.approx([1, 1, 1])
    assert rates[3] == pytest.approx(0.505, abs=0.01)
    assert rates[4] < 0.06


def test_epochs_that_are_long_against_the_time_do_not_run_over_it() -> None:
    """Half a minute each in one minute: the second has to be the last, though the first ends before the place."""
    config = msgspec.structs.replace(CONFIG, minutes=1, cooldown=0.3)
    found = TimeBudget(config).finish_epoch(config, 1, 30)
    assert found is not None
    assert found.epochs == 2


def test_an_epoch_that_compiled_the_step_does_not_stand_for_the_others() -> None:
    config = msgspec.structs.replace(CONFIG, minutes=2, cooldown=0.3, compile=True)
    assert TimeBudget(config).finish_epoch(config, 1, 50) is None


def test_an_epoch_longer_than_the_time_is_followed_by_one_more_in_which_the_rate_falls() -> None:
    found = TimeBudget(CONFIG).finish_epoch(CONFIG, 1, 5000)
    assert found is not None
    assert (found.epochs, found.cooldown) == (2, 0.5)


def test_a_run_of_some_seconds_writes_down_what_it_found(tmp_path: Path, folder_data: str) -> None:
    overrides = tiny_overrides(folder_data, minutes=0.02, schedule="trapezoid")
    out = train_model(TrainRequest(out=tmp_path / "run", model="edge-s", overrides=overrides, device="cpu"))
    config = load_config(out / "config.toml", RunConfig).train
    assert config.minutes == 0
    assert len((out / "metrics.jsonl").read_text().splitlines()) == config.epochs
    assert 0 < config.cooldown < 1


@pytest.mark.parametrize("change", [{"schedule": "cosine"}, {"cooldown": 0.0}])
def test_a_schedule_that_must_know_its_length_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="trapezoid"):
        TrainConfig(**{**msgspec.structs.asdict(CONFIG), **change})


def test_the_refusal_reaches_the_user(tmp_path: Path, folder_data: str) -> None:
    overrides = tiny_overrides(folder_data, minutes=1.0)
    with pytest.raises(RequestError, match="trapezoid"):
        train_model(TrainRequest(out=tmp_path / "run", model="edge-s", overrides=overrides, device="cpu"))
