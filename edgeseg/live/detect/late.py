"""LATE: a mask that is too old when it is ready, or a delay before the host that grows."""

from __future__ import annotations

from collections import deque

from edgeseg.core.types import State
from edgeseg.live.detect.verdict import Verdict

_WINDOW_NS = 1_000_000_000


class LateDetector:
    """Watches the age of one camera's masks.

    Growth is judged on the smallest delay within a second against the smallest ever seen: both are free of jitter,
    and a queue that fills somewhere before the host moves only the former.

    Args:
        late_ns: Age beyond which a mask is LATE; 0 switches the detector off.
        growth_ns: How far the delay before the host may grow.
    """

    def __init__(self, *, late_ns: int, growth_ns: int) -> None:
        self._late_ns = late_ns
        self._growth_ns = growth_ns
        self._floor_ns: int | None = None
        self._recent: deque[tuple[int, int]] = deque()  # (when, delay), delays increasing: the front is the minimum

    def check(self, *, age_ns: int, delay_ns: int, now_ns: int) -> Verdict | None:
        """LATE where the age or the growth of the delay is too large.

        Args:
            age_ns: Capture to mask.
            delay_ns: Capture to host; always 0 for the clock `host`, which cannot see it.
            now_ns: Present time.
        """
        if not self._late_ns:
            return None
        while self._recent and self._recent[-1][1] >= delay_ns:
            self._recent.pop()
        self._recent.append((now_ns, delay_ns))
        while self._recent[0][0] < now_ns - _WINDOW_NS:
            self._recent.popleft()
        least = self._recent[0][1]
        self._floor_ns = least if self._floor_ns is None else min(self._floor_ns, least)
        if age_ns > self._late_ns:
            return Verdict(State.LATE, f"the mask is {age_ns / 1e6:.0f} ms old; limit {self._late_ns / 1e6:.0f} ms")
        growth = least - self._floor_ns
        if growth > self._growth_ns:
            return Verdict(State.LATE, f"the delay before the host has grown by {growth / 1e6:.0f} ms")
        return None
