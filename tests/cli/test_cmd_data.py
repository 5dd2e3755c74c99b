"""`edgeseg data`, as a person types it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from edgeseg.cli.main import run
from edgeseg.data import open_dataset


def _synth(out: Path, *more: str) -> list[str]:
    return ["data", "synth", "--out", str(out), "--frames", "9", "--size", "72x96", *more]


def test_synth_writes_what_street_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_synth(tmp_path / "d", "--seed", "4", "--json")) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["frames"] == {"train": 9, "val": 8}
    for split in ("train", "val"):
        written = open_dataset(answer["data"], split)
        rendered = open_dataset("street:seed=4,frames=9,size=72x96", split)
        assert written.classes == rendered.classes
        for index in (0, 7):
            assert np.array_equal(written[index].image_hwc, rendered[index].image_hwc)
            assert np.array_equal(written[index].label_hw, rendered[index].label_hw)


def test_synth_keeps_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine.txt").write_text("x")
    assert run(_synth(tmp_path / "d")) == 2
    assert "edgeseg: error: the folder exists" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["mine.txt"]


def test_synth_refuses_a_size_before_it_renders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*_synth(tmp_path / "d")[:-1], "10x96"]) == 2
    assert "64 to 4096" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("step", ["nan", "inf", "-4"])
def test_synth_refuses_a_step_that_no_drive_has(tmp_path: Path, capsys: pytest.CaptureFixture[str], step: str) -> None:
    assert run(_synth(tmp_path / "d", "--step", step)) == 2
    assert "allowed: 0 to 1000" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_a_page_of_a_folders_name_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "stats", "street:frames=9,size=72x96", "--html", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "is a directory" in said
    assert "read train" not in said


def test_a_folder_without_a_split_is_told_what_belongs_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "lint", f"camvid:{tmp_path}"]) == 2
    assert "train/ and trainannot/" in capsys.readouterr().err


def test_lint_stats_and_pack_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = "street:seed=4,frames=8,size=72x96,step_m=31"
    assert run(["data", "lint", spec, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == {"train": 8, "val": 8}
    assert run(["data", "stats", spec, "--split", "val", "--html", str(tmp_path / "p.html"), "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["splits"]["val"]["sizes"] == {"72x96": 8}
    assert "sizes 72x96 (8); 0 frames unreadable" in captured.err
    assert "brightness of 5/50/95 %" in captured.err
    assert (tmp_path / "p.html").read_text().startswith("<!doctype html>")
    assert run(["data", "pack", spec, "--out", str(tmp_path / "s.packed"), "--json"]) == 0
    packed = json.loads(capsys.readouterr().out)["data"]
    assert run(["data", "lint", packed, "--quiet"]) == 0


def test_lint_fails_when_frames_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*_synth(tmp_path / "d"), "--quiet"]) == 0
    next((tmp_path / "d/train/masks").iterdir()).unlink()
    assert run(["data", "lint", f"folder:{tmp_path / 'd'}", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["findings"][0]["rule"] == "unreadable"
    assert captured.err.splitlines()[-1].startswith("edgeseg: error: the data set has errors")


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, written = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert run([*_synth(tmp_path / "d"), "--quiet"]) == 1
    assert "the disk is full" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())
