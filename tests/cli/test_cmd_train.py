"""The command: options reach the run, errors are one line, the answer is one JSON object."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeseg.cli.main import run
from edgeseg.core.config import read_toml

SMALL = [
    "--set=model.widths=[4,8]", "--set=model.depths=[0,1]", "--set=model.decoder_widths=[4]",
    "--set=model.decoder_depths=[1]", "--set=model.decoder_blocks=['plain']", "--set=train.threads=1",
]  # fmt: skip


def test_a_run_and_its_answer(
    make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(frames=4)
    make_folder(frames=2, split="val")
    out = tmp_path / "run"
    args = [
        "train",
        "--data",
        f"folder:{root}",
        "--model",
        "edge-s",
        "--out",
        str(out),
        "--epochs",
        "1",
        "--batch",
        "2",
    ]
    assert run([*args, "--crop", "16x24", "--lr", "0.01", "--set", "loss.dice=0.5", *SMALL, "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["run"] == str(out)
    assert set(answer["scores"]) == {"val"}
    tables = read_toml(out / "config.toml")
    assert tables["train"]["lr"] == 0.01  # type: ignore[index]
    assert tables["augment"]["crop"] == [16, 24]  # type: ignore[index]
    assert tables["loss"]["dice"] == 0.5  # type: ignore[index]
    assert run([*args, "--crop", "16x24", *SMALL]) == 2
    assert "--resume" in capsys.readouterr().err.splitlines()[-1]
    assert run(["train", "--out", str(out), "--resume", "--quiet"]) == 0


def test_an_interrupted_run_says_how_it_goes_on(
    make_folder: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(self: object, *args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeseg.train.loop.Trainer.take_step", stopped)
    root = make_folder(frames=4)
    make_folder(frames=2, split="val")
    out = tmp_path / "run"
    args = ["train", "--data", f"folder:{root}", "--model", "edge-s", "--out", str(out), "--batch", "2"]
    assert run([*args, "--crop", "16x24", *SMALL]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"edgeseg: error: interrupted; try: edgeseg train --out {out} --resume"


def test_ranges_are_for_integers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["train", "--data", "street:frames=2", "--model", "edge-s", "--out", str(tmp_path / "r"), "--ranges", "r"]
    assert run(args) == 2
    assert "(--ranges); --qat RUN" in capsys.readouterr().err.splitlines()[-1]


def test_a_pretraining_that_is_gone_on_with(
    make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its scores have no classes."""
    out = str(tmp_path / "pre")
    args = ["pretrain", "--frames", f"folder:{make_folder(frames=4)}", "--model", "edge-s", "--out", out, "--batch=2"]
    assert run([*args, "--epochs=1", "--set=augment.crop=[16,24]", "--set=pretrain.holdout=0.3", *SMALL]) == 0
    capsys.readouterr()
    assert run(["train", "--out", out, "--resume", "--epochs", "2", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["epochs"] == 2
    assert f"--init {out}" in captured.err


@pytest.mark.parametrize("text", ["lr", "lr=3", "train.optimiser.lr=3"])
def test_a_field_that_is_none(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["train", "--data", "street:frames=2", "--model", "edge-s", "--out", str(tmp_path / "r"), "--set", text]
    assert run(args) == 2
    assert "TABLE.FIELD=VALUE" in capsys.readouterr().err.splitlines()[-1]
