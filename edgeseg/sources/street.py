"""`street:seed=N,frames=M` — the project's own rendered drive as a source, so that no camera and no file is needed."""

from __future__ import annotations

import msgspec

from edgeseg.core.clock import CaptureClock
from edgeseg.core.types import U8, SourceInfo
from edgeseg.data.street import StreetScene
from edgeseg.sources.base import BaseSource, place
from edgeseg.sources.uri import parse_options, parse_size


class StreetOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options after `street:`.

    Attributes:
        seed: Which drive.
        frames: How many frames of it.
        size: HEIGHTxWIDTH.
        rate: Nominal rate, for `--realtime` and overlay videos.
    """

    seed: int = 1
    frames: int = 300
    size: str = "360x480"
    rate: float = 30.0

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames={self.frames}; allowed: 1 or more")
        if not 1 <= self.rate <= 1000:
            raise ValueError(f"rate={self.rate}; allowed: 1 to 1000")


class StreetSource(BaseSource):
    """Frames of one drive, rendered when asked for."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._options = parse_options(uri, StreetOptions)
        self._size = parse_size(self._options.size, uri)

    def open(self) -> SourceInfo:
        """Set the scene."""
        self._id = -1
        self._scene = StreetScene(self._options.seed, size=self._size)
        return SourceInfo(
            uri=self.uri,
            size=self._size,
            rate_hz=self._options.rate,
            live=False,
            coding="raw",
            clock=CaptureClock.HOST,
            frames=self._options.frames,
        )

    def close(self) -> None:
        """Nothing to release."""

    def _advance(self) -> bool:
        return self._id + 1 < self._options.frames

    def _decode(self, out_hwc: U8 | None) -> U8:
        return place(self._scene.render(self._id).image_hwc, out_hwc)
