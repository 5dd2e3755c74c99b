"""Frames that are already in memory, at once or paced like a camera: what benchmarks and tests play."""

from __future__ import annotations

from collections.abc import Sequence

from edgeseg.core.clock import CaptureClock, now_ns, sleep_until
from edgeseg.core.errors import RequestError
from edgeseg.core.types import U8, SourceInfo
from edgeseg.sources.base import BaseSource, place


class MemorySource(BaseSource):
    """Plays a list of pictures, over and over.

    Args:
        frames_hwc: uint8 [H, W, 3] BGR pictures of one size.
        rate_hz: Paced like a camera (LATEST), one frame each period; None plays like a file (WAIT).
        count: Frames to play in all; None plays the list once.
        name: For `SourceInfo.uri`.
    """

    def __init__(
        self, frames_hwc: Sequence[U8], *, rate_hz: float | None = None, count: int | None = None, name: str = "memory:"
    ) -> None:
        super().__init__(name)
        if not frames_hwc or len({frame.shape for frame in frames_hwc}) != 1:
            raise RequestError("frames to play", value=len(frames_hwc), allowed="one or more of one size")
        if rate_hz is not None and not 0.2 <= rate_hz <= 10_000:
            raise RequestError("the rate of a paced source", value=rate_hz, allowed="0.2 to 10000 Hz")
        self._frames = frames_hwc
        self._rate_hz = rate_hz
        self._count = len(frames_hwc) if count is None else count
        self._start_ns = 0

    def open(self) -> SourceInfo:
        """Start the clock."""
        self._id = -1
        self._start_ns = now_ns()
        return SourceInfo(
            uri=self.uri,
            size=(self._frames[0].shape[0], self._frames[0].shape[1]),
            rate_hz=self._rate_hz,
            live=self._rate_hz is not None,
            coding="raw",
            clock=CaptureClock.HOST,
            frames=self._count,
        )

    def close(self) -> None:
        """Nothing to release."""

    def _advance(self) -> bool:
        number = self._id + 1
        if number >= self._count:
            return False
        if self._rate_hz is not None:
            # due times, so that the rate does not drift by the time each frame takes
            sleep_until(self._start_ns + round((number + 1) * 1e9 / self._rate_hz))
        return True

    def _decode(self, out_hwc: U8 | None) -> U8:
        return place(self._frames[self._id % len(self._frames)], out_hwc)
