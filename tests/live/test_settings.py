"""The config file, the command line over it, and the command itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgeseg.cli.main import run
from edgeseg.core.errors import RequestError
from edgeseg.core.types import Classes, Size
from edgeseg.live import engine as engines
from edgeseg.live.settings import load_settings

FILE = """
engine = "zoo:edge-s"
sources = ["csi://0", "rtsp://10.0.0.2/front"]
[sinks]
web = 8080
[loop]
keep_trying = true
[loop.health]
late_ms = 80
"""


def test_a_file_and_the_command_line_over_it(tmp_path: Path) -> None:
    file = tmp_path / "live.toml"
    file.write_text(FILE)
    settings = load_settings(file, {"sinks": {"web": None, "ring": "planner"}, "loop": {"health": {"late_ms": 50.0}}})
    assert settings.engine == "zoo:edge-s"
    assert settings.sources == ("csi://0", "rtsp://10.0.0.2/front")
    assert (settings.sinks.web, settings.sinks.ring) == (8080, "planner")
    assert (settings.loop.keep_trying, settings.loop.health.late_ms) == (True, 50.0)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (FILE.replace("late_ms", "late"), "late_ms"),
        (FILE.replace("keep_trying = true", "keep_trying = 3"), "keep_trying"),
        (FILE.replace("late_ms = 80", "late_ms = -1"), "late_ms"),
        ('sources = ["0"]', "no engine"),
        ('engine = "b"', "no source"),
        ("engine = ", "not TOML"),
    ],
)
def test_a_file_that_cannot_be(tmp_path: Path, text: str, word: str) -> None:
    file = tmp_path / "live.toml"
    file.write_text(text)
    with pytest.raises(RequestError, match=word):
        load_settings(file, {})


class NullEngine:
    """Stands in for a bundle: the null engine at the camera's size."""

    name = "null"

    def __init__(self, null: Callable[..., Any], classes: Classes) -> None:
        self.null, self.classes = null, classes

    @property
    def takes(self) -> Any:
        return "bgr", None

    def load(self, camera_size: Size, *, throughput: bool = False) -> Any:
        return self.null(camera_size)


@pytest.fixture
def bundle(kit: Any, null: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(engines, "open_engine", lambda *args, **kwargs: NullEngine(null, kit.CLASSES))
    return "bundle"


def test_the_command_writes_what_was_asked_for(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, masks = tmp_path / "o.mp4", tmp_path / "masks"
    source = "street:seed=1,frames=12,size=48x64"
    assert run(["live", bundle, "--source", source, "--save", str(video), "--masks", str(masks), "--json"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert out.count("\n") == 1
    assert (summary["frames"], summary["results"], summary["drops"]) == (12, 12, {})
    assert {"p50", "p99", "jitter", "n"} <= summary["capture_to_mask_ms"].keys()
    assert summary["cameras"][0]["clock"] == "host"
    assert "capture to mask" in err
    assert len(list(masks.glob("*.png"))) == 12
    reader = cv2.VideoCapture(str(video))
    assert int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) == 12
    reader.release()


def test_two_sources_and_a_config_file(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "live.toml"
    file.write_text(
        'engine = "bundle"\nsources = ["street:seed=1,frames=5,size=48x64", "street:seed=2,frames=7,size=48x64"]\n'
        f'[sinks]\nmasks = "{tmp_path / "masks"}"\n'
    )
    assert run(["live", "--config", str(file), "--json", "--quiet"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [camera["results"] for camera in summary["cameras"]] == [5, 7]
    assert len(list(tmp_path.glob("masks/camera-1/*.png"))) == 7


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--source", "nowhere.mp4"], 2, "does not exist"),
        ([], 2, "no source"),
        (["--source", "pattern:frames=2", "--save", "o.gif"], 2, ".mp4"),
        (["--source", "pattern:frames=2", "--min-confidence", "1.5"], 2, "min_confidence"),
        (["--source", "pattern:frames=2", "--min-confidence", "0.5"], 2, "--confidence"),
        (["--source", "pattern:frames=2", "--resize", "squash"], 2, "letterbox"),
        (["--source", "pattern:frames=2", "--web", "70000"], 2, "65535"),
        (["--source", "pattern:frames=2", "--record", "drive.bag"], 2, ".mcap"),
        (["--source", "93"], 4, "/dev/video93"),
    ],
)
def test_requests_that_cannot_be(
    bundle: str, arguments: list[str], code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["live", bundle, *arguments]) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("edgeseg: error: ")
    assert word in last


@pytest.mark.parametrize("option", ["--save=/proc/o.mp4", "--masks=/proc/m", "--record=/sys/d.mcap", "--ring=/proc/r"])
def test_a_place_that_cannot_be_written_is_refused_before_engine_and_source(
    option: str, kit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    touched: list[str] = []
    source = kit.ScriptedSource([])
    monkeypatch.setattr(engines, "open_engine", lambda *args, **kwargs: touched.append("engine"))
    monkeypatch.setattr(source, "open", lambda: touched.append("source"))
    monkeypatch.setattr("edgeseg.sources.open_source", lambda *args, **kwargs: source)
    assert run(["live", "bundle", "--source", "pattern:", option]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert option.partition("=")[2] in last
    assert "cannot write here" in last
    assert "full" not in last
    assert touched == []


def test_what_the_run_reads_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine, video, frames = tmp_path / "engine", tmp_path / "drive-1.mp4", tmp_path / "frames"
    engine.mkdir()
    frames.mkdir()
    picture = np.full((24, 32, 3), 90, np.uint8)
    cv2.imwrite(str(frames / "a.png"), picture)
    video.write_bytes(b"whatever it is")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for word, arguments in (
        ("overwrite", ["--source", video, "--save", video]),
        ("overwrite", ["--source", "pattern:", "--source", video, "--save", tmp_path / "drive.mp4"]),
        ("overwrite", ["--source", frames, "--masks", frames]),
        ("overwrite", ["--source", f"{frames}/*.png", "--masks", f"{tmp_path}/engine/../frames"]),
        ("into the engine", ["--source", "pattern:", "--record", engine / "drive.mcap"]),
        ("into the engine", ["--source", "pattern:", "--masks", engine]),
        ("one place", ["--source", "pattern:", "--masks", tmp_path / "o.mp4", "--save", tmp_path / "o.mp4"]),
    ):
        assert run(["live", str(engine), *map(str, arguments)]) == 2, arguments
        assert word in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_masks_beside_pictures_of_another_kind_are_allowed(bundle: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.random.default_rng(0).integers(40, 220, (24, 32, 3), np.uint8))
    assert run(["live", bundle, "--source", str(tmp_path / "a.jpg"), "--masks", str(tmp_path), "--quiet"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.png"]


def test_help_imports_nothing_heavy() -> None:
    from edgeseg.cli.cmd_live import command

    done = CliRunner().invoke(command, ["--help"])
    assert done.exit_code == 0
    assert "--keep-trying" in done.output
