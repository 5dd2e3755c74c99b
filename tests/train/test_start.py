"""What a run starts from: heads move with the share of the class weights that the loss shows beforehand."""

from __future__ import annotations

import copy
from pathlib import Path

import msgspec
import pytest
import torch

from edgeseg.core.config import load_config
from edgeseg.core.progress import Silent
from edgeseg.model import build_model, preset
from edgeseg.train import train_model
from edgeseg.train.config import RunConfig
from edgeseg.train.request import TrainRequest
from edgeseg.train.run import start_model
from edgeseg.train.start import shift_heads

from .conftest import tiny_overrides

WEIGHTS = torch.tensor([0.5, 1.0, 4.0])


@pytest.fixture
def run(tmp_path: Path, folder_data: str) -> Path:
    overrides = tiny_overrides(folder_data, epochs=1)
    return train_model(TrainRequest(out=tmp_path / "first", model="edge-s", overrides=overrides, device="cpu"))


def config_from(run: Path, share: float, scheme: str = "sqrt") -> RunConfig:
    config = load_config(run / "config.toml", RunConfig)
    loss = msgspec.structs.replace(config.loss, weight_shift=share, class_weights=scheme)
    return msgspec.structs.replace(config, init=str(run), loss=loss)


@pytest.mark.parametrize("head", ["resize", "shuffle"])
def test_the_same_probabilities_stand_before_the_loss(run: Path, head: str) -> None:
    config = config_from(run, 0.4)
    shape = msgspec.structs.replace(preset("edge-s"), head=head, aux_heads=1, drop_path=0.0)
    model = build_model(shape, 3, seed=1).eval()
    was = copy.deepcopy(model)
    assert shift_heads(model, config, WEIGHTS)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        shown = model(x) + 0.4 * WEIGHTS.log()[:, None, None]
        torch.testing.assert_close(shown, was(x), atol=1e-5, rtol=1e-5)
    assert not torch.equal(next(iter(model.aux.values())).bias, next(iter(was.aux.values())).bias)


def test_nothing_moves_where_nothing_changed_or_nothing_is_known(run: Path) -> None:
    model = start_model(config_from(run, 0.0), torch.device("cpu"), Silent(), fresh=True)
    assert not shift_heads(model, config_from(run, 0.0), WEIGHTS)
    assert not shift_heads(model, config_from(run, 0.4, "log"), WEIGHTS)
    assert not shift_heads(model, config_from(run, 0.4), None)
    assert not shift_heads(model, msgspec.structs.replace(config_from(run, 0.4), init="zoo:edge-s"), WEIGHTS)


def test_a_run_goes_through_it(run: Path, folder_data: str) -> None:
    """At a rate of nothing the second run's weights are the first's, but for the heads' biases."""
    overrides = {**tiny_overrides(folder_data, epochs=1, lr=1e-12, weight_decay=0.0)}
    overrides["loss"] = {**overrides["loss"], "weight_shift": 0.4}
    out = train_model(
        TrainRequest(out=run.with_name("second"), model="edge-s", overrides=overrides, init=str(run), device="cpu")
    )
    from safetensors.torch import load_file

    old, new = (load_file(str(folder / "weights.safetensors")) for folder in (run, out))
    moved = {name for name in old if not torch.allclose(old[name].float(), new[name].float(), atol=1e-4)}
    assert "head.conv.bias" in moved
    assert not any(name.endswith("conv.weight") for name in moved)
