"""Whole runs: what they leave, and that a broken one ends with the weights of an unbroken one, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edgeseg.core.config import load_config
from edgeseg.core.errors import DataError, EdgesegError, RequestError, VerifyError
from edgeseg.data import open_dataset, pack
from edgeseg.data.masks import read_index_png
from edgeseg.model import load_run
from edgeseg.train import pretrain_model, train_model
from edgeseg.train.checkpoint import checkpoint_file
from edgeseg.train.config import RunConfig
from edgeseg.train.record import read_metrics
from edgeseg.train.request import TrainRequest

from .conftest import tiny_overrides


class Script:
    """A progress display that counts steps and acts after one of them."""

    def __init__(self, act: object = None, after: int = -1) -> None:
        self.steps = 0
        self.said: list[str] = []
        self._act = act
        self._after = after

    def task(self, name: str, total: float | None = None) -> Script:
        self._name = name
        return self

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, n: float = 1.0, note: str | None = None) -> None:
        if self._name == "train" and n:
            self.steps += 1
            if self.steps == self._after and callable(self._act):
                self._act()

    def say(self, text: str) -> None:
        self.said.append(text)


def request(out: Path, data: str, **more: object) -> TrainRequest:
    return TrainRequest(out=out, model="edge-s", overrides=tiny_overrides(data), device="cpu", **more)  # type: ignore[arg-type]


def weights(run: Path) -> bytes:
    return (run / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, folder_data: str) -> Path:
    return train_model(request(tmp_path_factory.mktemp("runs") / "whole", folder_data))


@pytest.fixture
def finished(tmp_path: Path, whole_run: Path) -> Path:
    """A finished run to look at, break and go on with."""
    return Path(shutil.copytree(whole_run, tmp_path / "whole"))


def test_a_run_leaves_all_that_the_design_names(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "config.toml", "weights.safetensors", "checkpoint", "metrics.jsonl", "frames", "tensorboard", "done.json",
    }  # fmt: skip
    config = load_config(finished / "config.toml", RunConfig)
    assert config.input.network_size == (24, 32)
    assert config.augment.crop == (16, 24)
    frames = sorted(path.name for path in (finished / "frames").iterdir())
    assert len(frames) == 8
    assert read_index_png(finished / "frames" / "00000.label.png").shape == (24, 32)
    metrics = read_metrics(finished)
    assert [line["epoch"] for line in metrics] == [1, 2, 3]
    done = json.loads((finished / "done.json").read_text())
    assert done["scores"]["val"]["miou"] == metrics[-1]["val/miou"]
    assert load_run(finished).classes.names == ("ground", "box", "sky")


def test_it_learns(tmp_path: Path, folder_data: str) -> None:
    overrides = {**tiny_overrides(folder_data, epochs=15, lr=0.02)}
    overrides["augment"] = {**overrides["augment"], "scale": [0.8, 1.25]}
    run = train_model(TrainRequest(out=tmp_path / "run", model="edge-s", overrides=overrides, device="cpu"))
    assert json.loads((run / "done.json").read_text())["scores"]["val"]["miou"] > 0.6


@pytest.mark.parametrize("after", [1, 2, 5])
def test_an_interrupted_run_goes_on_bit_for_bit(finished: Path, folder_data: str, after: int) -> None:
    out = finished.with_name("broken")
    stop = Script(lambda: os.kill(os.getpid(), signal.SIGINT), after)
    with pytest.raises(KeyboardInterrupt):
        train_model(request(out, folder_data), stop)
    assert not (out / "done.json").exists()
    assert stop.steps == after
    going_on = Script()
    train_model(TrainRequest(out=out, resume=True, device="cpu"), going_on)
    assert going_on.steps == 6 - after
    assert weights(out) == weights(finished)
    ours, theirs = ([{**line, "images_per_s": 0} for line in read_metrics(run)] for run in (out, finished))
    assert ours == theirs


@pytest.mark.parametrize("after", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_killed_process_goes_on_bit_for_bit(finished: Path, folder_data: str, after: int) -> None:
    out = finished.with_name("killed")
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from tests.train.test_run import Script, request, train_model\n"
        f"die = Script(lambda: os.kill(os.getpid(), signal.SIGKILL), {after})\n"
        "train_model(request(Path(sys.argv[2]), sys.argv[3]), die)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code, root, str(out), folder_data], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    train_model(TrainRequest(out=out, resume=True, device="cpu"))
    assert weights(out) == weights(finished)


def test_a_packed_file_is_learned_from_without_opencv(tmp_path: Path, folder_data: str) -> None:
    packed = tmp_path / "boxes.packed"
    pack(packed, {split: open_dataset(folder_data, split) for split in ("train", "val")})
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.modules['cv2'] = None\n"
        "from pathlib import Path\n"
        "from tests.train.test_run import request\n"
        "from edgeseg.train import train_model\n"
        "train_model(request(Path(sys.argv[2]), sys.argv[3]))\n"
    )
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", code, root, str(tmp_path / "run"), f"packed:{packed}"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads((tmp_path / "run" / "done.json").read_text())["scores"]["val"]["miou"] >= 0


def test_a_run_can_be_lengthened(finished: Path) -> None:
    train_model(TrainRequest(out=finished, resume=True, device="cpu", overrides={"train": {"epochs": 4}}))
    assert [line["epoch"] for line in read_metrics(finished)] == [1, 2, 3, 4]
    assert json.loads((finished / "done.json").read_text())["epochs"] == 4


def test_a_run_cannot_become_another(finished: Path) -> None:
    for table, field, value in (("train", "batch", 2), ("train", "seed", 9), ("model", "kernel", 5)):
        with pytest.raises(RequestError, match=f"cannot change {table}.{field}"):
            train_model(TrainRequest(out=finished, resume=True, overrides={table: {field: value}}))


@pytest.mark.parametrize(
    ("overrides", "more", "words"),
    [
        ({"augment": {"crop": [15, 15]}, "train": {"epochs": 4}}, {}, "crop does not fit"),
        ({"pretrain": {"mask": 0.5}}, {}, "no such table"),
        ({"qat": {"placement": "nvidia"}}, {}, "no such table"),
        ({"train": {"epochs": 2}}, {}, "past these epochs.*3 or more"),
        ({}, {"init": "zoo:edge-s"}, "cannot change --init under way.*none"),
        ({}, {"teacher": "other"}, "cannot change --teacher"),
        ({}, {"encoder_weights": "timm:convnext_atto"}, "cannot change --encoder-weights"),
        ({}, {"config": Path("recipe.toml")}, "own recipe.*--set"),
        ({}, {"qat": "other"}, "did not begin with --qat"),
    ],
)
def test_what_a_run_cannot_take_under_way_leaves_it_as_it_was(
    finished: Path, overrides: dict[str, dict[str, object]], more: dict[str, object], words: str
) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    again = TrainRequest(out=finished, resume=True, device="cpu", overrides=overrides, **more)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=words):
        train_model(again)
    assert {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before


def test_pretraining_does_not_go_on_with_a_run_on_labels(finished: Path) -> None:
    with pytest.raises(RequestError, match="learns from labels"):
        pretrain_model(TrainRequest(out=finished, resume=True, device="cpu"))


def test_what_killed_processes_had_begun_to_write_is_removed(finished: Path) -> None:
    left = [finished / ".weights.safetensors.a1b2.tmp.safetensors", finished / ".frames.c3d4.tmp"]
    left.append(finished / "checkpoint" / ".state.safetensors.e5f6.tmp.safetensors")
    for path in (left[0], left[2]):
        path.write_bytes(b"half")
    left[1].mkdir()
    (left[1] / "00000.png").write_bytes(b"half")
    train_model(TrainRequest(out=finished, resume=True, device="cpu"))
    assert not any(path.exists() for path in left)


def test_a_run_that_ends_where_it_stands_gives_the_weights_that_it_scores(finished: Path, folder_data: str) -> None:
    """Its file of weights may be ten seconds older than its checkpoint."""
    out = finished.with_name("broken")
    with pytest.raises(KeyboardInterrupt):
        train_model(request(out, folder_data), Script(lambda: os.kill(os.getpid(), signal.SIGINT), 3))
    train_model(TrainRequest(out=out, resume=True, device="cpu", overrides={"train": {"epochs": 1}}))
    averaged = load_file(checkpoint_file(out))
    for name, tensor in load_file(out / "weights.safetensors").items():
        assert torch.equal(tensor, averaged[f"averaged.{name}"]), name


def test_another_number_of_threads_is_said(finished: Path) -> None:
    display = Script()
    overrides = {"train": {"threads": 2, "epochs": 4}}
    train_model(TrainRequest(out=finished, resume=True, device="cpu", overrides=overrides), display)
    assert any("2 threads, 1 before" in line for line in display.said)


def test_an_existing_folder_is_refused(finished: Path, folder_data: str) -> None:
    with pytest.raises(RequestError, match="--resume"):
        train_model(request(finished, folder_data))


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no run to resume"):
        train_model(TrainRequest(out=tmp_path / "none", resume=True))


def test_a_truncated_checkpoint_is_refused(finished: Path) -> None:
    file = checkpoint_file(finished)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(VerifyError, match="does not verify"):
        train_model(TrainRequest(out=finished, resume=True, device="cpu"))


def test_a_checkpoint_of_another_model_is_refused(finished: Path, tmp_path: Path, folder_data: str) -> None:
    wider = tiny_overrides(folder_data)
    wider = {**wider, "model": {**wider["model"], "widths": [4, 12]}}
    other = train_model(TrainRequest(out=tmp_path / "wide", model="edge-s", overrides=wider, device="cpu"))
    checkpoint_file(finished).write_bytes(checkpoint_file(other).read_bytes())
    with pytest.raises(VerifyError, match="of another model"):
        train_model(TrainRequest(out=finished, resume=True, device="cpu"))


def test_a_checkpoint_in_which_other_tensors_learned_is_refused(finished: Path) -> None:
    """As before biases in front of a BatchNorm stood still: its moments would be given to the wrong tensors."""
    file = checkpoint_file(finished)
    with safe_open(str(file), "pt") as archive:
        position = archive.metadata()
    tensors = load_file(file)
    tensors |= {"optimiser.99.exp_avg": torch.zeros(4), "optimiser.99.step": torch.tensor(1.0)}
    save_file(tensors, str(file), position)
    with pytest.raises(VerifyError, match="other tensors learned") as raised:
        train_model(TrainRequest(out=finished, resume=True, device="cpu"))
    assert "--init" in str(raised.value.fix)


def test_moments_of_another_shape_are_refused(finished: Path) -> None:
    file = checkpoint_file(finished)
    with safe_open(str(file), "pt") as archive:
        position = archive.metadata()
    save_file({**load_file(file), "optimiser.0.exp_avg": torch.zeros(3)}, str(file), position)
    with pytest.raises(VerifyError, match=r"of another model.*optimiser\.0\.exp_avg"):
        train_model(TrainRequest(out=finished, resume=True, device="cpu"))


def test_a_truncated_checkpoint_leaves_the_run_as_it_was(finished: Path) -> None:
    file = checkpoint_file(finished)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(VerifyError):
        train_model(TrainRequest(out=finished, resume=True, device="cpu", overrides={"train": {"epochs": 9}}))
    assert (finished / "done.json").is_file()
    assert load_config(finished / "config.toml", RunConfig).train.epochs == 3


def test_divergence_names_the_remedy_and_keeps_the_last_checkpoint(tmp_path: Path, folder_data: str) -> None:
    overrides = tiny_overrides(folder_data, lr=1e20, clip_norm=0.0)
    with pytest.raises(EdgesegError, match=r"diverged.*--lr"):
        train_model(TrainRequest(out=tmp_path / "run", model="edge-s", overrides=overrides, device="cpu"))
    assert not (tmp_path / "run" / "done.json").exists()
    file = checkpoint_file(tmp_path / "run")
    assert not file.exists() or all(torch.isfinite(t.float()).all() for t in load_file(file).values())


@pytest.mark.parametrize("minutes", [0.0, 60.0])
def test_weights_that_are_no_numbers_are_not_kept(
    tmp_path: Path, folder_data: str, minutes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient of NaN behind a loss that is a number: the step after it would show it, its checkpoint came first."""

    def spoil(parameters: list[torch.Tensor], _norm: float) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.fill_(torch.nan)

    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", spoil)
    overrides = tiny_overrides(folder_data, batch=8, epochs=1, checkpoint_minutes=minutes)  # one step
    with pytest.raises(EdgesegError, match="diverged: the weights"):
        train_model(TrainRequest(out=tmp_path / "run", model="edge-s", overrides=overrides, device="cpu"))
    assert not checkpoint_file(tmp_path / "run").exists()
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_frames_without_a_label_are_named_before_a_step_is_taken(tmp_path: Path, folder_data: str) -> None:
    root = Path(shutil.copytree(folder_data.partition(":")[2], tmp_path / "unlabelled"))
    for file in (root / "train" / "masks").iterdir():
        Image.fromarray(np.full((24, 32), 255, np.uint8)).save(file)
    with pytest.raises(DataError, match=r"no pixel .* is labelled"):
        train_model(request(tmp_path / "run", f"folder:{root}"))
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_clear_line(tmp_path: Path, folder_data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgeseg.train.checkpoint.save_file", full)
    with pytest.raises(DataError, match="the disk is full"):
        train_model(request(tmp_path / "run", folder_data))
    assert not list((tmp_path / "run").glob("**/*.tmp*"))


def test_starting_from_another_run(finished: Path, folder_data: str) -> None:
    display = Script()
    out = finished.with_name("second")
    train_model(request(out, folder_data, init=str(finished)), display)
    assert any("start from" in line for line in display.said)
    assert load_config(out / "config.toml", RunConfig).init == str(finished)


def test_starting_from_nothing_that_fits(finished: Path, folder_data: str) -> None:
    with pytest.raises(RequestError, match="no weights"):
        train_model(request(finished.with_name("second"), folder_data, init=str(finished.with_name("none"))))
    assert not finished.with_name("second").exists()


def test_nothing_is_left_where_the_request_cannot_be(tmp_path: Path, folder_data: str) -> None:
    bad = [
        ({"data": {"train": folder_data}, "train": {"epochs": 0}}, "epochs"),
        ({"data": {"train": folder_data}, "train": {"epoch": 3}}, "did you mean"),
        ({"data": {"train": folder_data}, "augment": {"crop": [10, 10]}}, "multiples"),
        ({"data": {"train": folder_data}, "augment": {"crop": [32, 32]}, "train": {"batch": 1}}, "one value"),
        ({"data": {"train": folder_data, "val_splits": ["tset"]}}, "tset"),
        ({}, "no data set"),
    ]
    for overrides, words in bad:
        with pytest.raises(RequestError, match=words):
            train_model(TrainRequest(out=tmp_path / "run", model="edge-s", overrides=overrides, device="cpu"))
        assert not (tmp_path / "run").exists()
    with pytest.raises(RequestError, match="edge-s"):
        train_model(TrainRequest(out=tmp_path / "run", model="edge-xs", overrides={"data": {"train": folder_data}}))


def test_a_recipe_from_a_file_with_overrides(tmp_path: Path, folder_data: str) -> None:
    tables = tiny_overrides(folder_data)
    file = tmp_path / "recipe.toml"
    file.write_text("[train]\nepochs = 7\nlr = 0.001\n[augment]\nflip = 0.0\n", encoding="utf-8")
    overrides = {**tables, "train": {**tables["train"], "epochs": 1}}
    run = train_model(TrainRequest(out=tmp_path / "run", model="edge-s", config=file, overrides=overrides))
    config = load_config(run / "config.toml", RunConfig)
    assert (config.train.epochs, config.train.lr, config.augment.flip) == (1, 0.001, 0.0)
    assert msgspec.structs.asdict(config.loss)["dice"] == 0.5
