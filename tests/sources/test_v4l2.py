"""V4L2 without a camera: the binary interface against the kernel's header, and the source over a simulated device."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from edgeseg.core.clock import CaptureClock
from edgeseg.core.errors import DataError, SourceLostError, UnavailableError
from edgeseg.core.types import U8
from edgeseg.sources import v4l2
from edgeseg.sources import v4l2_abi as abi
from edgeseg.sources.v4l2 import Format, V4l2Source, choose, decode

REQUESTS = {
    "VIDIOC_QUERYCAP": abi.QUERYCAP,
    "VIDIOC_ENUM_FMT": abi.ENUM_FMT,
    "VIDIOC_S_FMT": abi.S_FMT,
    "VIDIOC_REQBUFS": abi.REQBUFS,
    "VIDIOC_QUERYBUF": abi.QUERYBUF,
    "VIDIOC_QBUF": abi.QBUF,
    "VIDIOC_DQBUF": abi.DQBUF,
    "VIDIOC_STREAMON": abi.STREAMON,
    "VIDIOC_STREAMOFF": abi.STREAMOFF,
    "VIDIOC_S_PARM": abi.S_PARM,
    "VIDIOC_ENUM_FRAMESIZES": abi.ENUM_FRAMESIZES,
    "VIDIOC_ENUM_FRAMEINTERVALS": abi.ENUM_FRAMEINTERVALS,
}
OFFSETS: dict[tuple[str, str], int] = {
    ("v4l2_capability", "device_caps"): abi.Capability.device_caps.offset,
    ("v4l2_fmtdesc", "pixelformat"): abi.FormatDescription.pixelformat.offset,
    ("v4l2_frmsizeenum", "discrete"): abi.FrameSize.sizes.offset,
    ("v4l2_frmsizeenum", "stepwise.max_height"): abi.FrameSize.sizes.offset + 4 * 4,
    ("v4l2_frmivalenum", "discrete"): abi.FrameInterval.intervals.offset,
    ("v4l2_format", "fmt.pix.width"): abi.PixelFormat.width.offset,
    ("v4l2_format", "fmt.pix.sizeimage"): abi.PixelFormat.sizeimage.offset,
    ("v4l2_streamparm", "parm.capture.timeperframe.denominator"): abi.StreamParameters.denominator.offset,
    ("v4l2_buffer", "timestamp"): abi.BufferRecord.seconds.offset,
    ("v4l2_buffer", "sequence"): abi.BufferRecord.sequence.offset,
    ("v4l2_buffer", "m"): abi.BufferRecord.offset.offset,
    ("v4l2_buffer", "length"): abi.BufferRecord.length.offset,
}


def test_numbers_and_layouts_are_those_of_the_kernels_header(tmp_path: Path) -> None:
    if shutil.which("g++") is None or not Path("/usr/include/linux/videodev2.h").exists():
        pytest.skip("needs g++ and the kernel's headers (apt install g++ linux-libc-dev)")
    lines = [f'printf("%lu\\n", (unsigned long){name});' for name in REQUESTS]
    lines += [f'printf("%lu\\n", (unsigned long)__builtin_offsetof(struct {kind}, {name}));' for kind, name in OFFSETS]
    source = tmp_path / "abi.cpp"
    source.write_text(
        "#include <cstdio>\n#include <sys/time.h>\n#include <linux/videodev2.h>\nint main(){" + "".join(lines) + "}"
    )
    subprocess.run(["g++", "-Wno-invalid-offsetof", str(source), "-o", str(tmp_path / "abi")], check=True)
    printed = subprocess.run([str(tmp_path / "abi")], check=True, capture_output=True, text=True).stdout
    assert [int(line) for line in printed.split()] == [*REQUESTS.values(), *OFFSETS.values()]


class SimulatedDevice:
    """Stands in for `abi.Device`: a pipe that is readable when a frame is ready."""

    formats_offered = (
        Format(fourcc="YUYV", height=480, width=640, rate_hz=30),
        Format(fourcc="MJPG", height=720, width=1280, rate_hz=30),
        Format(fourcc="YUYV", height=720, width=1280, rate_hz=10),
        Format(fourcc="MJPG", height=1080, width=1920, rate_hz=30),
    )
    ready: ClassVar[list[tuple[abi.Buffer, bytes]]] = []
    failure: OSError | None = None

    def __init__(self, path: Path) -> None:
        if self.failure is not None:
            raise self.failure
        self.fileno, self._write = os.pipe()
        self.monotonic = True
        self.enqueued: list[int] = []
        os.write(self._write, b"x")
        self.closed = 0

    def formats(self) -> list[Format]:
        return list(self.formats_offered)

    def start(self, wanted: Format, buffers: int) -> Format:
        return wanted

    def dequeue(self) -> abi.Buffer:
        if not self.ready:
            raise OSError(errno.ENODEV, "gone")
        buffer, self._data = self.ready.pop(0)
        return buffer

    def bytes_of(self, buffer: abi.Buffer) -> U8:
        return np.frombuffer(self._data, np.uint8)

    def enqueue(self, buffer: abi.Buffer) -> None:
        self.enqueued.append(buffer.index)

    def close(self) -> None:
        self.closed += 1
        os.close(self.fileno)
        os.close(self._write)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[SimulatedDevice]:
    kind: Any = type("Device", (SimulatedDevice,), {"ready": [], "failure": None})
    monkeypatch.setattr(v4l2.abi, "Device", kind)
    return kind  # type: ignore[no-any-return]


def jpeg(value: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((720, 1280, 3), value, np.uint8))[1])


def filled(index: int, sequence: int, *, corrupt: bool = False) -> abi.Buffer:
    return abi.Buffer(index=index, size=1, sequence=sequence, t_ns=1000 + sequence, corrupt=corrupt)


def test_driver_times_and_sequence_gaps_reach_the_frame(device: type[SimulatedDevice]) -> None:
    device.ready = [(filled(0, 40), jpeg(60)), (filled(1, 41), jpeg(70)), (filled(2, 44), jpeg(80))]
    source = V4l2Source("3")
    info = source.open()
    assert (info.uri, info.size, info.rate_hz, info.coding) == ("/dev/video3 (MJPG)", (720, 1280), 30, "intra")
    assert info.clock is CaptureClock.DRIVER
    frames = []
    for _ in range(3):
        assert source.grab()
        frames.append(source.retrieve())
    assert [frame.id for frame in frames] == [0, 1, 4], "two frames that the driver had no room for"
    assert [frame.t_capture_ns for frame in frames] == [1040, 1041, 1044]
    assert abs(int(frames[2].image_hwc.mean()) - 80) <= 1
    with pytest.raises(SourceLostError, match="unplugged"):
        source.grab()
    source.close()
    source.close()


def test_a_damaged_frame_is_refused(device: type[SimulatedDevice]) -> None:
    device.ready = [(filled(0, 0, corrupt=True), jpeg(60)), (filled(1, 1), b"\xff\xd8 not a picture")]
    source = V4l2Source("0")
    source.open()
    for word in ("damaged", "does not decode"):
        source.grab()
        with pytest.raises(DataError, match=word):
            source.retrieve()
    source.close()


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EBUSY, errno.ENOTTY, errno.EACCES])
def test_a_device_that_does_not_open(device: type[SimulatedDevice], code: int) -> None:
    device.failure = OSError(code, os.strerror(code))
    with pytest.raises(UnavailableError, match=os.strerror(code)):
        V4l2Source("/dev/video0").open()


def test_the_fast_format_at_720_lines_is_chosen() -> None:
    chosen = choose(SimulatedDevice.formats_offered, "x")
    assert (chosen.fourcc, chosen.height) == ("MJPG", 720)


OFFERED = (
    *SimulatedDevice.formats_offered,
    Format(fourcc="NV12", height=480, width=640, rate_hz=30),
    Format(fourcc="MJPG", height=480, width=640, rate_hz=30),
)


@pytest.mark.parametrize(
    ("form", "size", "expected"),
    [
        ("bgr", None, ("MJPG", 720)),
        ("bgr", (480, 640), ("MJPG", 480)),  # no resize on the host
        ("yuyv", (480, 640), ("YUYV", 480)),
        ("nv12", (480, 640), ("NV12", 480)),
        ("yuyv", (720, 1280), ("MJPG", 720)),  # there it has YUYV at 10 frames a second only
        ("nv12", (540, 960), ("MJPG", 720)),  # it must be resized, so it must be BGR
    ],
)
def test_what_the_engine_takes_comes_first_where_the_camera_has_it(
    form: Any, size: Any, expected: tuple[str, int]
) -> None:
    chosen = choose(OFFERED, "x", form, size)
    assert (chosen.fourcc, chosen.height) == expected


@pytest.mark.parametrize(("form", "shape"), [("nv12", (720, 640)), ("yuyv", (480, 640, 2)), ("bgr", (480, 640, 3))])
def test_the_cameras_own_bytes_reach_the_frame(
    device: type[SimulatedDevice], monkeypatch: pytest.MonkeyPatch, form: Any, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(device, "formats_offered", tuple(item for item in OFFERED if item.fourcc != "MJPG"))
    data = np.arange(480 * 640 * 2, dtype=np.uint32).astype(np.uint8)
    device.ready = [(filled(0, 0), data.tobytes()), (filled(1, 1), b"short")]
    source = V4l2Source("0")
    source.suit(form, (480, 640))
    info = source.open()
    assert (info.form, info.size, info.coding) == (form, (480, 640), "raw")
    out = np.zeros(shape, np.uint8)
    assert source.grab()
    frame = source.retrieve(out)
    assert (frame.form, np.shares_memory(frame.image_hwc, out)) == (form, True)
    if form != "bgr":
        assert (out.reshape(-1) == data[: out.size]).all()
    assert source.grab()
    with pytest.raises(DataError, match="too short"):
        source.retrieve(out)
    source.close()


def test_raw_bayer_is_explained() -> None:
    bayer = [Format(fourcc="RG10", height=2464, width=3264, rate_hz=21)]
    with pytest.raises(UnavailableError, match="csi://0"):
        choose(bayer, "/dev/video0")
    with pytest.raises(UnavailableError, match="H264"):
        choose([Format(fourcc="H264", height=720, width=1280, rate_hz=30)], "/dev/video0")


@pytest.mark.parametrize("fourcc", ["YUYV", "UYVY", "NV12", "BGR3"])
def test_raw_formats_decode_to_the_colour_they_show(fourcc: str) -> None:
    form = Format(fourcc=fourcc, height=4, width=6, rate_hz=30)
    grey = np.full(4 * 6 * 3, 128, np.uint8)
    data = grey[: 4 * 6 * 3 if fourcc == "BGR3" else 4 * 6 * 3 // 2 if fourcc == "NV12" else 4 * 6 * 2]
    out = np.zeros((4, 6, 3), np.uint8)
    image = decode(data, form, out, origin="x")
    assert np.shares_memory(image, out)
    assert set(np.unique(out)) <= {128, 129, 130, 131}
    with pytest.raises(DataError, match="too short"):
        decode(data[:-1], form, out, origin="x")


def test_structures_have_no_hidden_padding() -> None:
    assert ctypes.sizeof(abi.BufferRecord) == 88
    assert ctypes.sizeof(abi.PixelFormat) == 208
