"""Two ways of a frame into an engine and of its mask out again.

`Mapped`: the engine reads and writes page-locked host memory in place; one graph for each pair of buffers. Right where
GPU and processor share their memory. `Pinned`: asynchronous copies between page-locked and device memory around one
graph a lane. Right on a card. `fastest` measures both where both are possible.

Nothing is allocated, created or captured after `prepare`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from edgeseg.backend.base import input_planes
from edgeseg.backend.nvidia.loading import LoadedEngine
from edgeseg.backend.ring import Slot
from edgeseg.core.clock import now_ns
from edgeseg.core.log import get_logger
from edgeseg.core.types import U8, RunnerSpec, RunTimes

if TYPE_CHECKING:
    from edgeseg.backend.nvidia.cuda import CudaDriver

_LOG = get_logger(__name__)
_TRIALS = 20


@dataclass(frozen=True, slots=True)
class Marks:
    """The four events of one run: before its copy in, around the engine, after its copy out."""

    begin: Any
    engine_begin: Any
    engine_end: Any
    done: Any

    @classmethod
    def make(cls, cuda: CudaDriver) -> Marks:
        """Four new events."""
        return cls(cuda.event(), cuda.event(), cuda.event(), cuda.event())


def slot_planes(slot: Slot) -> dict[str, U8]:
    """The outputs of an engine by tensor name."""
    planes = {"mask": slot.mask_nhw}
    if slot.confidence_nhw is not None:
        planes["confidence"] = slot.confidence_nhw
    return planes


class Transport(ABC):
    """One way in and out.

    Args:
        cuda: The open driver.
        engine: The loaded engine with its context.
        spec: What it takes and gives.
        capture: Whether to replay enqueues as graphs.
    """

    name = ""

    def __init__(self, cuda: CudaDriver, engine: LoadedEngine, spec: RunnerSpec, *, capture: bool) -> None:
        self._cuda = cuda
        self._engine = engine
        self._spec = spec
        self._capture = capture
        self._stream = cuda.stream()
        self._running: deque[Marks] = deque()

    @property
    def captured(self) -> bool:
        """Whether frames replay a graph."""
        return self._capture

    @abstractmethod
    def prepare(self, inputs: Sequence[U8], slots: Sequence[Slot]) -> None:
        """Make everything that `start` needs, for every pair of buffers."""

    @abstractmethod
    def address_buffers(self) -> int:
        """Point the engine at one set of buffers, for runs outside of `start`; returns the stream."""

    @abstractmethod
    def start(self, feed: int, slot: int) -> None:
        """Start a run from input buffer `feed` into slot `slot`."""

    def finish(self) -> RunTimes:
        """Wait for the oldest run."""
        marks = self._running.popleft()
        cuda = self._cuda
        cuda.wait(marks.done)
        return RunTimes(
            cuda.elapsed_ns(marks.begin, marks.engine_begin),
            cuda.elapsed_ns(marks.engine_begin, marks.engine_end),
            cuda.elapsed_ns(marks.engine_end, marks.done),
        )

    def drain(self) -> None:
        """Wait for everything, whatever has failed before: buffers are freed next."""
        self._running.clear()
        self._cuda.synchronize(self._stream)

    def _graph(self, addresses: Mapping[str, int], marks: Marks) -> Any | None:
        """Capture one enqueue; from the first that cannot be captured on, none is."""
        if not self._capture:
            return None
        self._engine.set_addresses(addresses)
        self._engine.enqueue_or_raise(self._stream)  # the first run after a change initialises lazily
        self._cuda.synchronize(self._stream)

        def work() -> bool:
            self._cuda.record_external(marks.engine_begin, self._stream)
            enqueued = self._engine.enqueue(self._stream)
            self._cuda.record_external(marks.engine_end, self._stream)
            return enqueued

        graph = self._cuda.capture(self._stream, work)
        self._capture = graph is not None
        return graph

    def _run_engine(self, graph: Any | None, addresses: Mapping[str, int], marks: Marks) -> None:
        if graph is not None:
            self._cuda.launch(graph, self._stream)
            return
        self._engine.set_addresses(addresses)
        self._cuda.record(marks.engine_begin, self._stream)
        self._engine.enqueue_or_raise(self._stream)
        self._cuda.record(marks.engine_end, self._stream)


class Mapped(Transport):
    """The engine works on page-locked host memory."""

    name = "mapped"

    def prepare(self, inputs: Sequence[U8], slots: Sequence[Slot]) -> None:
        """One graph for each pair of input buffer and slot; events of a run belong to its input buffer."""
        self._marks = [Marks.make(self._cuda) for _ in inputs]
        self._addresses = [[self._pair(feed, slot) for slot in slots] for feed in inputs]
        self._graphs = [
            [self._graph(addresses, marks) for addresses in row]
            for row, marks in zip(self._addresses, self._marks, strict=True)
        ]
        if not self._capture:  # all or none: a run must not depend on which slot it got
            self._graphs = [[None for _ in slots] for _ in inputs]

    def start(self, feed: int, slot: int) -> None:
        """Launch; there is nothing to copy."""
        marks = self._marks[feed]
        self._cuda.record(marks.begin, self._stream)
        self._run_engine(self._graphs[feed][slot], self._addresses[feed][slot], marks)
        self._cuda.record(marks.done, self._stream)
        self._running.append(marks)

    def address_buffers(self) -> int:
        """The first pair of buffers."""
        self._engine.set_addresses(self._addresses[0][0])
        return self._stream

    def _pair(self, feed: U8, slot: Slot) -> dict[str, int]:
        base = self._cuda.mapped_pointer(feed)
        planes = input_planes(self._spec, feed)
        addresses = {name: base + plane.ctypes.data - feed.ctypes.data for name, plane in planes.items()}
        return addresses | {name: self._cuda.mapped_pointer(plane) for name, plane in slot_planes(slot).items()}


@dataclass(frozen=True, slots=True)
class _Lane:
    """Device memory and events of one run in flight."""

    marks: Marks
    copied: Any
    input_address: int
    addresses: Mapping[str, int]
    graph: Any | None


class Pinned(Transport):
    """The engine works on device memory; copies run on the same stream, or beside the engine with two lanes."""

    name = "pinned"

    def prepare(self, inputs: Sequence[U8], slots: Sequence[Slot]) -> None:
        """Device buffers, events and one graph a lane."""
        self._inputs, self._slots = inputs, slots
        overlapped = self._spec.depth > 1
        self._copies = self._cuda.stream() if overlapped else self._stream
        self._lanes = [self._lane(inputs[0], slots[0]) for _ in range(self._spec.depth)]
        self._started = 0

    def start(self, feed: int, slot: int) -> None:
        """Copy in, launch, copy out: all asynchronous."""
        cuda, lane = self._cuda, self._lanes[self._started % len(self._lanes)]
        self._started += 1
        cuda.record(lane.marks.begin, self._copies)
        cuda.copy_in(lane.input_address, self._inputs[feed], self._copies)
        if self._copies != self._stream:
            cuda.record(lane.copied, self._copies)
            cuda.wait_event(self._stream, lane.copied)
        self._run_engine(lane.graph, lane.addresses, lane.marks)
        for name, plane in slot_planes(self._slots[slot]).items():
            cuda.copy_out(plane, lane.addresses[name], self._stream)
        cuda.record(lane.marks.done, self._stream)
        self._running.append(lane.marks)

    def drain(self) -> None:
        """Wait for both streams."""
        super().drain()
        if self._copies != self._stream:
            self._cuda.synchronize(self._copies)

    def address_buffers(self) -> int:
        """The first lane."""
        self._engine.set_addresses(self._lanes[0].addresses)
        return self._stream

    def _lane(self, feed: U8, slot: Slot) -> _Lane:
        base = self._cuda.device_empty(feed.nbytes)
        planes = input_planes(self._spec, feed)
        addresses = {name: base + plane.ctypes.data - feed.ctypes.data for name, plane in planes.items()}
        addresses |= {name: self._cuda.device_empty(plane.nbytes) for name, plane in slot_planes(slot).items()}
        marks = Marks.make(self._cuda)
        return _Lane(marks, self._cuda.event(), base, addresses, self._graph(addresses, marks))


def fastest(transports: Sequence[Transport], inputs: Sequence[U8], slots: Sequence[Slot]) -> Transport:
    """Prepare every transport and return the one with the shortest median time from start to mask."""
    for transport in transports:
        transport.prepare(inputs, slots)
    if len(transports) == 1:
        return transports[0]
    medians = {transport: _median_ns(transport) for transport in transports}
    for transport, value in medians.items():
        _LOG.debug("I/O %s: median %.3f ms", transport.name, value / 1e6)
    return min(transports, key=lambda transport: medians[transport])


def _median_ns(transport: Transport) -> float:
    samples = []
    for _ in range(_TRIALS):
        begin_ns = now_ns()
        transport.start(0, 0)
        transport.finish()
        samples.append(now_ns() - begin_ns)
    return median(samples[1:])
