"""One contract for every sink, and what each kind writes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from edgeseg.core import artefacts
from edgeseg.core.clock import CaptureClock
from edgeseg.core.errors import DataError, RequestError, UnavailableError
from edgeseg.core.types import Classes, Result, Sink, SinkContext, SourceInfo, State
from edgeseg.data.masks import read_index_png
from edgeseg.sinks import display, window
from edgeseg.sinks.masks import MasksSink
from edgeseg.sinks.mcap import RecordSink
from edgeseg.sinks.null import NullSink
from edgeseg.sinks.overlay import OverlayPainter
from edgeseg.sinks.ring import RingSink
from edgeseg.sinks.video import VideoSink

SIZE = (48, 64)
CLASSES = Classes(names=("road", "car"), palette_rgb=((200, 0, 0), (0, 0, 200)), ignore_id=11)


def context(cameras: int = 1) -> SinkContext:
    info = SourceInfo(uri="x", size=SIZE, rate_hz=25.0, live=False, coding="raw", clock=CaptureClock.HOST)
    return SinkContext(cameras=[info] * cameras, classes=CLASSES, engine="e")


def result(number: int, state: State = State.OK, camera: int = 0, size: tuple[int, int] = SIZE) -> Result:
    mask = np.zeros(size, np.uint8)
    mask[:, : size[1] // 2] = 1
    mask[: size[0] // 2] = np.where(np.arange(size[1]) < 4, CLASSES.ignore_id, mask[0])
    return Result(
        camera=camera,
        frame_id=number,
        t_capture_ns=0,
        clock=CaptureClock.HOST,
        t_result_ns=5_000_000,
        state=state,
        reason="" if state is State.OK else "why",
        mask_hw=mask if state.has_mask else None,
        image=None if number < 0 else np.full((*size, 3), 100, np.uint8),
    )


@pytest.fixture(params=["null", "video", "masks"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Sink:
    makers: dict[str, Callable[[], Sink]] = {
        "null": NullSink,
        "video": lambda: VideoSink(tmp_path / "out" / "o.mp4"),
        "masks": lambda: MasksSink(tmp_path / "out" / "masks"),
    }
    return makers[request.param]()


def test_contract_every_state_is_taken_and_close_may_be_called_twice(sink: Sink, tmp_path: Path) -> None:
    sink.open(context())
    assert not (tmp_path / "out").exists(), "nothing is written before there is something to write"
    for number, state in enumerate(State):
        sink.write(result(number, state))
    sink.write(result(-1, State.LOST))
    sink.close()
    sink.close()
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name]


def test_contract_a_run_without_results_leaves_nothing(sink: Sink, tmp_path: Path) -> None:
    sink.open(context())
    sink.write(result(-1, State.LOST))
    sink.close()
    assert not list(tmp_path.rglob("*.*"))


def test_a_video_has_one_frame_for_each_picture(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "o.mp4")
    sink.open(context(cameras=2))
    for number in range(12):
        sink.write(result(number, camera=0))
    for number in range(3):
        sink.write(result(number, State.BLACK, camera=1))
    sink.write(result(3, camera=1, size=(24, 32)))
    sink.close()
    counts = {}
    for path in sorted(tmp_path.glob("*.mp4")):
        reader = cv2.VideoCapture(str(path))
        counts[path.name] = sum(1 for _ in iter(reader.grab, False))
        reader.release()
    assert counts == {"o-0.mp4": 12, "o-1.mp4": 4}


def test_a_full_disk_is_found_although_the_encoder_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = VideoSink(tmp_path / "o.mp4")
    sink.open(context())
    monkeypatch.setattr(artefacts.shutil, "disk_usage", lambda path: SimpleNamespace(total=1 << 30, free=0))
    with pytest.raises(DataError, match="disk is full"):
        for number in range(64):
            sink.write(result(number))
    sink.close()


def test_a_file_system_that_counts_no_space_is_not_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc, /sys and some of FUSE say that they have 0 bytes in all."""
    sink = VideoSink(tmp_path / "o.mp4")
    sink.open(context())
    monkeypatch.setattr(artefacts.shutil, "disk_usage", lambda path: SimpleNamespace(total=0, free=0))
    for number in range(40):
        sink.write(result(number))
    sink.close()
    assert (tmp_path / "o.mp4").is_file()


@pytest.mark.parametrize("make", [VideoSink, RecordSink, MasksSink, lambda path: RingSink(str(path))])
def test_contract_a_place_that_cannot_be_written_is_refused_before_anything_runs(
    make: Callable[[Path], Sink], tmp_path: Path
) -> None:
    suffix = {VideoSink: ".mp4", RecordSink: ".mcap"}.get(make, "")  # type: ignore[call-overload]
    (tmp_path / "file").write_text("kept")
    for place in (Path("/proc"), Path("/sys"), tmp_path / "file" / "below"):
        with pytest.raises(RequestError) as refused:
            make(place / f"out{suffix}")
        assert str(place) in str(refused.value)
        assert "full" not in str(refused.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("name", ["o.gif", "o"])
def test_a_video_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match=r"\.mp4"):
        VideoSink(tmp_path / name)


def test_masks_are_ids_at_camera_size_with_the_palette(tmp_path: Path) -> None:
    sink = MasksSink(tmp_path)
    sink.open(context())
    sink.write(result(3))
    sink.write(result(4, State.FROZEN))
    sink.close()
    expected = result(3).mask_hw
    assert expected is not None
    assert np.array_equal(read_index_png(tmp_path / "000003.png"), expected)
    assert (read_index_png(tmp_path / "000004.png") == CLASSES.ignore_id).all(), "no mask, no class"
    assert Image.open(tmp_path / "000003.png").convert("RGB").getpixel((60, 40)) == (200, 0, 0)


def test_masks_of_several_cameras_do_not_meet(tmp_path: Path) -> None:
    sink = MasksSink(tmp_path)
    sink.open(context(cameras=2))
    sink.write(result(0, camera=0))
    sink.write(result(0, camera=1))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")) == [
        "camera-0/000000.png",
        "camera-1/000000.png",
    ]


def test_the_overlay_blends_classes_and_leaves_the_rest_alone() -> None:
    picture = OverlayPainter(CLASSES, alpha=0.5).paint(result(0, size=(480, 640)))
    assert picture is not None
    assert picture[470, 600].tolist() == [50, 50, 150], "half of grey 100 and half of red 200, in BGR"
    assert picture[200, 2].tolist() == [100, 100, 100], "no class: the frame itself"


def test_the_overlay_never_shows_an_earlier_mask() -> None:
    painter = OverlayPainter(CLASSES)
    painter.paint(result(0, size=(480, 640)))
    picture = painter.paint(result(1, State.FROZEN, size=(480, 640)))
    assert picture is not None
    assert (picture[100:] == 100).all()
    assert painter.paint(result(-1, State.LOST)) is None


def test_show_without_a_display_is_found_out_before_opencv_aborts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UnavailableError, match="--save"):
        window.WindowSink(lambda: None)


def test_a_display_that_is_named_but_not_there_is_tried_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real thing: OpenCV's Qt aborts the child, and this process lives."""
    monkeypatch.setenv("DISPLAY", ":93")
    found = display.probe_display()
    assert not found.ok
    assert ":93" in found.detail


def test_a_display_that_hangs_is_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")

    def hang(*args: object, **kwargs: object) -> None:
        raise subprocess.TimeoutExpired(sys.executable, 20)

    monkeypatch.setattr(display.subprocess, "run", hang)
    assert not display.probe_display().ok
