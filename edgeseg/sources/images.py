"""Pictures on disk: one image, a folder of them, or a glob."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from edgeseg.core.clock import CaptureClock
from edgeseg.core.errors import DataError
from edgeseg.core.types import U8, SourceInfo
from edgeseg.data.pictures import read_image
from edgeseg.sources.base import BaseSource, place
from edgeseg.sources.uri import PICTURE_SUFFIXES


class ImagesSource(BaseSource):
    """Picture files in natural order of their names (`frame2` before `frame10`).

    Args:
        uri: An image, a folder, or a glob.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._paths = find_pictures(uri)
        self._first: U8 | None = None

    def open(self) -> SourceInfo:
        """Read the first picture, which gives the size.

        Raises:
            DataError: No picture there, or the first one does not decode.
        """
        if not self._paths:
            raise DataError("no picture there", value=self.uri, allowed=f"files named {', '.join(PICTURE_SUFFIXES)}")
        self._id = -1
        self._first = read_image(self._paths[0])
        return SourceInfo(
            uri=self.uri,
            size=(self._first.shape[0], self._first.shape[1]),
            rate_hz=None,
            live=False,
            coding="intra",
            clock=CaptureClock.HOST,
            frames=len(self._paths),
        )

    def close(self) -> None:
        """Forget the open picture; may be called twice."""
        self._first = None

    def _advance(self) -> bool:
        return self._id + 1 < len(self._paths)

    def _decode(self, out_hwc: U8 | None) -> U8:
        if self._id == 0 and self._first is not None:
            return place(self._first, out_hwc)
        return place(read_image(self._paths[self._id]), out_hwc)

    def _name(self) -> str:
        return self._paths[self._id].stem


def find_pictures(uri: str) -> list[Path]:
    """The picture files that an image, folder or glob names, in natural order."""
    path = Path(uri).expanduser()
    if path.is_file():
        return [path]
    found = path.iterdir() if path.is_dir() else (Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207 - an absolute pattern
    return sorted((item for item in found if item.suffix.lower() in PICTURE_SUFFIXES), key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]
