from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeseg.cli.main import run
from edgeseg.graph import save_model
from edgeseg.graph.sample import sample_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model.onnx", sample_model(norm="batch"))
    args = ["build", "model.onnx", "--target", "cpu", "--precision", "fp32", "--frame-size", "48x64", "--out", "bundle"]
    assert run([*args, "--quiet"]) == 0
    generator = np.random.default_rng(1)
    for name in ("a", "b"):
        for index in range(3):
            (tmp_path / name / "clip").mkdir(parents=True, exist_ok=True)
            picture = generator.integers(0, 256, (48, 64, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / name / "clip" / f"{index}.png")
    return tmp_path


def test_every_source_gets_its_masks_and_finished_ones_are_skipped(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["batch", "a/clip", "b/clip", "--engine", "bundle", "--out", "out", "--json", "--quiet"]
    assert run(args) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert [(item["state"], item["frames"]) for item in items] == [("done", 3), ("done", 3)]
    assert items[0]["folder"] != items[1]["folder"]
    assert all(len(list((folder / item["folder"] / "masks").glob("*.png"))) == 3 for item in items)
    assert run(args) == 0
    assert [item["state"] for item in json.loads(capsys.readouterr().out)["items"]] == ["skipped", "skipped"]


def test_one_bad_source_does_not_stop_the_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.mp4").write_bytes(b"no video" * 99)
    assert run(["batch", "bad.mp4", "a/clip", "--engine", "bundle", "--out", "out", "--json"]) == 1
    out, err = capsys.readouterr()
    items = json.loads(out)["items"]
    assert [item["state"] for item in items] == ["failed", "done"]
    assert "bad.mp4" in items[0]["error"]
    assert err.splitlines()[-1] == "edgeseg: error: 1 of 2 sources failed (bad.mp4)"


def test_a_camera_never_ends_and_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "0", "--engine", "bundle", "--out", "out"]) == 2
    assert "try: edgeseg live" in capsys.readouterr().err
