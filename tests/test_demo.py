"""The whole pipeline through its own doors, at a size that a test can afford."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from edgeseg.cli.main import run
from edgeseg.core.errors import GateError
from edgeseg.core.types import U8
from edgeseg.demo import DemoPlan, _drive_source, _gate
from edgeseg.sources import open_source

TINY = """
size = [96, 128]
frames = 12
val_frames = 2
epochs = 1
batch = 4
crop = [64, 96]
test_frames = 3
drive_frames = 6
calibration_frames = 8
bench_s = 0.6
least_miou = 0.0
most_drop = 1.0
"""


def last_frame_of_the_drive() -> U8:
    source = open_source(_drive_source(DemoPlan(size=(96, 128), drive_frames=6)))
    source.open()
    assert all(source.grab() for _ in range(6))
    frame = source.retrieve().image_hwc.copy()
    source.close()
    return frame


def test_the_whole_pipeline_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    assert run(["demo", "--out", str(tmp_path / "demo"), "--plan", str(tmp_path / "tiny.toml"), "--json"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert json.loads(out) == summary
    assert {"miou", "bundle", "overlay", "bench"} <= summary.keys()
    assert {"fp32", "int8"} == summary["miou"].keys()
    assert {"engine_ms", "capture_to_mask_ms"} <= summary["bench"].keys()
    assert summary["overlay"]["frames"] == 6
    video = cv2.VideoCapture(summary["overlay"]["path"])
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 6
    picture = cv2.imread(summary["picture"])
    assert picture.shape == (2 * 96, 3 * 128, 3)
    assert (picture[:96, 256:] == last_frame_of_the_drive()).all(), "a mask is shown under another frame"
    assert len(list((tmp_path / "demo" / "masks").glob("*.png"))) == 6
    assert run(["verify", summary["bundle"], "--quiet"]) == 0
    for stage in range(1, 9):
        assert f"[{stage}/8]" in err
    assert str(tmp_path / "demo" / "summary.json") in err


def test_a_folder_that_holds_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    assert run(["demo", "--out", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("miou", [{"fp32": 0.59, "int8": 0.59}, {"fp32": 0.70, "int8": 0.67}])
def test_a_bundle_that_is_not_good_enough_fails_the_gate(miou: dict[str, float]) -> None:
    with pytest.raises(GateError):
        _gate(miou, DemoPlan())
    _gate({"fp32": 0.61, "int8": 0.60}, DemoPlan())
