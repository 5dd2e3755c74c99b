"""The one-frame slots between capture threads and the engine: LATEST for cameras, WAIT for files.

No queue, so no delay can build up: a camera's slot always holds its newest frame, and the frame it replaces is a
counted drop; a file's slot makes the reader wait, so nothing is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.core.types import Frame
from edgeseg.live.buffers import Lease
from edgeseg.live.detect.verdict import Verdict
from edgeseg.live.drops import Drop, DropCounter


@dataclass(frozen=True, slots=True)
class Captured:
    """A decoded frame on its way to the engine.

    Attributes:
        frame: The frame; its picture lies in memory that `lease` keeps.
        lease: Keeps the picture's memory.
        t_host_ns: Return of `grab()`.
        t_decoded_ns: Return of `retrieve()`.
        verdict: What the picture detectors say; None where it is a sound picture.
    """

    frame: Frame
    lease: Lease
    t_host_ns: int
    t_decoded_ns: int
    verdict: Verdict | None


class Slot:
    """Room for one frame of one camera. Made by `Slots`, whose condition it shares.

    Args:
        condition: Notified on every change.
        drops: Counts replaced frames.
    """

    def __init__(self, condition: threading.Condition, drops: DropCounter) -> None:
        self._condition = condition
        self._drops = drops
        self._held: Captured | None = None
        self._closed = False

    @property
    def holds(self) -> bool:
        """Whether a frame is waiting."""
        return self._held is not None

    def put_latest(self, captured: Captured) -> bool:
        """Put a frame in, replacing an older one. False where the slot is closed: the frame is still the caller's."""
        with self._condition:
            if self._closed:
                return False
            old, self._held = self._held, captured
            self._condition.notify_all()
        if old is not None:
            self._drops.add(Drop.REPLACED)
            old.lease.release()
        return True

    def put_wait(self, captured: Captured, *, timeout_s: float) -> bool:
        """Put a frame in when there is room; False where there was none in time, or the slot is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._held is None or self._closed, timeout_s)
            if self._closed or self._held is not None:
                return False
            self._held = captured
            self._condition.notify_all()
            return True

    def take(self) -> Captured | None:
        """The waiting frame, if there is one."""
        with self._condition:
            held, self._held = self._held, None
            if held is not None:
                self._condition.notify_all()
            return held

    def close(self) -> None:
        """Refuse further frames, let go of the waiting one and wake whoever waits."""
        with self._condition:
            self._closed = True
            held, self._held = self._held, None
            self._condition.notify_all()
        if held is not None:
            self._drops.add(Drop.STOPPING)
            held.lease.release()


class Slots:
    """The slots of all cameras and the one condition that the engine waits on."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._slots: list[Slot] = []
        self._next = 0

    def add(self, drops: DropCounter) -> Slot:
        """A slot for one more camera."""
        slot = Slot(self._condition, drops)
        self._slots.append(slot)
        return slot

    def notify(self) -> None:
        """Wake the engine: something other than a frame has changed."""
        with self._condition:
            self._condition.notify_all()

    def wait(self, timeout_s: float, *, cameras: int = 1) -> bool:
        """Wait until `cameras` slots hold a frame, or `notify`, or the time-out; whether any holds one."""
        with self._condition:
            if sum(slot.holds for slot in self._slots) < cameras:
                self._condition.wait(timeout_s)
            return any(slot.holds for slot in self._slots)

    def waits(self, camera: int) -> bool:
        """Whether a frame of that camera is waiting."""
        return self._slots[camera].holds

    def take(self, count: int) -> Sequence[tuple[int, Captured]]:
        """Up to `count` waiting frames with their camera's number, one a camera.

        Fair: the search starts after the camera that was served last, so with an engine that is too slow for all of
        them each camera gets the same share.
        """
        taken: list[tuple[int, Captured]] = []
        total = len(self._slots)
        first = self._next
        for step in range(total):
            if len(taken) == count:
                break
            camera = (first + step) % total
            captured = self._slots[camera].take()
            if captured is not None:
                taken.append((camera, captured))
                self._next = (camera + 1) % total
        return taken

    def close(self) -> None:
        """Close every slot."""
        for slot in self._slots:
            slot.close()
