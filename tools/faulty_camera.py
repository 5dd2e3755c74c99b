"""A scripted camera at 30 Hz, and the faults that it can have: for `fault_table.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgeseg.core.clock import now_ns, sleep_until
from edgeseg.core.errors import DataError, SourceLostError, UnavailableError
from edgeseg.core.types import U8, Frame, SourceInfo, State
from edgeseg.sources.memory import MemorySource

SIZE = (240, 320)
RATE_HZ = 30.0
CLASSES = 7


@dataclass
class Fault:
    """One fault of a scripted camera.

    Attributes:
        seconds: How long it lasts.
        expected: States of which at least one must be shown; empty for a sound scene, which must not read
            BLACK, FROZEN or LOST.
        picture: Changes a frame while it lasts; may raise.
        grab: Called instead of the next frame's `grab` while it lasts; may block or raise.
        coding: Of the camera.
    """

    seconds: float
    expected: tuple[State, ...] = ()
    picture: Callable[[Frame], Frame] | None = None
    grab: Callable[[], None] | None = None
    coding: str = "raw"


class FaultyCamera:
    """A camera at 30 Hz whose fault begins when a test says so."""

    uri = "scripted:"

    def __init__(self, fault: Fault) -> None:
        rng = np.random.default_rng(0)
        self.fault = fault
        self.began_ns = 0  # when the fault began; 0 before
        self._images = [rng.integers(40, 220, (*SIZE, 3), np.uint8) for _ in range(64)]
        self._source = MemorySource(self._images, rate_hz=RATE_HZ, count=100_000)

    @property
    def faulty(self) -> bool:
        """Whether the fault is on."""
        return self.began_ns > 0 and now_ns() < self.ends_ns

    @property
    def ends_ns(self) -> int:
        """When it ends."""
        return self.began_ns + round(self.fault.seconds * 1e9)

    def open(self) -> SourceInfo:
        """Start; fails while the camera is away."""
        if self.faulty and self.fault.grab is not None:
            raise UnavailableError("the camera does not open", value=self.uri)
        return replace(self._source.open(), coding=self.fault.coding)  # type: ignore[arg-type]

    def grab(self) -> bool:
        """The next frame, or the fault."""
        if self.faulty and self.fault.grab is not None:
            self.fault.grab()
        return self._source.grab()

    def retrieve(self, out_hwc: U8 | None = None) -> Frame:
        """The frame, which carries its number, with what the fault does to it."""
        frame = self._source.retrieve(out_hwc)
        if out_hwc is None or not np.shares_memory(frame.image_hwc, out_hwc):
            frame = replace(frame, image_hwc=frame.image_hwc.copy())
        frame.image_hwc[..., 0] = frame.id % CLASSES + CLASSES * (frame.image_hwc[..., 0] // 8)
        frame.image_hwc[0, 0] = np.frombuffer(frame.id.to_bytes(3, "little"), np.uint8)
        if self.faulty and self.fault.picture is not None:
            return self.fault.picture(frame)
        return frame

    def close(self) -> None:
        """Stop."""
        self._source.close()


def _same(of: int) -> Callable[[Frame], Frame]:
    """The picture of the last `of` frames, over and over."""
    kept: list[U8] = []

    def change(frame: Frame) -> Frame:
        if len(kept) < of:
            kept.append(frame.image_hwc.copy())
        np.copyto(frame.image_hwc, kept[frame.id % len(kept)])
        return frame

    return change


def _stamps(frame_ns: list[int]) -> Callable[[Frame], Frame]:
    def change(frame: Frame) -> Frame:
        frame_ns[0] = frame_ns[0] or frame.t_capture_ns
        return replace(frame, t_capture_ns=frame_ns[0])

    return change


def _black(frame: Frame) -> Frame:
    frame.image_hwc[...] = np.random.default_rng(frame.id).integers(0, 9, frame.image_hwc.shape, np.uint8)
    return frame


def _corrupt(frame: Frame) -> Frame:
    del frame
    raise DataError("a frame does not decode")


def _sized(height: int, width: int) -> Callable[[Frame], Frame]:
    def change(frame: Frame) -> Frame:
        image = np.ascontiguousarray(frame.image_hwc[:height, :width])
        image[..., 0] = frame.image_hwc[0, 0, 0]
        return replace(frame, image_hwc=image)

    return change


def _shifted(by_s: float) -> Callable[[Frame], Frame]:
    return lambda frame: replace(frame, t_capture_ns=frame.t_capture_ns + round(by_s * 1e9))


def _gone() -> None:
    raise SourceLostError("the camera was unplugged")


SCRIPTED: dict[str, Callable[[], Fault]] = {
    "frozen: three frames in a loop": lambda: Fault(2, (State.FROZEN,), _same(3)),
    "frozen: one picture": lambda: Fault(2, (State.FROZEN,), _same(1)),
    "time stamps repeat": lambda: Fault(2, (State.FROZEN, State.LATE), _stamps([0])),
    "still scene, inter-coded": lambda: Fault(3, (), _same(1), coding="inter"),
    "black": lambda: Fault(1, (State.BLACK,), _black),
    "half the size": lambda: Fault(1, (State.DEGRADED,), _sized(120, 160)),
    "another aspect ratio": lambda: Fault(1, (State.LOST,), _sized(120, 320)),
    "frames do not decode": lambda: Fault(1, (State.STALE,), _corrupt),
    "stall of 10 s": lambda: Fault(10, (State.STALE,), grab=lambda: sleep_until(now_ns() + 10_000_000_000)),
    "unplugged for 3 s": lambda: Fault(3, (State.LOST,), grab=_gone),
    "clock an hour ahead": lambda: Fault(2, (), _shifted(3600)),
    "clock an hour behind": lambda: Fault(2, (State.LATE, State.FROZEN), _shifted(-3600)),
}
