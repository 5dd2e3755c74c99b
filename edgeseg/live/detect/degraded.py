"""DEGRADED: masks are sound, but the camera does not keep its promise."""

from __future__ import annotations

from collections import deque

from edgeseg.core.types import State
from edgeseg.live.detect.verdict import Verdict

_WINDOW_NS = 2_000_000_000


class RateDetector:
    """Compares the rate at which frames arrive with the camera's nominal one, over two seconds.

    Args:
        nominal_hz: What the camera said it would give; None switches the detector off.
        min_share: Share of it below which masks are DEGRADED; 0 switches the detector off.
    """

    def __init__(self, *, nominal_hz: float | None, min_share: float) -> None:
        self._nominal_hz = nominal_hz or 0.0
        self._limit_hz = self._nominal_hz * min_share
        self._first_ns: int | None = None
        self._times_ns: deque[int] = deque(maxlen=max(2, round(2 * self._nominal_hz) + 1))

    def frame(self, t_host_ns: int) -> None:
        """A frame has come, whether or not the engine takes it."""
        if self._first_ns is None:
            self._first_ns = t_host_ns
        self._times_ns.append(t_host_ns)

    def check(self, now_ns: int) -> Verdict | None:
        """DEGRADED where too few frames came in the last two seconds."""
        if not self._limit_hz or self._first_ns is None or now_ns - self._first_ns < _WINDOW_NS:
            return None
        count = sum(t_ns > now_ns - _WINDOW_NS for t_ns in tuple(self._times_ns))
        rate_hz = count * 1e9 / _WINDOW_NS
        if rate_hz < self._limit_hz:
            return Verdict(State.DEGRADED, f"{rate_hz:.0f} of {self._nominal_hz:.0f} frames a second")
        return None
