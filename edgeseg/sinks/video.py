"""An overlay video, one file a camera, with exactly one frame for each result that has a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2

from edgeseg.core.artefacts import atomic_file, check_place, disk_is_full
from edgeseg.core.errors import DataError, RequestError
from edgeseg.core.log import get_logger
from edgeseg.core.types import U8, Classes, Result, SinkContext, Size
from edgeseg.sinks.encoder import SOFTWARE, Encoder, choose_encoder, count_frames, software
from edgeseg.sinks.overlay import OverlayPainter

_DEFAULT_RATE_HZ = 30.0
_LOOK_AT_DISK = 32  # frames between two looks at the free space: OpenCV's writer says nothing when it runs out
_LEAST_FREE = 64 << 10
_log = get_logger(__name__)


class VideoSink:
    """Overlay videos. With several cameras, camera `i` goes to `NAME-i.mp4`.

    Args:
        path: The file; its suffix says which container.

    Raises:
        RequestError: A suffix that cannot be written, or a place that cannot.
    """

    name = "video"
    lossless = True
    frames_only = True

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in SOFTWARE:
            raise RequestError("cannot write such a video", value=path, allowed=f"files named {', '.join(SOFTWARE)}")
        check_place(path)
        self._path = path
        self._files: list[_File] = []
        self._encoders: dict[Size, Encoder] = {}

    @property
    def note(self) -> str:
        """How it is encoded, for the summary."""
        return ", ".join(sorted({encoder.name for encoder in self._encoders.values()}))

    def open(self, context: SinkContext) -> None:
        """Prepare one file a camera, and find the encoder; nothing is written before the first picture."""
        self._files = [
            _File(
                file_of(self._path, number, len(context.cameras)),
                info.rate_hz or _DEFAULT_RATE_HZ,
                context.classes,
                self._encoder,
            )
            for number, info in enumerate(context.cameras)
        ]
        for info in context.cameras:
            if min(info.size):  # of a camera that is missing, nothing is known yet
                self._encoder(info.size)

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

    def _encoder(self, size: Size) -> Encoder:
        if size not in self._encoders:
            self._encoders[size] = choose_encoder(self._path.suffix.lower(), size)
        return self._encoders[size]


def file_of(path: Path, camera: int, cameras: int) -> Path:
    """The file of one camera of so many."""
    return path.with_stem(f"{path.stem}-{camera}") if cameras > 1 else path


class _File:
    """One camera's video: recorded beside its place, moved there when it is whole."""

    def __init__(self, path: Path, rate_hz: float, classes: Classes, encoder: Callable[[Size], Encoder]) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.stem}.tmp{path.suffix}")
        self._rate_hz = rate_hz
        self._encoder = encoder
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
            if count_frames(self._partial) < self._frames:
                self._check_disk()
                raise DataError("the video is not whole", value=self._path, allowed=f"{self._frames} frames")
            with atomic_file(self._path) as place:
                self._partial.replace(place)
        finally:
            self._partial.unlink(missing_ok=True)

    def _open(self, picture: U8) -> cv2.VideoWriter:
        self._size = (picture.shape[0], picture.shape[1])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        encoder = self._encoder(self._size)
        writer = encoder.open(self._partial, self._rate_hz, self._size)
        if encoder.hardware and not writer.isOpened():  # boards have few sessions: another program took the last one
            _log.warning("%s has no room for one more video: it is encoded in software", encoder.name)
            writer = software(self._path.suffix.lower()).open(self._partial, self._rate_hz, self._size)
        if not writer.isOpened():
            self._partial.unlink(missing_ok=True)
            self._check_disk()
            raise RequestError(
                "cannot write the video here", value=self._path, allowed="a folder that you may write to"
            )
        return writer

    def _check_disk(self) -> None:
        if disk_is_full(self._path.parent, least=_LEAST_FREE):
            raise DataError("the disk is full", value=self._path, fix=f"df -h {self._path.parent}")
