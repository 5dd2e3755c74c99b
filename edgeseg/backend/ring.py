"""The ring of output buffers that a runner leases out."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from types import TracebackType

from edgeseg.core.types import U8, RunTimes


@dataclass(frozen=True, slots=True)
class Slot:
    """One set of output buffers, allocated when the runner is entered and used again and again.

    Attributes:
        index: Position in the ring, for what a backend keeps beside it (bindings, events).
        mask_nhw: uint8 [N, H, W].
        confidence_nhw: uint8 [N, H, W], or None where the engine gives none.
    """

    index: int
    mask_nhw: U8
    confidence_nhw: U8 | None


class Ring:
    """Slots that are free. Taken by the runner's thread, given back by any thread."""

    def __init__(self, slots: list[Slot]) -> None:
        self._size = len(slots)
        self._free = deque(slots)  # append and popleft are atomic

    @property
    def free(self) -> int:
        """Number of slots that are not taken."""
        return len(self._free)

    def take(self) -> Slot:
        """The slot that has been free the longest.

        Raises:
            BufferError: None is free.
        """
        try:
            return self._free.popleft()
        except IndexError:
            raise BufferError(f"all {self._size} output buffers are leased out; release() one") from None

    def give(self, slot: Slot) -> None:
        """Put a slot back."""
        self._free.append(slot)


class LeasedOutput:
    """An `Output` over one slot; the slot goes back at `release()`, once."""

    __slots__ = ("_lock", "_ring", "_slot", "confidence_nhw", "mask_nhw", "times")

    def __init__(self, ring: Ring, slot: Slot, times: RunTimes) -> None:
        self.mask_nhw = slot.mask_nhw
        self.confidence_nhw = slot.confidence_nhw
        self.times = times
        self._ring = ring
        self._slot: Slot | None = slot
        self._lock = threading.Lock()

    def release(self) -> None:
        """Give the buffers back; calling it twice, or from two threads, is harmless."""
        with self._lock:
            slot, self._slot = self._slot, None
        if slot is not None:
            self._ring.give(slot)

    def __enter__(self) -> LeasedOutput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
