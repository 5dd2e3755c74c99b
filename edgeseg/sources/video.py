"""A video file through OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2

from edgeseg.core.clock import CaptureClock
from edgeseg.core.errors import DataError
from edgeseg.core.log import get_logger
from edgeseg.core.types import U8, SourceInfo
from edgeseg.sources.base import BaseSource, place

_INTRA = frozenset({"MJPG", "jpeg", "FFV1", "png ", "MPNG", "HFYU", "apcn", "apch", "dvsd"})
_RAW = frozenset({"raw ", "DIB ", "I420", "YUY2", "NV12", "\0\0\0\0"})
_log = get_logger(__name__)


class VideoSource(BaseSource):
    """Every frame of a video file, in order, at the speed at which it is asked for.

    Args:
        uri: Path of the file.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._path = Path(uri).expanduser()
        self._capture: cv2.VideoCapture | None = None
        self._first: U8 | None = None
        self._frames: int | None = None

    def open(self) -> SourceInfo:
        """Open the file and decode its first frame, which proves that it is a video and gives the true size.

        Raises:
            DataError: Not a video, or one without a single whole frame.
        """
        self.close()
        capture = cv2.VideoCapture(str(self._path))
        if capture.isOpened():
            ok, self._first = capture.read()
        if not capture.isOpened() or not ok or self._first is None:
            capture.release()
            raise DataError(
                "the video does not open", value=self.uri, allowed="a video that OpenCV's FFmpeg decodes (mp4, avi, …)"
            )
        self._capture = capture
        rate = capture.get(cv2.CAP_PROP_FPS)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._frames = count if count > 0 else None
        return SourceInfo(
            uri=self.uri,
            size=(self._first.shape[0], self._first.shape[1]),
            rate_hz=rate if 0 < rate < 1000 else None,
            live=False,
            coding=_coding(int(capture.get(cv2.CAP_PROP_FOURCC))),
            clock=CaptureClock.HOST,
            frames=self._frames,
        )

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._capture is not None:
            self._capture.release()
        self._capture = self._first = None
        self._id = -1

    def _advance(self) -> bool:
        assert self._capture is not None, "grab() before open()"
        if self._id < 0:
            return True  # the first frame was decoded by open()
        self._first = None
        if self._capture.grab():
            return True
        if self._frames is not None and self._id + 1 < self._frames:
            _log.warning("%s ended after %d of its %d frames", self.uri, self._id + 1, self._frames)
        return False

    def _decode(self, out_hwc: U8 | None) -> U8:
        assert self._capture is not None, "retrieve() before open()"
        if self._first is not None:
            return place(self._first, out_hwc)
        ok, image = self._capture.retrieve(out_hwc) if out_hwc is not None else self._capture.retrieve()
        if not ok:
            raise DataError("a frame of the video does not decode", value=f"{self.uri}, frame {self._id}")
        picture: U8 = image
        return picture


def _coding(fourcc: int) -> Literal["raw", "intra", "inter"]:
    name = fourcc.to_bytes(4, "little", signed=fourcc < 0).decode("latin-1")
    if name in _RAW:
        return "raw"
    return "intra" if name in _INTRA else "inter"
