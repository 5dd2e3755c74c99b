"""Memory that is allocated once and lent: picture and mask buffers, and the leases that keep them untouched."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgeseg.backend.base import aligned_empty
from edgeseg.core.types import U8


class Lease:
    """A claim on something, held by one or more; the last `release` runs `on_free`, once.

    Args:
        on_free: Gives the thing back; called from whichever thread releases last.
    """

    __slots__ = ("_holders", "_lock", "_on_free")

    def __init__(self, on_free: Callable[[], None]) -> None:
        self._on_free = on_free
        self._holders = 1
        self._lock = threading.Lock()

    def retain(self) -> Lease:
        """One more holder."""
        with self._lock:
            assert self._holders > 0, "retain() after the last release()"
            self._holders += 1
        return self

    def release(self) -> None:
        """One holder less."""
        with self._lock:
            assert self._holders > 0, "release() without a claim"
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._on_free()


class BufferPool:
    """A fixed number of equal uint8 arrays; every page is touched at once, so that memory is constant from then on.

    Args:
        shape: Shape of each.
        count: How many.
    """

    def __init__(self, shape: tuple[int, ...], count: int) -> None:
        self.shape = shape
        self._changed = threading.Condition()
        self._free = [aligned_empty(shape) for _ in range(count)]  # engines may read pictures where they lie
        for array in self._free:
            array.fill(255)

    @property
    def free(self) -> int:
        """Buffers that are not lent."""
        return len(self._free)

    def take(self, *, timeout_s: float = 0.0) -> tuple[U8, Lease] | None:
        """A free buffer and its lease; None where none became free in time."""
        with self._changed:
            if not self._free and timeout_s > 0:
                self._changed.wait_for(lambda: bool(self._free), timeout_s)
            if not self._free:
                return None
            array = self._free.pop()
        return array, Lease(lambda: self._give(array))

    def _give(self, array: U8) -> None:
        with self._changed:
            self._free.append(array)
            self._changed.notify()
