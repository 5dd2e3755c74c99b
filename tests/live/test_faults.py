"""Faults with real processes, files and signals: the state that is shown, and that nothing is left behind."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.errors import DataError
from edgeseg.core.types import Result, State
from edgeseg.live.config import HealthConfig, LiveConfig
from edgeseg.live.pipeline import Pipeline
from edgeseg.live.request import LiveRequest, LoadedEngine
from edgeseg.sinks.masks import MasksSink
from edgeseg.sinks.mcap import RecordSink
from edgeseg.sinks.ring import RingSink
from edgeseg.sinks.video import VideoSink
from edgeseg.sinks.web.sink import WebSink
from edgeseg.sources import open_source
from edgeseg.sources.memory import MemorySource
from edgeseg.sources.realtime import RealtimeSource

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).parents[1] / "sources" / "rtsp_server.py"
QUIET = HealthConfig(stale_ms=0, late_ms=0, min_rate=0)


def request(runner: object, sources: list[Any], sinks: list[Any], **config: Any) -> LiveRequest:
    return LiveRequest(
        engine=LoadedEngine(runner),  # type: ignore[arg-type]
        sources=sources,
        sinks=sinks,
        config=LiveConfig(**config),
    )


# ---------------------------------------------------------------- a network camera that dies


def start_server(port: int) -> subprocess.Popen[str]:
    process = subprocess.Popen([SYSTEM_PYTHON, str(SERVER), str(port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end_server(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(10)
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture
def port() -> int:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False).returncode:
        pytest.skip("needs gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-ugly for the distribution's Python")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_an_rtsp_server_that_is_killed_and_restarted(port: int, kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    server = start_server(port)
    sink = kit.KeepSink(lossless=False)
    health = HealthConfig(late_ms=0, black_level=0, min_rate=0)
    pipeline = Pipeline(
        request(null((240, 320)), [open_source(f"rtsp://127.0.0.1:{port}/test")], [sink], health=health)
    )
    pipeline.start()
    try:
        sink.wait_for(lambda results: any(result.state is State.OK for result in results))
        end_server(server)
        sink.wait_for(lambda results: results[-1].state is State.LOST)
        at_loss = len(sink.results)
        server = start_server(port)
        sink.wait_for(lambda results: any(result.state is State.OK for result in results[at_loss:]))
    finally:
        pipeline.stop.set()
        pipeline.join()
        end_server(server)
    ids = [result.frame_id for result in sink.results if result.frame_id >= 0]
    assert ids == sorted(set(ids)), "ids go on over the gap, and no frame is published twice"
    assert all(result.mask_hw is None for result in sink.results if not result.state.has_mask)


# ---------------------------------------------------------------- pictures


def still_clip(path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg with x264")
    source = "smptebars=size=320x240:rate=25:duration=1.6,noise=alls=3:allf=t"
    coding = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-crf", "38", "-pix_fmt", "yuv420p"]
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, *coding, str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs ffmpeg with x264")


def test_a_still_scene_in_h264_is_not_frozen_although_its_pixels_repeat(
    kit: SimpleNamespace, null: Callable[..., Any], tmp_path: Path
) -> None:
    still_clip(tmp_path / "still.mp4")
    source, sink = open_source(tmp_path / "still.mp4"), kit.KeepSink()
    health = HealthConfig(frozen_ms=100)  # asked for, of a file; the engine's pace makes it last for 0.4 s
    kit.play_any(request(null((240, 320), latency_ms=10), [source], [sink], health=health))
    images = [result.image_hwc for result in sink.results]
    repeats = sum(np.array_equal(a, b) for a, b in itertools.pairwise(images))
    assert repeats > len(images) / 2, "the encoder did skip blocks: otherwise this test shows nothing"
    assert {result.state for result in sink.results} == {State.OK}


def test_a_loop_of_three_frames_in_motion_jpeg_is_frozen(
    kit: SimpleNamespace, null: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "stuck.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 50, (320, 240))
    for number in range(40):
        writer.write(kit.picture(number % 3, size=(240, 320)))
    writer.release()
    sink = kit.KeepSink()
    health = HealthConfig(frozen_ms=100)
    kit.play_any(request(null((240, 320), latency_ms=20), [open_source(path)], [sink], health=health))
    states = [result.state for result in sink.results]
    assert states[0] is State.OK
    assert states[-1] is State.FROZEN
    assert all(result.mask_hw is None for result in sink.results if result.state is State.FROZEN)


def test_a_damaged_stream_loses_frames_and_goes_on(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    class Damaged(kit.ScriptedSource):  # type: ignore[misc, name-defined]
        def retrieve(self, out_hwc: Any = None) -> Any:
            frame = super().retrieve(out_hwc)
            if frame.id in (2, 3):
                raise DataError("a frame does not decode")
            return frame

    sink = kit.KeepSink()
    pace = [threading.Event() for _ in range(7)]
    sink.on_write = lambda result: pace[result.frame_id + 1].set()
    pace[0].set()
    steps = [kit.Shot(kit.picture(i), after=None if i in (3, 4) else pace[i]) for i in range(6)]
    summary = kit.play(request(null(), [Damaged(steps)], [sink], health=QUIET, sink_queue=16))
    assert [result.frame_id for result in sink.results] == [0, 1, 4, 5]
    assert summary.drops == {"corrupt": 2}


def test_a_video_file_whose_bytes_are_damaged_does_not_hang(
    kit: SimpleNamespace, null: Callable[..., Any], dashcam_file: Path, tmp_path: Path
) -> None:
    data = bytearray(dashcam_file.read_bytes())
    rng = np.random.default_rng(0)
    for at in rng.integers(200_000, 1_500_000, 300):
        data[at] ^= 0xFF
    (tmp_path / "bad.mp4").write_bytes(data)
    source = open_source(tmp_path / "bad.mp4")
    try:
        summary = kit.play_any(request(null((540, 960)), [source], [], health=QUIET))
    except DataError:
        return  # refused while it ran: exit code 1
    assert summary.frames == summary.results + sum(summary.drops.values())


# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_a_clock_that_jumps_never_makes_an_old_mask_look_fresh(
    kit: SimpleNamespace, null: Callable[..., Any], jump_s: int
) -> None:
    sink = kit.KeepSink()
    pace = [threading.Event() for _ in range(7)]
    sink.on_write = lambda result: pace[result.frame_id + 1].set()
    pace[0].set()
    steps = [kit.Shot(kit.picture(i), after=pace[i]) for i in range(6)]
    for number in (3, 4, 5):
        steps[number].stamp_ns = now_ns() + jump_s * 1_000_000_000
    health = HealthConfig(stale_ms=0, min_rate=0, late_ms=10_000)
    kit.play(request(null(), [kit.ScriptedSource(steps)], [sink], health=health, sink_queue=16))
    assert [result.state for result in sink.results[:3]] == [State.OK] * 3
    for result in sink.results[3:]:
        assert result.age_ns >= 0
        if jump_s > 0:
            assert (result.clock, result.state) == (CaptureClock.HOST, State.OK), "the host's clock is used instead"
        else:
            assert result.state is State.LATE


# ---------------------------------------------------------------- stops


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_cleanly_in_under_two_seconds(number: int, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from edgeseg.backend import open_null
from edgeseg.core.types import Classes
from edgeseg.live import run_live
from edgeseg.live.request import LiveRequest, LoadedEngine
from edgeseg.sinks.video import VideoSink
from edgeseg.sources import open_source
classes = Classes(names=("a", "b"), palette_rgb=((0, 0, 0), (1, 1, 1)))
class Told(VideoSink):
    def write(self, result):
        super().write(result)
        if result.frame_id >= 3:
            print("running", flush=True)
summary = run_live(LiveRequest(
    engine=LoadedEngine(open_null(classes, (48, 64))),
    sources=[open_source("pattern:size=48x64")],
    sinks=[Told(Path({str(tmp_path / "o.mp4")!r}))],
    signals=True,
))
print("clean", summary.results == summary.frames - sum(summary.drops.values()), flush=True)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    begin_ns = now_ns()
    process.send_signal(number)
    assert process.wait(20) == 0
    took_s = (now_ns() - begin_ns) / 1e9
    assert process.stdout.read().splitlines()[-1] == "clean True"
    process.stdout.close()
    assert took_s < 2
    reader = cv2.VideoCapture(str(tmp_path / "o.mp4"))
    assert reader.isOpened(), "the video is whole"
    reader.release()


# ---------------------------------------------------------------- soak, short form


@pytest.fixture
def every_sink(tmp_path: Path) -> list[Any]:
    return [
        VideoSink(tmp_path / "o.mp4"),
        MasksSink(tmp_path / "masks"),
        RecordSink(tmp_path / "o.mcap"),
        RingSink(str(tmp_path / "ring")),
        WebSink(0),
    ]


def test_threads_and_descriptors_are_constant_with_every_sink(
    kit: SimpleNamespace, null: Callable[..., Any], every_sink: list[Any]
) -> None:
    """Two seconds at 60 Hz; `tools/soak_live.py` is the long form."""
    frames = [kit.picture(i, size=(96, 128)) for i in range(30)]
    threads: set[int] = set()
    descriptors: dict[bool, list[int]] = {False: [], True: []}

    class Counting(kit.KeepSink):  # type: ignore[misc, name-defined]
        def write(self, result: Result) -> None:
            if 20 <= result.frame_id < 100:  # after the first results, before the source ends
                threads.add(threading.active_count())
                descriptors[result.frame_id >= 60].append(sum(1 for _ in Path("/proc/self/fd").iterdir()))

    asked = request(
        null((96, 128)), [MemorySource(frames, rate_hz=60, count=120)], [*every_sink, Counting()], health=QUIET
    )
    summary = kit.play_any(asked)
    assert summary.frames == 120
    assert len(threads) == 1, threads
    assert min(descriptors[False]) == min(descriptors[True]), "a file that is being written opens and closes one"


def test_realtime_video_is_a_camera(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    """An engine much slower than the file: frames are dropped and counted, the age does not grow."""
    frames = [kit.picture(i) for i in range(40)]
    source = RealtimeSource(MemorySource(frames))
    summary = kit.play_any(request(null(latency_ms=70), [source], [], health=QUIET))
    assert summary.drops["replaced"] > 10
    assert summary.frames == 40 == summary.results + sum(summary.drops.values())
    assert summary.beyond_engine_ms.mean is not None
    assert summary.beyond_engine_ms.mean < 33.3 + 60, "one frame interval, and what a busy machine adds"
