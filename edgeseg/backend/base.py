"""What every runner shares: thread ownership, checks of the frame, input buffers, the ring, tickets and times.

A backend subclasses `BaseRunner` and writes `_open`, `_bind`, `_start`, `_finish` and `_close`, or `BlockingRunner` and
`_run`; it never checks a shape, copies a host frame or counts a lease itself.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from edgeseg.backend.ring import LeasedOutput, Ring, Slot
from edgeseg.core.clock import now_ns
from edgeseg.core.errors import RequestError
from edgeseg.core.types import U8, RunnerSpec, RunTimes, Ticket, format_size

OUTPUTS = 8
"""Output buffers of a runner beyond its depth: what sinks may hold at once before frames are dropped."""

LENT = -1
"""In the place of an input buffer's number: frames that were lent."""

_ALIGN = 64  # bytes: a cache line, and what OpenVINO and ONNX Runtime want of memory they use in place


def input_shape(spec: RunnerSpec) -> tuple[int, ...]:
    """Shape of one submission, uint8: bgr [N, H, W, 3], yuyv [N, H, W, 2], nv12 [N, 3H/2, W] (y, then uv)."""
    height, width = spec.frame_size
    if spec.input_format == "nv12":
        return (spec.batch, height * 3 // 2, width)
    return (spec.batch, height, width, 3 if spec.input_format == "bgr" else 2)


def input_planes(spec: RunnerSpec, frames: U8) -> dict[str, U8]:
    """The graph's inputs as views of one submission: `frame`, or for nv12 `y` [N, H, W, 1] and `uv` [N, H/2, W/2, 2].

    Raises:
        RequestError: nv12 with more than one frame a batch, whose planes would not be contiguous.
    """
    if spec.input_format != "nv12":
        return {"frame": frames}
    if spec.batch != 1:
        raise RequestError("an nv12 engine takes one frame a batch", value=f"batch {spec.batch}", allowed="batch 1")
    height, width = spec.frame_size
    return {
        "y": frames[:, :height].reshape(1, height, width, 1),
        "uv": frames[:, height:].reshape(1, height // 2, width // 2, 2),
    }


def aligned_empty(shape: tuple[int, ...]) -> U8:
    """Uninitialised uint8 memory that starts at a cache line."""
    size = int(np.prod(shape))
    raw = np.empty(size + _ALIGN, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGN
    return raw[start : start + size].reshape(shape)


@dataclass(slots=True)
class _Pending:
    number: int
    slot: Slot
    host_copy_ns: int
    times: RunTimes | None = None


class BaseRunner(ABC):
    """A `Runner` without its runtime. Entered, used and left by one thread; entering again in that thread nests.

    Args:
        spec: What it takes and gives.
        outputs: Output buffers beyond `spec.depth`.
    """

    def __init__(self, spec: RunnerSpec, *, outputs: int = OUTPUTS) -> None:
        self._spec = spec
        self._outputs = outputs
        self._owner: int | None = None
        self._entered = 0
        self._inputs: Sequence[U8] = ()
        self._next_input = 0
        self._ring = Ring([])
        self._pending: deque[_Pending] = deque()
        self._running = 0
        self._submitted = 0

    # ------------------------------------------------------------ what a backend writes

    @abstractmethod
    def _open(self) -> None:
        """Load the engine; the first thing that touches the device."""

    @abstractmethod
    def _bind(self, inputs: Sequence[U8], slots: Sequence[Slot]) -> None:
        """Prepare runs from each of `inputs` (shape `input_shape`) into each of `slots`."""

    @abstractmethod
    def _start(self, feed: int, slot: int) -> None:
        """Start the engine on input buffer number `feed`, or on what `_lend` took (`LENT`), into slot number `slot`.

        May already finish it.
        """

    @abstractmethod
    def _finish(self, slot: int) -> RunTimes:
        """Wait for the oldest started run, which was into slot number `slot`."""

    @abstractmethod
    def _close(self) -> None:
        """Let go of the engine. Called once for each `_open`, also after one that failed half-way."""

    def _lend(self, frames_nhwc: U8) -> bool:
        """Take frames for the next `_start` where they are; False where the backend reads its own buffers only."""
        del frames_nhwc
        return False

    def _allocate(self, shape: tuple[int, ...]) -> U8:
        """Host memory for inputs and outputs; a GPU backend gives pinned memory."""
        return aligned_empty(shape)

    # ------------------------------------------------------------ Runner

    @property
    def spec(self) -> RunnerSpec:
        """What it takes and gives; valid before `__enter__`."""
        return self._spec

    @property
    def free_outputs(self) -> int:
        """Output buffers that are not leased out."""
        return self._ring.free

    def __enter__(self) -> BaseRunner:
        if self._owner is None:
            self._owner = threading.get_ident()
            try:
                self._open()
                self._make_buffers()
            except BaseException:
                self._leave()
                raise
        self._check_thread()
        self._entered += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._check_thread()
        self._entered -= 1
        if self._entered == 0:
            self._leave(drain=kind is None)

    def input_view(self) -> U8:
        """Memory of the next submission (shape `input_shape`), valid until the next `submit`."""
        self._check_thread()
        return self._inputs[self._next_input]

    def submit(self, frames_nhwc: U8, *, lent: bool = False) -> Ticket:
        """Start one batch; waits for the oldest one while `spec.depth` are in flight.

        The frames are copied unless they are `input_view()` itself, so the caller may use their memory again at once.
        With `lent` they stay as they are until `collect` has returned, so a backend that can reads them in place.

        Raises:
            RequestError: A batch of another shape or dtype, or a call from another thread.
            BufferError: Every output buffer is leased out.
        """
        self._check_thread()
        self._check_frames(frames_nhwc)
        while self._running >= self._spec.depth:
            self._finish_oldest()
        slot = self._ring.take()
        try:
            feed, buffer = self._next_input, self._inputs[self._next_input]
            begin_ns = now_ns()
            if lent and frames_nhwc is not buffer and self._lend(frames_nhwc):
                feed = LENT
            elif frames_nhwc is not buffer:
                np.copyto(buffer, frames_nhwc)
            copied_ns = now_ns()
            self._start(feed, slot.index)
        except BaseException:
            self._ring.give(slot)
            raise
        if feed != LENT:
            self._next_input = (self._next_input + 1) % len(self._inputs)
        self._submitted += 1
        self._running += 1
        self._pending.append(_Pending(self._submitted, slot, copied_ns - begin_ns))
        return Ticket(self._submitted)

    def collect(self, ticket: Ticket) -> LeasedOutput:
        """Wait for a batch.

        Raises:
            RequestError: A ticket that was collected before, or out of order.
        """
        self._check_thread()
        if not self._pending or self._pending[0].number != ticket.number:
            expected = f"ticket {self._pending[0].number}" if self._pending else "nothing, since nothing is in flight"
            raise RequestError(
                "tickets are collected once, in order of submission",
                value=f"ticket {ticket.number}",
                allowed=f"next is {expected}",
            )
        if self._pending[0].times is None:
            self._finish_oldest()
        done = self._pending.popleft()
        assert done.times is not None
        return LeasedOutput(self._ring, done.slot, done.times)

    def infer(self, frames_nhwc: U8) -> LeasedOutput:
        """`collect(submit(frames_nhwc))`."""
        return self.collect(self.submit(frames_nhwc))

    # ------------------------------------------------------------ inside

    def _make_buffers(self) -> None:
        shape = input_shape(self._spec)
        mask_shape = (self._spec.batch, *self._spec.frame_size)
        # one more than can be in flight: `input_view` never hands out memory that a run still reads
        self._inputs = [self._allocate(shape) for _ in range(self._spec.depth + 1)]
        slots = [
            Slot(i, self._allocate(mask_shape), self._allocate(mask_shape) if self._spec.confidence else None)
            for i in range(self._spec.depth + self._outputs)
        ]
        for buffer in [*self._inputs, *(slot.mask_nhw for slot in slots)]:
            buffer.fill(0)  # touches every page now, not under the first frames
        self._ring = Ring(slots)
        self._next_input = 0
        self._bind(self._inputs, slots)

    def _finish_oldest(self) -> None:
        oldest = next(item for item in self._pending if item.times is None)
        self._running -= 1
        try:
            times = self._finish(oldest.slot.index)
        except BaseException:
            self._pending.remove(oldest)
            self._ring.give(oldest.slot)
            raise
        oldest.times = RunTimes(oldest.host_copy_ns + times.copy_in_ns, times.engine_ns, times.copy_out_ns)

    def _leave(self, *, drain: bool = True) -> None:
        try:
            while drain and self._running:
                self._finish_oldest()
        finally:
            self._pending.clear()
            self._running = 0
            self._inputs = ()
            self._ring = Ring([])
            self._owner = None
            self._close()

    def _check_thread(self) -> None:
        if self._owner != threading.get_ident():
            if self._owner is None:
                raise RequestError("the runner is not open", allowed="use it inside `with runner:`")
            raise RequestError(
                "a runner belongs to the thread that entered it",
                value=f"thread {threading.current_thread().name}",
                allowed="open a runner in each thread",
            )

    def _check_frames(self, frames: U8) -> None:
        shape = input_shape(self._spec)
        if frames.shape == shape and frames.dtype == np.uint8:
            return
        allowed = f"uint8 {list(shape)}: {self._spec.input_format} at {format_size(self._spec.frame_size)}"
        if frames.dtype != np.uint8:
            raise RequestError("the frame has another dtype than the engine takes", value=frames.dtype, allowed=allowed)
        raise RequestError(
            "the frame has another size than the engine takes",
            value=list(frames.shape),
            allowed=allowed,
            fix="edgeseg build MODEL --frame-size HxW",
        )


class BlockingRunner(BaseRunner):
    """A runner whose runtime returns when the mask is there: it writes `_run` in place of `_start` and `_finish`."""

    _engine_ns = 0

    @abstractmethod
    def _run(self, feed: int, slot: int) -> None:
        """Run input buffer number `feed` into slot number `slot`."""

    def _start(self, feed: int, slot: int) -> None:
        begin_ns = now_ns()
        self._run(feed, slot)
        self._engine_ns = now_ns() - begin_ns

    def _finish(self, slot: int) -> RunTimes:
        del slot  # depth is 1: the last run is the oldest
        return RunTimes(0, self._engine_ns, 0)
