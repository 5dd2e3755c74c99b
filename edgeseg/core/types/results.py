"""What the live loop publishes, and who takes it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgeseg.core.clock import CaptureClock
from edgeseg.core.types.common import U8, Classes, Size
from edgeseg.core.types.frames import SourceInfo


class State(enum.Enum):
    """Validity of a result; the first three come with a mask, the others never do."""

    OK = "ok"
    LATE = "late"
    DEGRADED = "degraded"
    BLACK = "black"
    FROZEN = "frozen"
    STALE = "stale"
    LOST = "lost"

    @property
    def has_mask(self) -> bool:
        """Whether a result in this state carries a mask."""
        return self in (State.OK, State.LATE, State.DEGRADED)


class Stage(enum.Enum):
    """The stages between capture and mask, in order; every one is timed on its own."""

    QUEUE = "queue"
    CAPTURE = "capture"
    RESIZE_IN = "resize_in"
    COPY_IN = "copy_in"
    ENGINE = "engine"
    COPY_OUT = "copy_out"
    RESIZE_OUT = "resize_out"
    SINK = "sink"


class Picture(Protocol):
    """A picture that becomes BGR when somebody asks for it."""

    @property
    def size(self) -> Size:
        """(H, W)."""

    def bgr(self) -> U8:
        """uint8 [H, W, 3], converted by the first who asks; valid as long as the result is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the live loop publishes: one per accepted frame, and one per change of state without a frame.

    Attributes:
        camera: Index of the source.
        frame_id: `Frame.id`; -1 where there is no frame.
        t_capture_ns: Monotonic capture time; of the last frame where there is none.
        clock: Clock of the capture time.
        t_result_ns: Monotonic time at which the mask was ready.
        state: Validity.
        reason: Why, where the state is not OK.
        stages_ns: Nanoseconds by stage.
        mask_hw: uint8 [H, W] at camera size, or None. Leased: valid until every sink returned from `write`.
        confidence_hw: uint8 [H, W] or None; leased like the mask.
        image: The frame itself: BGR, or what becomes BGR; leased like the mask. None where there is no frame.
        name: `Frame.name`.
    """

    camera: int
    frame_id: int
    t_capture_ns: int
    clock: CaptureClock
    t_result_ns: int
    state: State
    reason: str = ""
    stages_ns: Mapping[Stage, int] = field(default_factory=dict)
    mask_hw: U8 | None = None
    confidence_hw: U8 | None = None
    image: U8 | Picture | None = None
    name: str = ""

    @property
    def image_hwc(self) -> U8 | None:
        """The frame, uint8 [H, W, 3] BGR; converts it where the camera's own bytes went to the engine."""
        if self.image is None or isinstance(self.image, np.ndarray):
            return self.image
        return self.image.bgr()

    @property
    def size(self) -> Size | None:
        """(H, W) of the frame; None where there is none."""
        if self.image is None or isinstance(self.image, np.ndarray):
            return None if self.image is None else (self.image.shape[0], self.image.shape[1])
        return self.image.size

    @property
    def age_ns(self) -> int:
        """Capture to mask."""
        return self.t_result_ns - self.t_capture_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkContext:
    """What a sink is told before the first result.

    Attributes:
        cameras: One per source, in order of `Result.camera`.
        classes: Vocabulary of the masks.
        engine: Bundle id or file of the engine, for recordings.
    """

    cameras: Sequence[SourceInfo]
    classes: Classes
    engine: str


class Sink(Protocol):
    """Results out. Each sink runs in a thread of its own behind a bounded queue, so none can stall the loop.

    Three attributes are optional: `queue`, results that may wait for it; `main_thread`, true for a window; and
    `frames_only`, true where it writes a picture a frame and so is not handed results that have none.
    """

    @property
    def name(self) -> str:
        """Short name in logs and drop counts."""

    @property
    def lossless(self) -> bool:
        """True where every frame of a file must be kept (the queue then waits for files, and drops for cameras)."""

    def open(self, context: SinkContext) -> None:
        """Check and open: called before an engine is built or loaded."""

    def write(self, result: Result) -> None:
        """Take one result; its arrays are not used after the return."""

    def close(self) -> None:
        """Finish the file or stream; may be called twice."""
