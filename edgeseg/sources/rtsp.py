"""`rtsp://…`: a network camera. Through GStreamer where there is one, else through OpenCV's own FFmpeg.

Credentials go into the connection and nowhere else: every name and message has them removed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import cv2

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.errors import DataError, RequestError, SourceLostError, UnavailableError
from edgeseg.core.gstreamer import opencv_has_gstreamer
from edgeseg.core.log import redact
from edgeseg.core.types import U8, InputFormat, Source, SourceInfo
from edgeseg.sources import pipelines
from edgeseg.sources.base import BaseSource, place
from edgeseg.sources.gst import GstSource
from edgeseg.sources.ptsclock import MinimumDelay
from edgeseg.sources.reach import reach

_OPEN_TIMEOUT_MS = 8000
_READ_TIMEOUT_MS = 1500
_FFMPEG_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer+discardcorrupt|flags;low_delay|max_delay;50000"
_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_environment = threading.Lock()


def rtsp_source(uri: str) -> Source:
    """The reader of this machine for an RTSP address.

    Raises:
        RequestError: An address without a host, or with a port that cannot be.
    """
    try:
        known = urlsplit(uri).hostname and urlsplit(uri).port != 0
    except ValueError:  # no number, or one beyond 65535; brackets that do not close
        known = False
    if not known:
        raise RequestError("not an address", value=redact(uri), allowed="rtsp://HOST[:PORT]/PATH, PORT 1 to 65535")
    if opencv_has_gstreamer():
        return GstRtspSource(uri, pipelines.Elements.probe())
    return FfmpegRtspSource(uri)


class GstRtspSource(GstSource):
    """RTSP through GStreamer.

    Args:
        uri: Address, with credentials where the camera wants them.
        elements: What this machine has.
    """

    def __init__(self, uri: str, elements: pipelines.Elements) -> None:
        super().__init__(uri, inter=True)
        self._address = uri
        self._elements = elements

    def open(self) -> SourceInfo:
        """Connect and wait for the first picture.

        Raises:
            UnavailableError: No answer, an element that is missing, or no picture in time.
        """
        try:
            return super().open()
        except UnavailableError as error:
            found = reach(self._address)
            if not found.why:  # GStreamer knows better
                raise
            raise found.error(within_s=_OPEN_TIMEOUT_MS / 1e3) from error

    def _text(self, form: InputFormat) -> str:
        return pipelines.rtsp(self._address, self._elements, form)

    def _surely_converts(self, form: InputFormat) -> bool:
        return form == "bgr" or not self._elements.nvidia  # decoders in software give I420


class FfmpegRtspSource(BaseSource):
    """RTSP through FFmpeg: TCP, no demuxer buffer, damaged frames discarded, time-outs on every wait.

    Args:
        uri: Address, with credentials where the camera wants them.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._address = uri
        self._capture: cv2.VideoCapture | None = None
        self._first: U8 | None = None
        self._pts = MinimumDelay()

    def open(self) -> SourceInfo:
        """Connect and wait for the first picture, which is a key frame.

        Raises:
            UnavailableError: No answer, no video, or no picture in time.
        """
        self.close()
        self._id = -1
        self._pts = MinimumDelay()
        timeouts = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS),
        ]
        with _ffmpeg_options():
            capture = cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, timeouts)
        ok, picture = capture.read() if capture.isOpened() else (False, None)
        if not ok or picture is None:
            capture.release()
            raise reach(self._address).error(within_s=_OPEN_TIMEOUT_MS / 1e3)
        self._capture, self._first = capture, picture
        rate = capture.get(cv2.CAP_PROP_FPS)
        return SourceInfo(
            uri=self.uri,
            size=(picture.shape[0], picture.shape[1]),
            rate_hz=rate if 0 < rate < 1000 else None,
            live=True,
            coding="inter",
            clock=CaptureClock.PTS,
        )

    def close(self) -> None:
        """Hang up; may be called twice."""
        if self._capture is not None:
            self._capture.release()
        self._capture = self._first = None

    def _advance(self) -> bool:
        assert self._capture is not None, "grab() before open()"
        if self._id < 0:
            return True
        self._first = None
        if not self._capture.grab():
            raise SourceLostError("the stream has ended or stalled", value=self.uri)
        return True

    def _stamp(self) -> tuple[int, CaptureClock]:
        assert self._capture is not None
        host_ns = now_ns()
        pts_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        return self._pts.capture_ns(pts_ns, host_ns), CaptureClock.PTS

    def _decode(self, out_hwc: U8 | None) -> U8:
        assert self._capture is not None, "retrieve() before open()"
        if self._first is not None:
            return place(self._first, out_hwc)
        ok, image = self._capture.retrieve(out_hwc) if out_hwc is not None else self._capture.retrieve()
        if not ok:
            raise DataError("a picture of the stream does not decode", value=f"{self.uri}, frame {self._id}")
        picture: U8 = image
        return picture


@contextmanager
def _ffmpeg_options() -> Iterator[None]:
    """OpenCV reads FFmpeg's options from the environment while it opens; what a person has set there stays."""
    with _environment:
        if _VARIABLE in os.environ:
            yield
            return
        os.environ[_VARIABLE] = _FFMPEG_OPTIONS
        try:
            yield
        finally:
            del os.environ[_VARIABLE]
