"""From a stream's own time stamps to this machine's monotonic clock: the minimum-delay filter.

A frame cannot arrive before it was taken, and the one that came with the least delay tells most about the offset
between the two clocks. The offset may only rise as fast as two crystals drift apart; a delay that grows faster
stays visible, as it must.
"""

from __future__ import annotations

_DRIFT = 100e-6  # of one clock against the other; crystals are within 50 ppm each
_JUMP_NS = 1_000_000_000


class MinimumDelay:
    """Maps presentation times to capture times. The least delay of the way itself cannot be seen, and is left out."""

    def __init__(self) -> None:
        self._offset_ns: float | None = None
        self._last_host_ns = 0
        self._last_pts_ns = 0

    def capture_ns(self, pts_ns: int, host_ns: int) -> int:
        """The capture time of a frame.

        Args:
            pts_ns: Its presentation time; any origin. A jump of more than a second against the host starts afresh.
            host_ns: When the host had it.

        Returns:
            Monotonic time, never after `host_ns`.
        """
        offset = host_ns - pts_ns
        elapsed = host_ns - self._last_host_ns
        if self._offset_ns is None or abs((pts_ns - self._last_pts_ns) - elapsed) > _JUMP_NS:
            self._offset_ns = offset
        else:
            self._offset_ns = min(self._offset_ns + elapsed * _DRIFT, offset)
        self._last_host_ns, self._last_pts_ns = host_ns, pts_ns
        return min(host_ns, pts_ns + round(self._offset_ns))
