"""STALE: a camera that is open, and silent."""

from __future__ import annotations

from edgeseg.core.types import State
from edgeseg.live.detect.verdict import Verdict


class StaleDetector:
    """Watches the time since the last frame of one camera.

    Args:
        stale_ns: How long it may be silent; 0 switches the detector off.
        now_ns: When the camera was opened.
    """

    def __init__(self, *, stale_ns: int, now_ns: int) -> None:
        self._stale_ns = stale_ns
        self._last_ns = now_ns

    def frame(self, t_host_ns: int) -> None:
        """A frame has come."""
        self._last_ns = max(self._last_ns, t_host_ns)

    def check(self, now_ns: int) -> Verdict | None:
        """STALE where the silence is too long."""
        silent_ns = now_ns - self._last_ns
        if self._stale_ns and silent_ns > self._stale_ns:
            return Verdict(State.STALE, f"no frame for more than {self._stale_ns / 1e6:.0f} ms")
        return None

    def due_ns(self) -> int | None:
        """When `check` could change its mind; None where it never does."""
        return self._last_ns + self._stale_ns if self._stale_ns else None
