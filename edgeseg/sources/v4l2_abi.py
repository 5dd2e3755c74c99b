"""The part of <linux/videodev2.h> that a capture needs, as `struct` layouts of 64-bit Linux, and a device over it.

Each request number is `_IOC(direction, 'V', number, sizeof(struct))`; a test compares every number and size here
with what a C compiler makes of the kernel's header.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edgeseg.core.types import U8

if TYPE_CHECKING:
    from edgeseg.sources.v4l2 import Format

S = TypeVar("S", bound=ctypes.Structure)

_WRITE, _READ = 1, 2
CAPTURE = 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE
MMAP = 1  # V4L2_MEMORY_MMAP
_CAP_CAPTURE, _CAP_STREAMING, _CAP_DEVICE_CAPS = 0x1, 0x0400_0000, 0x8000_0000
_FLAG_ERROR, _FLAG_STAMP_MASK, _FLAG_MONOTONIC = 0x40, 0xE000, 0x2000
_DISCRETE = 1
_FIELD_ANY = 0


class Capability(ctypes.Structure):
    """struct v4l2_capability."""

    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("device_caps", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )


class FormatDescription(ctypes.Structure):
    """struct v4l2_fmtdesc."""

    _fields_ = (
        ("index", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", ctypes.c_uint32),
        ("mbus_code", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )


class FrameSize(ctypes.Structure):
    """struct v4l2_frmsizeenum; for a range of sizes only the maximum is looked at."""

    _fields_ = (
        ("index", ctypes.c_uint32),
        ("pixel_format", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("sizes", ctypes.c_uint32 * 6),  # discrete: width, height; else min_w, max_w, step_w, min_h, max_h, step_h
        ("reserved", ctypes.c_uint32 * 2),
    )


class FrameInterval(ctypes.Structure):
    """struct v4l2_frmivalenum; of a range the minimum interval comes first, as a discrete one does."""

    _fields_ = (
        ("index", ctypes.c_uint32),
        ("pixel_format", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("intervals", ctypes.c_uint32 * 6),
        ("reserved", ctypes.c_uint32 * 2),
    )


class PixelFormat(ctypes.Structure):
    """struct v4l2_format with its v4l2_pix_format; the union behind it is 200 bytes, 8-byte aligned."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("_align", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("pixelformat", ctypes.c_uint32),
        ("field", ctypes.c_uint32),
        ("bytesperline", ctypes.c_uint32),
        ("sizeimage", ctypes.c_uint32),
        ("rest", ctypes.c_uint8 * 176),
    )


