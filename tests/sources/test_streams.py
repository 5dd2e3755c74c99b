"""Network cameras and pipelines: real servers on loopback where this machine has them, the texts everywhere."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.core.clock import CaptureClock
from edgeseg.core.errors import DataError, RequestError, SourceLostError, UnavailableError
from edgeseg.core.gstreamer import opencv_has_gstreamer
from edgeseg.sources import open_source, pipelines
from edgeseg.sources.gst import GstSource
from edgeseg.sources.mjpeg import MjpegSource
from edgeseg.sources.ptsclock import MinimumDelay
from edgeseg.sources.reach import reach
from edgeseg.sources.rtsp import FfmpegRtspSource, GstRtspSource

HERE = Path(__file__).parent
SYSTEM_PYTHON = "/usr/bin/python3"
MS = 1_000_000


def jpeg(value: int, size: tuple[int, int] = (48, 64)) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((*size, 3), value, np.uint8))[1])


def part(data: bytes) -> bytes:
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data) + data + b"\r\n"


# ---------------------------------------------------------------- HTTP


class Camera:
    """A camera that sends what a test tells it to."""

    def __init__(self, header: bytes) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.request = b""
        self.send: list[bytes | threading.Event] = []
        self.header = header
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self.listener.accept()
            with connection:
                self.request = connection.recv(4096)
                connection.sendall(self.header)
                for item in self.send:
                    if isinstance(item, threading.Event):
                        item.wait(10)
                    else:
                        connection.sendall(item)

    def close(self) -> None:
        self.listener.close()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 0.1).close()
        self.thread.join(10)


@pytest.fixture
def camera() -> Iterator[Callable[..., Camera]]:
    cameras = []

    def make(
        *send: bytes | threading.Event,
        header: bytes = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n",
    ) -> Camera:
        one = Camera(header)
        one.send = list(send)
        cameras.append(one)
        return one

    yield make
    for one in cameras:
        one.close()


def test_http_frames_come_whole_and_credentials_only_go_into_the_request(camera: Callable[..., Camera]) -> None:
    release = threading.Event()
    thumbnail = b"\xff\xd8\xff\xe1 a thumbnail inside \xff\xd9"
    second = jpeg(90)
    second = second[:2] + b"\xff\xfe" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + second[2:]
    one = camera(part(jpeg(60)) + b"--frame", release, part(second)[7:] + b"--frame")
    source = MjpegSource(f"http://driver:secret@127.0.0.1:{one.port}/video?size=big")
    info = source.open()
    assert (info.size, info.live, info.coding) == ((48, 64), True, "intra")
    assert "secret" not in info.uri
    assert source.grab()
    assert abs(int(source.retrieve().image_hwc.mean()) - 60) <= 1
    release.set()
    assert source.grab()
    frame = source.retrieve(np.zeros((48, 64, 3), np.uint8))
    assert (frame.id, abs(int(frame.image_hwc.mean()) - 90) <= 1) == (1, True)
    source.close()
    assert b"GET /video?size=big " in one.request
    assert b"Authorization: Basic ZHJpdmVyOnNlY3JldA==" in one.request


def test_http_frames_that_waited_are_skipped_and_counted(camera: Callable[..., Camera]) -> None:
    gate = threading.Event()
    one = camera(
        part(jpeg(10)) + b"--frame",
        gate,
        b"".join(part(jpeg(20 + 10 * i))[0 if i else 7 :] for i in range(5)) + b"--frame",
    )
    source = MjpegSource(f"http://127.0.0.1:{one.port}/")
    source.open()
    source.grab()
    gate.set()
    one.thread.join(10)
    ids = []
    with pytest.raises(SourceLostError):
        while source.grab():
            ids.append(source.retrieve().id)
    assert ids[-1] == 5, "every picture counts, whether or not it was shown"
    source.close()


def test_http_a_damaged_picture_is_refused_and_a_closed_connection_is_lost(camera: Callable[..., Camera]) -> None:
    gate = threading.Event()
    broken = jpeg(50)[:3] + b"\0" * 40 + b"\xff\xd9"
    one = camera(part(jpeg(60)) + b"--frame", gate, part(broken)[7:] + b"--frame")
    source = MjpegSource(f"http://127.0.0.1:{one.port}/")
    source.open()
    source.grab()
    gate.set()
    assert source.grab()
    with pytest.raises(DataError, match="does not decode"):
        source.retrieve()
    with pytest.raises(SourceLostError, match="gone"):
        source.grab()
    source.close()


@pytest.mark.parametrize(
    "header", [b"HTTP/1.0 404 Not Found\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>"]
)
def test_http_what_is_no_camera_is_refused(camera: Callable[..., Camera], header: bytes) -> None:
    one = camera(header=header)
    with pytest.raises(UnavailableError, match="no pictures"):
        MjpegSource(f"http://127.0.0.1:{one.port}/").open()


def test_http_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UnavailableError, match="does not answer"):
        open_source(f"http://127.0.0.1:{port}/").open()

    with pytest.raises(UnavailableError, match=r"within 5 s.*--keep-trying.*try: curl .*\*\*\*@"):
        open_source(f"http://driver:secret@127.0.0.1:{port}/").open()


# ---------------------------------------------------------------- RTSP that does not answer


@pytest.mark.parametrize(
    ("answer", "user", "words"),
    [
        (b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n", "", ["404 Not Found", "ffprobe"]),
        (b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n", "", ["wants rtsp://", "ffprobe"]),
        (b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n", "driver:secret@", ["this user", "***@", "ffprobe"]),
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", "", ["sends no picture", "ffprobe"]),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", "", ["no RTSP server", "ffprobe"]),
        (b"", "", ["sends no picture", "ffprobe"]),
    ],
)
def test_why_an_rtsp_camera_gives_no_picture(
    camera: Callable[..., Camera], answer: bytes, user: str, words: list[str]
) -> None:
    one = camera(header=answer)
    text = str(reach(f"rtsp://{user}127.0.0.1:{one.port}/front").error(within_s=8))
    assert all(word in text for word in [*words, "within 8 s", "live --keep-trying"]), text
    assert "secret" not in text
    one.thread.join(10)
    assert one.request.startswith(b"DESCRIBE rtsp://127.0.0.1:")
    assert b"secret" not in one.request


def test_rtsp_through_gstreamer_says_why_unless_gstreamer_knows_better(
    camera: Callable[..., Camera], unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gives_up(source: GstSource) -> None:
        raise UnavailableError("an element is missing", fix="sudo apt install it")

    monkeypatch.setattr(GstSource, "open", gives_up)
    elements = pipelines.Elements(nvidia=False)
    with pytest.raises(UnavailableError, match=r"connection refused.*within 8 s.*try: nc"):
        GstRtspSource(f"rtsp://127.0.0.1:{unused_port}/front", elements).open()
    one = camera(header=b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n")
    with pytest.raises(UnavailableError, match="an element is missing"):
        GstRtspSource(f"rtsp://127.0.0.1:{one.port}/front", elements).open()


@pytest.mark.parametrize("address", ["rtsp://", "rtsp://camera:99999/front", "rtsp://camera:port/", "rtsp://[::1/"])
def test_what_is_no_rtsp_address_is_refused(address: str) -> None:
    with pytest.raises(RequestError, match="not an address"):
        open_source(address)


def _live(port: int, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeseg", "live", "zoo:edge-s"]
    command += ["--source", f"rtsp://driver:secret@127.0.0.1:{port}/front", *options]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**clean, **environment}
    )


def test_rtsp_nobody_there_is_one_line_and_the_libraries_speak_only_in_the_log(unused_port: int) -> None:
    done = _live(unused_port)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert line.startswith("edgeseg: error: the camera does not answer (rtsp://***@127.0.0.1:")
    assert "connection refused); " in line
    assert "within 8 s" in line
    assert line.endswith(f"; try: nc -vz 127.0.0.1 {unused_port}")
    if not opencv_has_gstreamer():
        assert "VIDEOIO" in _live(unused_port, "--debug").stderr
        assert "VIDEOIO" in _live(unused_port, OPENCV_LOG_LEVEL="WARNING").stderr, "what a person has set stays"


# ---------------------------------------------------------------- the texts of pipelines


def test_every_pipeline_keeps_one_frame_and_drops_the_rest() -> None:
    elements = pipelines.Elements(nvidia=True)
    for text in (pipelines.csi(0, (720, 1280), 30), pipelines.rtsp("rtsp://10.0.0.1/front", elements)):
        assert "leaky=downstream" in text
        end = pipelines.to_appsink(text)
        assert end.endswith("appsink max-buffers=1 drop=true sync=false")


def test_an_engine_of_nv12_gets_it_without_a_conversion_on_the_host() -> None:
    board = pipelines.Elements(nvidia=True)
    for text in (pipelines.csi(0, (720, 1280), 30, "nv12"), pipelines.rtsp("rtsp://10.0.0.1/", board, "nv12")):
        end = pipelines.to_appsink(text, "nv12", convert=False)
        assert "nvvidconv ! video/x-raw,format=NV12 ! capsfilter caps=video/x-raw,format=NV12 ! appsink" in end
        assert "videoconvert" not in end
    assert "videoconvert ! capsfilter caps=video/x-raw,format=YUY2" in pipelines.to_appsink("v4l2src", "yuyv")
    assert "format=BGRx" in pipelines.csi(0, (720, 1280), 30)


def test_rtsp_goes_over_tcp_with_a_short_buffer_and_credentials_apart_from_the_address() -> None:
    text = pipelines.rtsp("rtsp://driver:a%22b@10.0.0.1:8554/front?x=1", pipelines.Elements(nvidia=False))
    assert 'location="rtsp://10.0.0.1:8554/front?x=1"' in text
    assert 'user-id="driver" user-pw="a\\"b"' in text
    assert "protocols=tcp latency=50 drop-on-latency=true" in text
    assert "nvvidconv" not in text


def test_an_appsink_that_a_person_wrote_is_left_alone() -> None:
    text = "videotestsrc ! appsink name=mine"
    assert pipelines.to_appsink(text) == text


def test_csi_options() -> None:
    with pytest.raises(RequestError, match="size"):
        open_source("csi://0?siz=720x1280")
    with pytest.raises(RequestError, match="csi://N"):
        open_source("csi://front")
    with pytest.raises(RequestError, match="empty pipeline"):
        open_source("gst:")


@pytest.mark.skipif(Path("/etc/nv_tegra_release").exists(), reason="on a Jetson the element is there")
def test_csi_without_argus_is_explained() -> None:
    with pytest.raises(UnavailableError, match="only a Jetson has"):
        open_source("csi://0").open()


# ---------------------------------------------------------------- real pipelines


needs_launch = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None, reason="needs gst-launch-1.0 (apt install gstreamer1.0-tools)"
)


@needs_launch
def test_a_pipeline_runs_in_a_child_process_where_opencv_has_no_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeseg.sources.gst.opencv_has_gstreamer", lambda: False)
    source = GstSource("gst:videotestsrc num-buffers=20 pattern=red ! video/x-raw,width=64,height=48,framerate=30/1")
    info = source.open()
    assert (info.size, info.rate_hz, info.live) == ((48, 64), 30.0, True)
    out = np.zeros((48, 64, 3), np.uint8)
    assert source.grab()
    frame = source.retrieve(out)
    assert np.shares_memory(frame.image_hwc, out)
    blue, _, red = out.reshape(-1, 3).mean(axis=0)
    assert red > 200 > 50 > blue
    with pytest.raises(SourceLostError):
        while source.grab():
            pass
    source.close()
    source.close()


@needs_launch
def test_nv12_through_a_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeseg.sources.gst.opencv_has_gstreamer", lambda: False)
    source = GstSource("gst:videotestsrc num-buffers=3 pattern=red ! video/x-raw,width=64,height=48,framerate=30/1")
    source.suit("nv12", None)
    info = source.open()
    assert (info.size, info.form) == ((48, 64), "nv12")
    out = np.zeros((72, 64), np.uint8)
    assert source.grab()
    frame = source.retrieve(out)
    source.close()
    assert frame.form == "nv12"
    assert np.shares_memory(frame.image_hwc, out)
    blue, _, red = cv2.cvtColor(out, cv2.COLOR_YUV2BGR_NV12).reshape(-1, 3).mean(axis=0)
    assert red > 200 > 50 > blue


@needs_launch
def test_a_pipeline_that_cannot_be_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeseg.sources.gst.opencv_has_gstreamer", lambda: False)
    with pytest.raises(UnavailableError, match="nosuchelement"):
        GstSource("gst:nosuchelement").open()


@pytest.fixture
def system_site(tmp_path: Path) -> Path:
    """What the distribution's Python needs to import this package beside its own OpenCV, which has GStreamer."""
    if sys.version_info[:2] != _system_version() or not _system_opencv_has_gstreamer():
        pytest.skip("needs the distribution's python3-opencv, of this Python's version, with GStreamer")
    for name in ("msgspec", "PIL"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (tmp_path / name).symlink_to(Path(spec.origin).parent)
    (tmp_path / "edgeseg").symlink_to(HERE.parents[1] / "edgeseg")
    return tmp_path


def _system_version() -> tuple[int, ...]:
    command = [SYSTEM_PYTHON, "-c", "import sys; print(*sys.version_info[:2])"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return tuple(int(item) for item in done.stdout.split())


def _system_opencv_has_gstreamer() -> bool:
    command = [SYSTEM_PYTHON, "-c", "import cv2; print(cv2.getBuildInformation())"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return any("GStreamer:" in line and "YES" in line for line in done.stdout.splitlines())


def test_a_real_pipeline_through_the_distributions_opencv(system_site: Path) -> None:
    code = """
from edgeseg.sources import open_source
source = open_source("gst:videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=30/1")
info = source.open()
for _ in range(5):
    assert source.grab()
    frame = source.retrieve()
source.close()
print(info.size, frame.id, frame.image_hwc.shape)
"""
    environment = {**os.environ, "PYTHONPATH": str(system_site)}
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", code], capture_output=True, text=True, check=False, env=environment, timeout=60
    )
    assert done.stdout.strip() == "(48, 64) 4 (48, 64, 3)", done.stderr


LIVE_IN_CAMERA_BYTES = """
import sys
import numpy as np, cv2
from edgeseg.backend import open_null
from edgeseg.backend.null import Latency, runner_of
from edgeseg.core.types import Classes, EngineSpec
from edgeseg.live.pipeline import Pipeline
from edgeseg.live.request import LiveRequest, LoadedEngine
from edgeseg.live.summary import summarise
from edgeseg.sources import open_source
form, pipeline, size = sys.argv[1], sys.argv[2], (48, 64)
classes = Classes(names=("a", "b", "c"), palette_rgb=((0, 0, 0), (1, 1, 1), (2, 2, 2)))
class Keep:
    name, lossless, kept = "keep", False, []
    def open(self, context): self.form = context.cameras[0].form
    def write(self, result):
        if result.mask_hw is not None:
            self.kept.append((result.mask_hw.copy(), result.image_hwc.copy()))
    def close(self): pass
runner = runner_of(EngineSpec(frame_size=size, classes=classes, input_format=form), Latency(), outputs=8)
keep, source = Keep(), open_source("gst:" + pipeline)
loop = Pipeline(LiveRequest(engine=LoadedEngine(runner), sources=[source], sinks=[keep]))
loop.start()
while len(keep.kept) < 5 and loop.running():
    loop.pump()
loop.stop.set()
loop.end()
stages = summarise(loop).stages_ms
mask, image = keep.kept[-1]
print(keep.form, stages["copy_in"].n > 0, stages["resize_in"].n, image.shape, *image.reshape(-1, 3).mean(0).round())
"""


@pytest.mark.parametrize(
    ("form", "gives", "said", "resized"),
    [
        ("nv12", "NV12", "", 0),
        ("yuyv", "YUY2", "", 0),
        ("nv12", "I420", "videoconvert makes it", 0),
        ("bgr", "I420", "videoconvert makes BGR", 0),
        ("bgr", "BGR", "", 0),
    ],
)
def test_what_a_real_pipeline_gives_goes_to_the_engine_as_it_is(
    system_site: Path, form: str, gives: str, said: str, resized: int
) -> None:
    text = f"videotestsrc is-live=true pattern=smpte100 ! video/x-raw,format={gives},width=64,height=48,framerate=60/1"
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", LIVE_IN_CAMERA_BYTES, form, text],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(system_site)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    given, copied, resizes, *rest = done.stdout.split()
    assert (given, copied, int(resizes)) == (form, "True", resized)
    assert rest[:3] == ["(48,", "64,", "3)"]
    # the bars of SMPTE 100 %, seven colours of which each channel is on in four
    assert all(100 < float(mean) < 170 for mean in rest[3:]), rest
    assert ("videoconvert" in done.stderr) == bool(said), done.stderr
    assert said in done.stderr


@pytest.fixture
def rtsp_server() -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False).returncode:
        pytest.skip("needs gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-ugly for the distribution's Python")
    running = []

    def start(port: int) -> subprocess.Popen[str]:
        command = [SYSTEM_PYTHON, str(HERE / "rtsp_server.py"), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.slow
def test_rtsp_through_ffmpeg_and_a_server_that_dies(
    rtsp_server: Callable[[int], subprocess.Popen[str]], unused_port: int
) -> None:
    server = rtsp_server(unused_port)
    source = FfmpegRtspSource(f"rtsp://driver:secret@127.0.0.1:{unused_port}/test")
    info = source.open()
    assert (info.size, info.coding, info.clock) == ((240, 320), "inter", CaptureClock.PTS)
    assert "secret" not in info.uri
    stamps = []
    for _ in range(10):
        assert source.grab()
        stamps.append(source.retrieve().t_capture_ns)
    assert np.median(np.diff(stamps)) == pytest.approx(40 * MS, rel=0.05), "the stream's own clock, not the network's"
    server.kill()
    with pytest.raises(SourceLostError):
        while source.grab():
            pass
    with pytest.raises(UnavailableError, match=r"\*\*\*@"):
        source.open()
    rtsp_server(unused_port)
    assert source.open().size == (240, 320)
    source.close()


@pytest.mark.slow
def test_rtsp_through_the_distributions_gstreamer_in_the_engines_format(
    rtsp_server: Callable[[int], subprocess.Popen[str]], unused_port: int, system_site: Path
) -> None:
    rtsp_server(unused_port)
    code = """
import sys
from edgeseg.sources import open_source
source = open_source(sys.argv[1])
source.suit("nv12", (240, 320))
info = source.open()
for _ in range(10):
    assert source.grab()
    frame = source.retrieve()
source.close()
print(type(source).__name__, info.form, info.coding, info.size, frame.image_hwc.shape, int(frame.image_hwc.max() > 100))
"""
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", code, f"rtsp://driver:secret@127.0.0.1:{unused_port}/test"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(system_site)},
        timeout=60,
    )
    assert done.stdout.strip() == "GstRtspSource nv12 inter (240, 320) (360, 320) 1", done.stderr
    assert "videoconvert makes it" in done.stderr, "a decoder in software gives I420"
    assert "rtsp://***@" in done.stderr


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# ---------------------------------------------------------------- the clock of a stream


def test_jitter_of_the_network_does_not_reach_capture_times() -> None:
    rng = np.random.default_rng(0)
    clock = MinimumDelay()
    times = [clock.capture_ns(i * 40 * MS, round((7 * 1000 + i * 40 + rng.exponential(8)) * MS)) for i in range(500)]
    errors_ms = np.abs(np.diff(times[50:]) / MS - 40)
    assert errors_ms.max() < 1.0


def test_a_delay_that_grows_is_seen() -> None:
    clock = MinimumDelay()
    delay = 0.0
    for i in range(500):
        host_ns = round((1000 + i * 40 + max(0, i - 100) * 0.4) * MS)
        delay = (host_ns - clock.capture_ns(i * 40 * MS, host_ns)) / MS
    assert delay == pytest.approx(160, abs=3)


def test_a_jump_of_the_stamps_starts_afresh() -> None:
    clock = MinimumDelay()
    for i in range(100):
        pts_ns = (i * 40 + (0 if i < 50 else 3_600_000)) * MS
        host_ns = (5000 + i * 40) * MS
        assert clock.capture_ns(pts_ns, host_ns) == host_ns
