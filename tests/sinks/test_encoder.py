"""Encoders in hardware: chosen where they work, given up where they do not. The hardware here is a stand-in: x264."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edgeseg.core.clock import CaptureClock
from edgeseg.core.types import Classes, Result, SinkContext, SourceInfo, State
from edgeseg.sinks import encoder as encoders
from edgeseg.sinks.encoder import HARDWARE, Encoder, choose_encoder, present, trial
from edgeseg.sinks.video import VideoSink

SIZE = (96, 128)
SYSTEM_PYTHON = "/usr/bin/python3"
X264 = Encoder(name="stand-in", element="x264enc")


def record(path: Path, size: tuple[int, int] = SIZE, frames: int = 5) -> VideoSink:
    sink = VideoSink(path)
    info = SourceInfo(uri="x", size=size, rate_hz=25.0, live=True, coding="raw", clock=CaptureClock.HOST)
    classes = Classes(names=("road",), palette_rgb=((200, 0, 0),), ignore_id=11)
    sink.open(SinkContext(cameras=[info], classes=classes, engine="e"))
    for number in range(frames):
        image = np.full((*size, 3), 40 * number, np.uint8)
        mask = np.zeros(size, np.uint8)
        sink.write(
            Result(
                camera=0,
                frame_id=number,
                t_capture_ns=0,
                clock=CaptureClock.HOST,
                t_result_ns=0,
                state=State.OK,
                mask_hw=mask,
                image=image,
            )
        )
    sink.close()
    return sink


def frames_in(path: Path) -> int:
    return encoders.count_frames(path)


def test_the_boards_elements_and_their_pipelines() -> None:
    jetson = HARDWARE[0]
    opened: list[object] = []
    text = f'appsrc ! {jetson.before} ! {jetson.element} ! h264parse ! mp4mux ! filesink location="/o/a b.mp4"'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "VideoWriter", lambda *args: opened.append(args))
        jetson.open(Path("/o/a b.mp4"), 30.0, SIZE)
    assert opened == [(text, cv2.CAP_GSTREAMER, 0, 30.0, SIZE[::-1])]
    assert "video/x-raw(memory:NVMM),format=NV12 ! nvv4l2h264enc" in text
    assert all(one.hardware for one in HARDWARE)
    assert not encoders.software(".mp4").hardware


def test_without_hardware_the_video_is_encoded_in_software_and_the_summary_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "present", lambda suffix, size: [])
    sink = record(tmp_path / "o.mp4")
    assert sink.note == "mp4v in software"
    assert frames_in(tmp_path / "o.mp4") == 5


def test_an_encoder_that_is_listed_but_does_not_work_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Encoder(name="nvv4l2h264enc", element="edgeseg-no-such-element")
    monkeypatch.setattr(encoders, "present", lambda suffix, size: [broken])
    sink = record(tmp_path / "o.mp4")
    assert "nvv4l2h264enc is here but does not encode" in caplog.text
    assert sink.note == "mp4v in software"
    assert frames_in(tmp_path / "o.mp4") == 5


def test_a_driver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_TRIAL", "import time; time.sleep(60)")
    monkeypatch.setattr(encoders, "_TRIAL_S", 0.2)
    monkeypatch.setattr(encoders, "present", lambda suffix, size: [X264])
    assert choose_encoder(".mp4", SIZE).name == "mp4v in software"


def test_an_encoder_without_a_free_session_leaves_the_video_to_software(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken = Encoder(name="nvh264enc", element="edgeseg-no-such-element")
    monkeypatch.setattr("edgeseg.sinks.video.choose_encoder", lambda suffix, size: taken)
    record(tmp_path / "o.mp4")
    assert "no room for one more video" in caplog.text
    assert frames_in(tmp_path / "o.mp4") == 5


def test_what_hardware_cannot_take_is_not_offered_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "opencv_has_gstreamer", lambda: True)
    monkeypatch.setattr(encoders, "has_element", lambda name: name == "vah264enc")
    assert [one.name for one in present(".mp4", SIZE)] == ["vah264enc"]
    assert present(".mp4", (95, 128)) == []
    assert present(".avi", SIZE) == []


def test_a_trial_counts_the_frames_that_arrived() -> None:
    assert trial(msgspec.json.encode(encoders.software(".mp4")).decode(), ".mp4", "96", "128")
    assert not trial(msgspec.json.encode(Encoder(name="x", element="edgeseg-no-such")).decode(), ".mp4", "96", "128")


STAND_IN = """
import sys
from pathlib import Path
import cv2, numpy as np
from edgeseg.core.clock import CaptureClock
from edgeseg.core.types import Classes, Result, SinkContext, SourceInfo, State
from edgeseg.sinks import encoder as encoders
from edgeseg.sinks.video import VideoSink
encoders.HARDWARE = (encoders.Encoder(name="stand-in", element="x264enc"),)
classes = Classes(names=("road",), palette_rgb=((200, 0, 0),), ignore_id=11)
info = SourceInfo(uri="x", size=(96, 128), rate_hz=25.0, live=True, coding="raw", clock=CaptureClock.HOST)
for suffix in (".mp4", ".mkv"):
    path = Path(sys.argv[1]) / f"a folder/o{suffix}"
    sink = VideoSink(path)
    sink.open(SinkContext(cameras=[info], classes=classes, engine="e"))
    for number in range(40):
        image, mask = np.full((96, 128, 3), 5 * number, np.uint8), np.zeros((96, 128), np.uint8)
        sink.write(Result(camera=0, frame_id=number, t_capture_ns=0, clock=CaptureClock.HOST, t_result_ns=0,
                          state=State.OK, mask_hw=mask, image=image))
    sink.close()
    reader, count = cv2.VideoCapture(str(path)), 0
    while reader.grab():
        count += 1
    print(suffix, sink.note, count, int(reader.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode())
"""


def test_a_real_gstreamer_encoder_in_the_place_of_the_boards(tmp_path: Path) -> None:
    probe = [
        SYSTEM_PYTHON,
        "-c",
        "import sys, cv2; print(*sys.version_info[:2]); print(cv2.getBuildInformation())",
    ]
    site = tmp_path / "site"
    site.mkdir()
    for name in ("msgspec", "PIL"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (site / name).symlink_to(Path(spec.origin).parent)
    (site / "edgeseg").symlink_to(Path(encoders.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": str(site)}
    found = subprocess.run(probe, capture_output=True, text=True, check=False, env=environment).stdout
    if (
        found.split()[:2] != [str(part) for part in sys.version_info[:2]]
        or "GStreamer:                   YES" not in found
    ):
        pytest.skip("needs the distribution's python3-opencv, of this Python's version, with GStreamer")
    if subprocess.run(["gst-inspect-1.0", "--exists", "x264enc"], check=False).returncode:
        pytest.skip("needs gstreamer1.0-plugins-ugly")
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", STAND_IN, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout.replace("avc1", "h264").splitlines()  # OpenCV names it by the container or by the codec
    assert shown == [".mp4 stand-in 40 h264", ".mkv stand-in 40 h264"], done.stdout + done.stderr
