"""An overlay video, one file a camera, with exactly one frame for each result that has a picture."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2

from edgeseg.core.artefacts import atomic_file
from edgeseg.core.errors import DataError, RequestError
from edgeseg.core.types import U8, Classes, Result, SinkContext, Size
from edgeseg.sinks.overlay import OverlayPainter

_CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
_DEFAULT_RATE_HZ = 30.0
_LOOK_AT_DISK = 32  # frames between two looks at the free space: OpenCV's writer says nothing when it runs out
_LEAST_FREE = 64 << 10


class VideoSink:
    """Overlay videos. With several cameras, camera `i` goes to `NAME-i.mp4`.

    Args:
        path: The file; its suffix says which container.

    Raises:
        RequestError: A suffix that cannot be written.
    """

    name = "video"
    lossless = True

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in _CODECS:
            raise RequestError("cannot write such a video", value=path, allowed=f"files named {', '.join(_CODECS)}")
        if path.is_dir():
            raise RequestError("the video file is a folder", value=path, allowed="a file")
        self._path = path
        self._files: list[_File] = []

    def open(self, context: SinkContext) -> None:
        """Prepare one file a camera; nothing is written before the first picture."""
        many = len(context.cameras) > 1
        self._files = [
            _File(
                self._path.with_stem(f"{self._path.stem}-{number}") if many else self._path,
                info.rate_hz or _DEFAULT_RATE_HZ,
                context.classes,
            )
            for number, info in enumerate(context.cameras)
        ]

    def write(self, result: Result) -> None:
        """Draw and encode one result.

        Raises:
            DataError: The disk is full, or the file cannot be written.
        """
        self._files[result.camera].write(result)

    def close(self) -> None:
        """Finish the files; may be called twice.

        Raises:
            DataError: A file is not whole.
        """
        while self._files:
            self._files.pop().close()


class _File:
    """One camera's video: recorded beside its place, moved there when it is whole."""

    def __init__(self, path: Path, rate_hz: float, classes: Classes) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.stem}.tmp{path.suffix}")
        self._rate_hz = rate_hz
        self._painter = OverlayPainter(classes)
        self._writer: cv2.VideoWriter | None = None
        self._size: Size = (0, 0)
        self._frames = 0

    def write(self, result: Result) -> None:
        picture = self._painter.paint(result)
        if picture is None:
            return
        if self._writer is None:
            self._writer = self._open(picture)
        if picture.shape[:2] != self._size:  # a camera that came back with another size
            picture = cv2.resize(picture, self._size[::-1], interpolation=cv2.INTER_AREA)
        self._writer.write(picture)
        self._frames += 1
        if self._frames % _LOOK_AT_DISK == 0:
            self._check_disk()

    def close(self) -> None:
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        try:
            if self._frames_in_file() < self._frames:
                self._check_disk()
                raise DataError("the video is not whole", value=self._path, allowed=f"{self._frames} frames")
            with atomic_file(self._path) as place:
                self._partial.replace(place)
        finally:
            self._partial.unlink(missing_ok=True)

    def _open(self, picture: U8) -> cv2.VideoWriter:
        self._size = (picture.shape[0], picture.shape[1])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        codec = cv2.VideoWriter.fourcc(*_CODECS[self._path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._partial), codec, self._rate_hz, self._size[::-1])
        if not writer.isOpened():
            self._partial.unlink(missing_ok=True)
            self._check_disk()
            raise RequestError(
                "cannot write the video here", value=self._path, allowed="a folder that you may write to"
            )
        return writer

    def _check_disk(self) -> None:
        if shutil.disk_usage(self._path.parent).free < _LEAST_FREE:
            raise DataError("the disk is full", value=self._path, fix=f"df -h {self._path.parent}")

    def _frames_in_file(self) -> int:
        """What the container's index says; an index is written last, so a file that has it is whole."""
        reader = cv2.VideoCapture(str(self._partial))
        try:
            return int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        finally:
            reader.release()
