"""The state of the simulated GPU: memory, streams, events, graphs, and the rules it watches. See README.md."""

from __future__ import annotations

import gc
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edgeseg.core.clock import now_ns

NAME = "Simulated GPU (no hardware)"
Op = Callable[[], None]


class RefusedError(Exception):
    """A driver call that fails with this CUDA error."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(eq=False)
class Event:
    recorded: int = 0  # how often a record was enqueued outside of a graph
    done: int = 0  # how many of those have happened
    time_ns: int | None = None
    stream: Stream | None = None


@dataclass(eq=False)
class Graph:
    ops: list[Op] = field(default_factory=list)
    destroyed: bool = False


@dataclass(eq=False)
class Stream:
    handle: int
    queue: deque[Op] = field(default_factory=deque)
    capture: Graph | None = None

    def run_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if not self.queue:
                raise RefusedError("CUDA_ERROR_DEADLOCK")
            self.queue.popleft()()


class Gpu:
    """One device. `reset` gives a new one; the settings are what tests vary."""

    def __init__(self) -> None:
        self.reset()

    def reset(
        self,
        *,
        present: bool = True,
        integrated: bool = False,
        capturable: bool = True,
        memory_bytes: int = 1 << 30,
        compute_capability: tuple[int, int] = (8, 9),
        cuda_version: int = 13020,
    ) -> None:
        self.present = present
        self.integrated = integrated
        self.capturable = capturable
        self.compute_capability = compute_capability
        self.cuda_version = cuda_version
        self.total_bytes = memory_bytes
        self.free_bytes = memory_bytes
        self.violations: list[str] = []
        self.calls: list[str] = []
        self.made = 0  # allocations, streams, events and graphs: constant after the first frame
        self.thread: int | None = None
        self.contexts = 0
        self.streams: dict[int, Stream] = {}
        self.events: set[Event] = set()
        self.live_graphs: set[Graph] = set()
        self.pinned: list[tuple[int, np.ndarray]] = []
        self._addresses = itertools.count(0x7000_0000_0000, 1 << 32)
        self._handles = itertools.count(0x10)
        self._memory: dict[int, np.ndarray] = {}

    # ------------------------------------------------------------ rules

    def use(self, what: str) -> None:
        self.calls.append(what)
        if self.thread is None:
            raise RefusedError("CUDA_ERROR_INVALID_CONTEXT")
        if self.thread != threading.get_ident():
            self.violations.append(f"{what} in another thread than the context's")
            raise RefusedError("CUDA_ERROR_INVALID_CONTEXT")

    def make(self, what: str) -> None:
        self.use(what)
        self.made += 1
        if any(stream.capture is not None for stream in self.streams.values()):
            self.violations.append(f"{what} during a capture")
            raise RefusedError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")

    # ------------------------------------------------------------ memory

    def allocate(self, nbytes: int) -> int:
        self.make("allocate")
        if nbytes > self.free_bytes:
            raise RefusedError("CUDA_ERROR_OUT_OF_MEMORY")
        self.free_bytes -= nbytes
        return self._place(np.full(nbytes, 0xAB, np.uint8))

    def free(self, address: int) -> None:
        self.use("free")
        self.free_bytes += self._memory.pop(address).nbytes

    def pin(self, shape: tuple[int, ...], mapped: bool) -> tuple[np.ndarray, int]:
        self.make("pin")
        backing = np.full(shape, 0xCD, np.uint8)
        self.pinned.append((backing.ctypes.data, backing))
        return backing, self._place(backing.reshape(-1)) if mapped else 0

    def view(self, address: int, nbytes: int) -> np.ndarray:
        for base, array in self._memory.items():
            if base <= address and address + nbytes <= base + array.nbytes:
                return array[address - base : address - base + nbytes]
        raise RefusedError("CUDA_ERROR_ILLEGAL_ADDRESS")

    def host_view(self, address: int, nbytes: int) -> np.ndarray:
        for base, array in self.pinned:
            if base <= address and address + nbytes <= base + array.nbytes:
                return array.reshape(-1)[address - base : address - base + nbytes]
        self.violations.append("an asynchronous copy of memory that is not page-locked")
        raise RefusedError("CUDA_ERROR_INVALID_VALUE")

    def _place(self, array: np.ndarray) -> int:
        address = next(self._addresses)
        self._memory[address] = array
        return address

    # ------------------------------------------------------------ streams, events, graphs

    def new_stream(self, flags: int) -> Stream:
        self.make("stream")
        if flags != 1:
            self.violations.append("a stream that waits for the default stream")
        stream = Stream(next(self._handles))
        self.streams[stream.handle] = stream
        return stream

    def enqueue(self, handle: int, op: Op) -> None:
        stream = self.streams[int(handle)]
        (stream.capture.ops if stream.capture is not None else stream.queue).append(op)

    def record(self, event: Event, handle: int, *, external: bool) -> None:
        stream = self.streams[int(handle)]
        if stream.capture is not None:
            if not external:
                self.violations.append("an event recorded inside a capture without EXTERNAL")
                raise RefusedError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")

            def stamp() -> None:
                event.time_ns = now_ns()

            stream.capture.ops.append(stamp)
            return
        event.recorded += 1
        event.stream = stream
        number = event.recorded

        def happen() -> None:
            event.time_ns = now_ns()
            event.done = number

        stream.queue.append(happen)

    def wait_in_stream(self, handle: int, event: Event) -> None:
        number, source = event.recorded, event.stream

        def wait() -> None:
            if source is not None:
                source.run_until(lambda: event.done >= number)

        self.enqueue(handle, wait)

    def wait(self, event: Event) -> None:
        if event.stream is not None:
            event.stream.run_until(lambda: event.done >= event.recorded)

    def drain(self, handle: int) -> None:
        stream = self.streams[int(handle)]
        if stream.capture is not None:
            self.violations.append("a wait during a capture")
            raise RefusedError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
        stream.run_until(lambda: not stream.queue)

    def begin_capture(self, handle: int) -> None:
        stream = self.streams[int(handle)]
        if stream.queue:
            self.violations.append("a capture on a stream that is not idle")
        if gc.isenabled():
            self.violations.append("a capture with Python's collector enabled")
        stream.capture = Graph()

    def end_capture(self, handle: int) -> Graph | None:
        stream = self.streams[int(handle)]
        graph, stream.capture = stream.capture, None
        if graph is None:
            raise RefusedError("CUDA_ERROR_ILLEGAL_STATE")
        if not self.capturable:
            raise RefusedError("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
        self.live_graphs.add(graph)
        return graph


GPU = Gpu()
if os.environ.get("EDGESEG_SIMULATED_INTEGRATED"):
    GPU.reset(integrated=True)
if os.environ.get("EDGESEG_SIMULATED_ABSENT"):
    GPU.reset(present=False)