class StreamParameters(ctypes.Structure):
    """struct v4l2_streamparm with its v4l2_captureparm."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("capability", ctypes.c_uint32),
        ("capturemode", ctypes.c_uint32),
        ("numerator", ctypes.c_uint32),
        ("denominator", ctypes.c_uint32),
        ("rest", ctypes.c_uint8 * 184),
    )


class RequestBuffers(ctypes.Structure):
    """struct v4l2_requestbuffers."""

    _fields_ = (
        ("count", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("memory", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("flags", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 3),
    )


class BufferRecord(ctypes.Structure):
    """struct v4l2_buffer."""

    _fields_ = (
        ("index", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("bytesused", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("field", ctypes.c_uint32),
        ("seconds", ctypes.c_int64),
        ("microseconds", ctypes.c_int64),
        ("timecode", ctypes.c_uint8 * 16),
        ("sequence", ctypes.c_uint32),
        ("memory", ctypes.c_uint32),
        ("offset", ctypes.c_uint64),
        ("length", ctypes.c_uint32),
        ("reserved2", ctypes.c_uint32),
        ("request_fd", ctypes.c_int32),
    )


def request_number(direction: int, number: int, kind: type[ctypes.Structure] | type[ctypes.c_int]) -> int:
    """`_IOC(direction, 'V', number, sizeof(kind))`."""
    return direction << 30 | ctypes.sizeof(kind) << 16 | ord("V") << 8 | number


QUERYCAP = request_number(_READ, 0, Capability)
ENUM_FMT = request_number(_READ | _WRITE, 2, FormatDescription)
S_FMT = request_number(_READ | _WRITE, 5, PixelFormat)
REQBUFS = request_number(_READ | _WRITE, 8, RequestBuffers)
QUERYBUF = request_number(_READ | _WRITE, 9, BufferRecord)
QBUF = request_number(_READ | _WRITE, 15, BufferRecord)
DQBUF = request_number(_READ | _WRITE, 17, BufferRecord)
STREAMON = request_number(_WRITE, 18, ctypes.c_int)
STREAMOFF = request_number(_WRITE, 19, ctypes.c_int)
S_PARM = request_number(_READ | _WRITE, 22, StreamParameters)
ENUM_FRAMESIZES = request_number(_READ | _WRITE, 74, FrameSize)
ENUM_FRAMEINTERVALS = request_number(_READ | _WRITE, 75, FrameInterval)


@dataclass(frozen=True, slots=True)
class Buffer:
    """A filled buffer: its index, what is in it, and when the kernel stamped it (monotonic ns)."""

    index: int
    size: int
    sequence: int
    t_ns: int
    corrupt: bool


class Device:
    """An open capture device.

    Args:
        path: Device node.

    Raises:
        OSError: It is not there, busy, or no camera (ENOTTY).
    """

    def __init__(self, path: Path) -> None:
        self.fileno = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.monotonic = False
        self._maps: list[mmap.mmap] = []
        self._streaming = False
        try:
            found = Capability()
            self._call(QUERYCAP, found)
            caps = found.device_caps if found.capabilities & _CAP_DEVICE_CAPS else found.capabilities
            if not caps & _CAP_CAPTURE or not caps & _CAP_STREAMING:
                raise OSError(25, "not a capture device")  # ENOTTY: a metadata or output node of a camera
        except OSError:
            os.close(self.fileno)
            raise

    def formats(self) -> list[Format]:
        """Every format, size and fastest rate that the camera offers."""
        from edgeseg.sources.v4l2 import Format

        return [
            Format(fourcc=fourcc_name(code), height=height, width=width, rate_hz=self._fastest(code, width, height))
            for code in [
                item.pixelformat for item in self._each(ENUM_FMT, lambda i: FormatDescription(index=i, type=CAPTURE))
            ]
            for width, height in self._sizes(code)
        ]

    def start(self, wanted: Format, buffers: int) -> Format:
        """Set the format, map the buffers and start streaming; what the driver really gives."""
        from edgeseg.sources.v4l2 import Format

        form = PixelFormat(
            type=CAPTURE,
            width=wanted.width,
            height=wanted.height,
            pixelformat=fourcc_code(wanted.fourcc),
            field=_FIELD_ANY,
        )
        self._call(S_FMT, form)
        rate_hz = wanted.rate_hz
        if rate_hz:
            parameters = StreamParameters(type=CAPTURE, numerator=1000, denominator=round(rate_hz * 1000))
            self._call(S_PARM, parameters)
            rate_hz = parameters.denominator / max(1, parameters.numerator)
        request = RequestBuffers(count=buffers, type=CAPTURE, memory=MMAP)
        self._call(REQBUFS, request)
        for index in range(request.count):
            record = BufferRecord(index=index, type=CAPTURE, memory=MMAP)
            self._call(QUERYBUF, record)
            self.monotonic = record.flags & _FLAG_STAMP_MASK == _FLAG_MONOTONIC
            self._maps.append(mmap.mmap(self.fileno, record.length, offset=record.offset & 0xFFFF_FFFF))
            self._call(QBUF, record)
        self._call(STREAMON, ctypes.c_int(CAPTURE))
        self._streaming = True
        return Format(fourcc=fourcc_name(form.pixelformat), height=form.height, width=form.width, rate_hz=rate_hz)

    def dequeue(self) -> Buffer:
        """The *newest* filled buffer; older ones that wait go straight back to the driver."""
        buffer = self._dequeue()
        while True:
            try:
                newer = self._dequeue()
            except BlockingIOError:
                return buffer
            self.enqueue(buffer)
            buffer = newer

    def enqueue(self, buffer: Buffer) -> None:
        """Give a buffer back to the driver."""
        self._call(QBUF, BufferRecord(index=buffer.index, type=CAPTURE, memory=MMAP))

    def bytes_of(self, buffer: Buffer) -> U8:
        """What is in a buffer, uint8 [N]; valid until it is enqueued."""
        return np.frombuffer(self._maps[buffer.index], np.uint8, buffer.size)

    def close(self) -> None:
        """Stop streaming and let go of the device."""
        if self._streaming:
            try:
                self._call(STREAMOFF, ctypes.c_int(CAPTURE))
            except OSError:
                self._streaming = False  # unplugged: there is nothing left to stop
        self._maps.clear()  # unmapped when the last picture over them is gone
        os.close(self.fileno)

    # ------------------------------------------------------------ inside

    def _dequeue(self) -> Buffer:
        record = BufferRecord(type=CAPTURE, memory=MMAP)
        self._call(DQBUF, record)
        t_ns = record.seconds * 1_000_000_000 + record.microseconds * 1000
        return Buffer(record.index, record.bytesused, record.sequence, t_ns, bool(record.flags & _FLAG_ERROR))

    def _call(self, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        fcntl.ioctl(self.fileno, request, argument, True)

    def _sizes(self, code: int) -> list[tuple[int, int]]:
        entries = self._each(ENUM_FRAMESIZES, lambda i: FrameSize(index=i, pixel_format=code))
        return [
            (item.sizes[0], item.sizes[1]) if item.type == _DISCRETE else (item.sizes[1], item.sizes[4])
            for item in entries
        ]

    def _fastest(self, code: int, width: int, height: int) -> float:
        entries = self._each(
            ENUM_FRAMEINTERVALS, lambda i: FrameInterval(index=i, pixel_format=code, width=width, height=height)
        )
        return max((item.intervals[1] / max(1, item.intervals[0]) for item in entries), default=0.0)

    def _each(self, request: int, make: Callable[[int], S]) -> Iterator[S]:
        """Entries of an enumeration until the driver says EINVAL."""
        for index in range(256):
            entry = make(index)
            try:
                self._call(request, entry)
            except OSError:
                return
            yield entry


def fourcc_name(code: int) -> str:
    """0x47504A4D as `MJPG`."""
    return code.to_bytes(4, "little").decode("latin-1").rstrip()


def fourcc_code(name: str) -> int:
    """`MJPG` as 0x47504A4D."""
    return int.from_bytes(name.ljust(4).encode("latin-1"), "little")
