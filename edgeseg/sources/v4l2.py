"""A camera behind the kernel's V4L2, spoken to directly: its own buffer times, sequence numbers and time-outs.

OpenCV's V4L2 reader hides which driver buffer a picture came from and waits ten seconds for a silent camera; the
kernel's interface gives both in a few calls (Linux kernel documentation, "Video for Linux API, part I"). The
structures are in `v4l2_abi.py`.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.errors import DataError, SourceLostError, UnavailableError
from edgeseg.core.packing import packed_shape
from edgeseg.core.types import U8, InputFormat, Size, SourceInfo
from edgeseg.sources import v4l2_abi as abi
from edgeseg.sources.base import BaseSource, place

_READ_TIMEOUT_S = 1.5
_BUFFERS = 4
_PREFERRED = ("MJPG", "YUYV", "UYVY", "NV12", "BGR3")
_RAW_BAYER = frozenset(
    {"BA81", "GBRG", "GRBG", "RGGB", "BYR2"}
    | {f"{order}{depth}" for order in ("BG", "GB", "BA", "RG") for depth in ("10", "12", "14", "16")}
    | {f"p{order}{depth}" for order in ("B", "G", "g", "R") for depth in ("AA", "CC", "EE")}  # packed 10, 12, 14
)
_NATIVE: Mapping[InputFormat, str] = {"nv12": "NV12", "yuyv": "YUYV"}
_TO_BGR = {
    "YUYV": cv2.COLOR_YUV2BGR_YUY2,
    "UYVY": cv2.COLOR_YUV2BGR_UYVY,
    "NV12": cv2.COLOR_YUV2BGR_NV12,
}


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which a camera can deliver pictures; `rate_hz` is its fastest rate at that size."""

    fourcc: str
    height: int
    width: int
    rate_hz: float


class V4l2Source(BaseSource):
    """A V4L2 camera.

    Of the formats that the camera offers at 25 frames a second or more, the engine's own size is taken where it is
    among them, else the largest up to 1280x720; and of those MJPG before raw ones, since USB carries it at full rate.
    Where an engine takes the camera's bytes as they are, those come first at its size, and nothing converts them.

    Args:
        uri: A number or a path of a device.
    """

    def __init__(self, uri: str) -> None:
        path = f"/dev/video{uri}" if uri.isdecimal() else uri
        super().__init__(path)
        self._path = Path(path)
        self._device: abi.Device | None = None
        self._format = Format(fourcc="", height=0, width=0, rate_hz=0)
        self._held: abi.Buffer | None = None
        self._sequence: int | None = None
        self._stamp_ns: int | None = None
        self._wanted: tuple[InputFormat, Size | None] = ("bgr", None)

    def suit(self, form: InputFormat, size: Size | None) -> None:
        """Prefer what an engine takes; see `Suitable`."""
        self._wanted = (form, size)

    def open(self) -> SourceInfo:
        """Negotiate format, size and rate, and start streaming.

        Raises:
            UnavailableError: No such device, no camera, no format that can be decoded, or no picture.
        """
        self.close()
        self._id = -1
        self._sequence = None
        try:
            self._device = abi.Device(self._path)
            self._format = choose(self._device.formats(), self.uri, *self._wanted)
            self._format = self._device.start(self._format, _BUFFERS)
        except OSError as error:
            self.close()
            raise UnavailableError(
                "the camera does not open",
                value=f"{self.uri}: {os.strerror(error.errno or 0)}",
                allowed=_cameras(),
                fix="edgeseg doctor",
            ) from None
        form, size = self._wanted
        native = size == (self._format.height, self._format.width) and self._format.fourcc == _NATIVE.get(form)
        self._form = form if native else "bgr"
        return SourceInfo(
            uri=f"{self.uri} ({self._format.fourcc})",
            size=(self._format.height, self._format.width),
            rate_hz=self._format.rate_hz or None,
            live=True,
            coding="intra" if self._format.fourcc == "MJPG" else "raw",
            clock=CaptureClock.DRIVER if self._device.monotonic else CaptureClock.HOST,
            form=self._form,
        )

    def close(self) -> None:
        """Stop streaming; may be called twice."""
        device, self._device = self._device, None
        self._held = None
        if device is not None:
            device.close()

    def _advance(self) -> bool:
        device = self._device
        assert device is not None, "grab() before open()"
        try:
            self._release()
            if not select.select([device.fileno], [], [], _READ_TIMEOUT_S)[0]:
                raise SourceLostError("the camera has gone silent", value=f"{self.uri}: {_READ_TIMEOUT_S} s")
            buffer = device.dequeue()
        except OSError as error:
            gone = error.errno in (errno.ENODEV, errno.EIO, errno.EBADF)
            what = "the camera was unplugged" if gone else "the camera failed"
            raise SourceLostError(what, value=f"{self.uri}: {os.strerror(error.errno or 0)}") from None
        self._held = buffer
        if self._sequence is not None:
            self._id += max(0, buffer.sequence - self._sequence - 1)  # frames that the driver had no room for
        self._sequence = buffer.sequence
        self._stamp_ns = buffer.t_ns if device.monotonic else None
        return True

    def _stamp(self) -> tuple[int, CaptureClock]:
        if self._stamp_ns is None:
            return now_ns(), CaptureClock.HOST
        return self._stamp_ns, CaptureClock.DRIVER

    def _decode(self, out_hwc: U8 | None) -> U8:
        assert self._device is not None, "retrieve() before open()"
        assert self._held is not None, "retrieve() before grab()"
        if self._held.corrupt:
            raise DataError("the driver marked the frame as damaged", value=f"{self.uri}, frame {self._id}")
        data = self._device.bytes_of(self._held)
        origin = f"{self.uri}, frame {self._id}"
        if self._form == "bgr":
            return decode(data, self._format, out_hwc, origin=origin)
        picture = _raw(data, self._format, origin).reshape(
            packed_shape((self._format.height, self._format.width), self._form)
        )
        return place(picture, out_hwc) if out_hwc is not None else np.array(picture)  # the driver gets its buffer back

    def _release(self) -> None:
        if self._held is not None and self._device is not None:
            held, self._held = self._held, None
            self._device.enqueue(held)


