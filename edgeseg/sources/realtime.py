"""`--realtime`: a file played at its own rate, so that it behaves as the camera that recorded it did."""

from __future__ import annotations

from dataclasses import replace

from edgeseg.core.clock import CaptureClock, now_ns, sleep_until
from edgeseg.core.types import U8, Frame, Source, SourceInfo

_DEFAULT_RATE_HZ = 30.0


class RealtimeSource:
    """Plays another source by due times: frame `i` exists from `start + i / rate` on, and not before.

    The capture time is that due time (clock `pts`), so a decoder that cannot keep up shows as a growing `queue`.
    Frames that are already more than one period late are skipped without decoding, as a camera would have dropped
    them; their ids are counted, so each is a gap that the loop counts as a drop.

    Args:
        source: A source that plays like a file.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._period_ns = 0
        self._start_ns: int | None = None
        self._number = -1

    def open(self) -> SourceInfo:
        """Open the file; the clock starts with the first `grab`."""
        info = self._source.open()
        rate_hz = info.rate_hz or _DEFAULT_RATE_HZ
        self._period_ns = round(1e9 / rate_hz)
        self._start_ns = None
        self._number = -1
        return replace(info, rate_hz=rate_hz, live=True, clock=CaptureClock.PTS)

    def grab(self) -> bool:
        """Wait for the next frame that is due."""
        while True:
            if not self._source.grab():
                return False
            self._number += 1
            if self._start_ns is None:
                self._start_ns = now_ns()
            due_ns = self._start_ns + self._number * self._period_ns
            if now_ns() - due_ns <= self._period_ns:
                sleep_until(due_ns)
                self._due_ns = due_ns
                return True

    def retrieve(self, out_hwc: U8 | None = None) -> Frame:
        """Decode the grabbed frame; its capture time is its due time."""
        return replace(self._source.retrieve(out_hwc), t_capture_ns=self._due_ns, clock=CaptureClock.PTS)

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._source.close()
