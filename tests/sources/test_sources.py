"""One contract for every source that needs no device, and what each kind adds to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.errors import DataError, RequestError, UnavailableError
from edgeseg.core.types import Frame, Source
from edgeseg.data.pictures import IMAGE_SUFFIXES
from edgeseg.sources import open_source
from edgeseg.sources.memory import MemorySource
from edgeseg.sources.realtime import RealtimeSource
from edgeseg.sources.uri import PICTURE_SUFFIXES, source_kind

SIZE = (48, 64)
COUNT = 6


def pictures(count: int = COUNT) -> list[np.ndarray]:
    return [np.full((*SIZE, 3), 20 + 30 * i, np.uint8) for i in range(count)]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "drive.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, SIZE[::-1])
    for image in pictures():
        writer.write(image)
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "frames"
    path.mkdir()
    for i, image in enumerate(pictures()):
        Image.fromarray(image).save(path / f"frame{i + 7}.png")  # 7 … 12: natural order is not that of the letters
    return path


@pytest.fixture(params=["video", "folder", "glob", "street", "pattern", "memory", "realtime"])
def source(request: pytest.FixtureRequest, video: Path, folder: Path) -> Source:
    makers: dict[str, Callable[[], Source]] = {
        "video": lambda: open_source(video),
        "folder": lambda: open_source(folder),
        "glob": lambda: open_source(f"{folder}/*.png"),
        "street": lambda: open_source(f"street:seed=3,frames={COUNT},size=48x64"),
        "pattern": lambda: open_source(f"pattern:size=48x64,rate=200,frames={COUNT}"),
        "memory": lambda: MemorySource(pictures(), rate_hz=200),
        "realtime": lambda: RealtimeSource(MemorySource(pictures())),
    }
    return makers[request.param]()


def play(source: Source) -> list[Frame]:
    frames = []
    while source.grab():
        frames.append(source.retrieve())
    return frames


def test_contract(source: Source) -> None:
    """Ids count from 0, times do not go back, pictures have the promised size, opening again starts afresh."""
    for _ in range(2):
        before = now_ns()
        info = source.open()
        assert info.size == SIZE
        assert info.frames in (COUNT, None)
        frames = play(source)
        assert not source.grab(), "the end stays the end"
        ids = [frame.id for frame in frames]
        assert ids == sorted(set(ids))
        assert ids[0] == 0
        if not info.live:
            assert ids == list(range(COUNT))
        times = [frame.t_capture_ns for frame in frames]
        assert times == sorted(times)
        assert before <= times[0]
        assert times[-1] <= now_ns()
        for frame in frames:
            assert frame.image_hwc.shape == (*SIZE, 3)
            assert frame.image_hwc.dtype == np.uint8
            assert frame.clock is info.clock
        source.close()
        source.close()


def test_contract_decodes_into_memory_that_is_given(source: Source) -> None:
    source.open()
    out = np.zeros((*SIZE, 3), np.uint8)
    assert source.grab()
    frame = source.retrieve(out)
    assert np.shares_memory(frame.image_hwc, out)
    assert out.any()
    assert source.grab()
    other = source.retrieve(np.zeros((3, 3, 3), np.uint8))
    assert other.image_hwc.shape == (*SIZE, 3), "memory of another size is left alone"
    source.close()


def test_pictures_come_in_natural_order_with_their_names(folder: Path) -> None:
    source = open_source(folder)
    source.open()
    frames = play(source)
    assert [frame.name for frame in frames] == [f"frame{i}" for i in range(7, 13)]
    assert [int(frame.image_hwc[0, 0, 0]) for frame in frames] == [20 + 30 * i for i in range(COUNT)]


def test_one_image_is_one_frame(folder: Path) -> None:
    source = open_source(folder / "frame9.png")
    assert source.open().frames == 1
    assert [frame.name for frame in play(source)] == ["frame9"]


def test_a_video_gives_its_rate_its_coding_and_every_frame(dashcam_file: Path) -> None:
    source = open_source(dashcam_file)
    info = source.open()
    assert (info.size, info.rate_hz, info.frames, info.coding, info.live) == ((540, 960), 25.0, 221, "inter", False)
    count = 0
    while source.grab():
        count += 1
    source.close()
    assert count == 221


def test_realtime_waits_for_due_times_and_says_pts() -> None:
    source = RealtimeSource(MemorySource(pictures(4)))
    assert source.open().live
    assert source.open().clock is CaptureClock.PTS
    frames = play(source)
    steps = np.diff([frame.t_capture_ns for frame in frames])
    assert {step % 33_333_333 for step in steps.tolist()} == {0}, "due times, whole periods apart"


def test_a_paced_source_keeps_its_rate_over_the_whole_run() -> None:
    source = MemorySource(pictures(2), rate_hz=500, count=101)
    source.open()
    frames = play(source)
    assert frames[-1].t_capture_ns - frames[0].t_capture_ns == pytest.approx(200e6, abs=40e6)


def test_the_pattern_never_repeats_and_is_never_black() -> None:
    source = open_source("pattern:size=48x64,rate=1000,frames=40")
    source.open()
    seen = {frame.image_hwc.tobytes() for frame in play(source)}
    assert len(seen) == 40


def test_truncated_pictures_are_refused(folder: Path) -> None:
    file = folder / "frame8.png"
    file.write_bytes(file.read_bytes()[:-20])
    source = open_source(folder)
    source.open()
    source.grab()
    source.retrieve()
    source.grab()
    with pytest.raises(DataError, match="frame8"):
        source.retrieve()


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("nowhere.mp4", "does not exist"),
        ("nowhere/", "does not exist"),
        ("ftp://camera", "unknown kind"),
        ("pattern:speed=3", "speed"),
        ("pattern:rate=0", "rate=0"),
        ("pattern:rate=fast", "rate"),
        ("pattern:size=big", "big"),
        ("pattern:size=4x4", "too small"),
        ("street:frames=0", "frames=0"),
        ("street:sed=1", "seed"),
    ],
)
def test_requests_that_cannot_be(uri: str, word: str) -> None:
    with pytest.raises(RequestError, match=word):
        open_source(uri)


def test_files_that_are_no_pictures_or_videos(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no picture"):
        open_source(tmp_path / "empty").open()
    with pytest.raises(DataError, match="no picture"):
        open_source(f"{tmp_path}/*.png").open()
    (tmp_path / "drive.mp4").write_bytes(b"this is not a video" * 100)
    with pytest.raises(DataError, match="does not open"):
        open_source(tmp_path / "drive.mp4").open()


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(UnavailableError, match="/dev/video93"):
        open_source(93).open()
    with pytest.raises(UnavailableError, match="/dev/video93"):
        open_source("/dev/video93").open()


def test_credentials_are_in_no_uri() -> None:
    source = MemorySource(pictures(), name="rtsp://driver:secret@10.0.0.1/front")
    assert "secret" not in source.open().uri


def test_picture_suffixes_are_those_of_the_data_room() -> None:
    assert set(PICTURE_SUFFIXES) == set(IMAGE_SUFFIXES)


def test_kinds_are_found_without_importing_opencv(tmp_path: Path) -> None:
    assert source_kind("0").name == "V4L2 camera"
    assert source_kind("/dev/video2").name == "V4L2 camera"
    assert source_kind(str(tmp_path)).file_like
    assert not source_kind("pattern:").file_like