def choose(formats: Sequence[Format], uri: str, form: InputFormat = "bgr", engine_size: Size | None = None) -> Format:
    """The format to ask for: see `V4l2Source`.

    Args:
        formats: What the camera offers.
        uri: Its name, for messages.
        form: Layout of the engine's input.
        engine_size: The engine's frame size, where it has one already.

    Raises:
        UnavailableError: None that can be decoded; raw Bayer is named, with what to use instead.
    """
    usable = [item for item in formats if item.fourcc in _PREFERRED]
    if usable:
        return max(
            usable,
            key=lambda item: (
                item.rate_hz >= 25,
                (item.height, item.width) == engine_size,
                (item.height, item.width) == engine_size and item.fourcc == _NATIVE.get(form),
                item.height * item.width if item.height <= 720 else -item.height * item.width,
                -_PREFERRED.index(item.fourcc),
                item.rate_hz,
            ),
        )
    offered = sorted({item.fourcc for item in formats})
    if any(fourcc in _RAW_BAYER for fourcc in offered):
        raise UnavailableError(
            "the camera gives raw Bayer pictures, which need the image processor of the board",
            value=f"{uri}: {', '.join(offered)}",
            fix="edgeseg live BUNDLE --source csi://0",
        )
    raise UnavailableError(
        "the camera has no format that can be decoded",
        value=f"{uri}: {', '.join(offered) or 'none'}",
        allowed=", ".join(_PREFERRED),
    )


def decode(data: U8, form: Format, out_hwc: U8 | None, *, origin: str) -> U8:
    """One buffer of a camera as uint8 [H, W, 3] BGR.

    Raises:
        DataError: Fewer bytes than the format needs, or a JPEG that does not decode.
    """
    height, width = form.height, form.width
    fits = out_hwc is not None and out_hwc.shape == (height, width, 3)
    if form.fourcc == "MJPG":
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if image is None:
            raise DataError("a frame of the camera does not decode", value=origin)
        return place(image, out_hwc)
    data = _raw(data, form, origin)
    if form.fourcc == "BGR3":
        image = data.reshape(height, width, 3)
        return place(image, out_hwc) if fits else np.array(image)
    shape = (height * 3 // 2, width) if form.fourcc == "NV12" else (height, width, 2)
    planes = data.reshape(shape)
    converted: U8 = cv2.cvtColor(planes, _TO_BGR[form.fourcc], dst=out_hwc if fits else None)
    return converted


def _raw(data: U8, form: Format, origin: str) -> U8:
    """The bytes of one picture of a raw format.

    Raises:
        DataError: There are fewer.
    """
    needed = form.height * form.width * {"BGR3": 6, "NV12": 3}.get(form.fourcc, 4) // 2
    if data.size < needed:
        raise DataError("a frame of the camera is too short", value=f"{origin}: {data.size} of {needed} bytes")
    return data[:needed]


def _cameras() -> str:
    found = sorted(str(path) for path in Path("/dev").glob("video[0-9]*"))
    return f"cameras here: {', '.join(found) or 'none'}"
