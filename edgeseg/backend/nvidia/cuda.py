"""The CUDA driver as the runner needs it: pycuda for context, stream and memory, cuda-bindings for events and graphs.

Both are views of one driver API, so a stream handle of the one is a stream of the other. The context is the device's
primary one, which TensorRT, torch and cuDNN share; `pycuda.autoinit` would make a second. pycuda ties a context to the
thread that pushed it, and a `Runner` belongs to one thread anyway.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycuda.driver as cuda
from cuda.bindings import driver

from edgeseg.core.errors import EdgesegError, UnavailableError
from edgeseg.core.log import get_logger
from edgeseg.core.types import U8

_LOG = get_logger(__name__)
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: no implicit order with the default stream


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """The GPU behind the open context.

    Attributes:
        name: For example `NVIDIA GeForce RTX 4090`.
        compute_capability: For example `8.9`.
        driver: CUDA version of the driver, for example `12.4`.
        integrated: Whether it shares its memory with the processor.
        maps_host_memory: Whether kernels can read and write page-locked host memory.
    """

    name: str
    compute_capability: str
    driver: str
    integrated: bool
    maps_host_memory: bool


class CudaDriver:
    """One context and one stream for the thread that opens it.

    Everything that is made here is freed in `close`; nothing is made or freed between the first frame and the last.

    Args:
        device: Index of the GPU.
    """

    def __init__(self, device: int = 0) -> None:
        self._index = device
        self._context: Any = None
        self._device: Any = None
        self._streams: list[Any] = []
        self._events: list[Any] = []
        self._graphs: list[Any] = []
        self._allocations: list[Any] = []

    # ------------------------------------------------------------ context

    def open(self) -> None:
        """Retain the primary context and make it this thread's.

        Raises:
            UnavailableError: No GPU, or no driver.
        """
        try:
            cuda.init()
            self._device = cuda.Device(self._index)
        except (cuda.Error, ImportError, RuntimeError) as error:
            raise UnavailableError("there is no NVIDIA GPU", value=_line(error), fix="edgeseg doctor") from None
        self._context = self._device.retain_primary_context()
        self._context.push()

    def close(self) -> None:
        """Free everything in reverse order of making, and give the context back."""
        if self._context is None:
            return
        try:
            self.destroy_graphs()
            for event in reversed(self._events):
                driver.cuEventDestroy(event)
            for allocation in reversed(self._allocations):
                allocation.free()
        finally:
            self._events, self._allocations, self._streams = [], [], []
            self._context.pop()
            self._context = None

    @property
    def info(self) -> GpuInfo:
        """The GPU of the open context."""
        attribute = cuda.device_attribute
        major, minor = self._device.compute_capability()
        version = cuda.get_driver_version()
        return GpuInfo(
            name=self._device.name(),
            compute_capability=f"{major}.{minor}",
            driver=f"{version // 1000}.{version % 1000 // 10}",
            integrated=bool(self._device.get_attribute(attribute.INTEGRATED)),
            maps_host_memory=bool(self._device.get_attribute(attribute.CAN_MAP_HOST_MEMORY)),
        )

    def memory_bytes(self) -> tuple[int, int]:
        """Free and total device memory in bytes."""
        free, total = cuda.mem_get_info()
        return int(free), int(total)

    # ------------------------------------------------------------ memory and streams

    def stream(self) -> int:
        """A new stream, as its handle."""
        made = cuda.Stream(_NON_BLOCKING)
        self._streams.append(made)
        return int(made.handle)

    def host_empty(self, shape: tuple[int, ...], *, mapped: bool) -> U8:
        """Page-locked uint8 memory; with `mapped` the GPU reads and writes it in place."""
        flags = cuda.host_alloc_flags.DEVICEMAP if mapped else 0
        with _memory_errors():
            array: U8 = cuda.pagelocked_empty(shape, np.uint8, mem_flags=flags)
        return array

    def mapped_pointer(self, array: U8) -> int:
        """The GPU's address of mapped host memory."""
        base: Any = array.base
        return int(base.get_device_pointer())

    def device_empty(self, nbytes: int) -> int:
        """Device memory, as its address."""
        with _memory_errors():
            allocation = cuda.mem_alloc(nbytes)
        self._allocations.append(allocation)
        return int(allocation)

    def copy_in(self, address: int, array: U8, stream: int) -> None:
        """Start copying host memory to the device."""
        _check(driver.cuMemcpyHtoDAsync(address, array.ctypes.data, array.nbytes, stream))

    def copy_out(self, array: U8, address: int, stream: int) -> None:
        """Start copying device memory to the host."""
        _check(driver.cuMemcpyDtoHAsync(array.ctypes.data, address, array.nbytes, stream))

    def synchronize(self, stream: int) -> None:
        """Wait for all work on a stream."""
        _check(driver.cuStreamSynchronize(stream))

    # ------------------------------------------------------------ events

    def event(self) -> Any:
        """A new event with time."""
        event = _check(driver.cuEventCreate(int(driver.CUevent_flags.CU_EVENT_DEFAULT)))
        self._events.append(event)
        return event

    def record(self, event: Any, stream: int) -> None:
        """Mark this place of a stream; outside of a capture."""
        _check(driver.cuEventRecord(event, stream))

    def record_external(self, event: Any, stream: int) -> None:
        """Mark this place of a captured stream so that the event can be read from outside of the graph."""
        flag = driver.CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL
        _check(driver.cuEventRecordWithFlags(event, stream, int(flag)))

    def wait_event(self, stream: int, event: Any) -> None:
        """Let a stream wait for an event of another."""
        _check(driver.cuStreamWaitEvent(stream, event, 0))

    def wait(self, event: Any) -> None:
        """Let this thread wait for an event."""
        _check(driver.cuEventSynchronize(event))

    def elapsed_ns(self, begin: Any, end: Any) -> int:
        """Time between two events that have happened."""
        return int(float(_check(driver.cuEventElapsedTime(begin, end))) * 1e6)

    # ------------------------------------------------------------ graphs

    def capture(self, stream: int, work: Callable[[], bool]) -> Any | None:
        """Capture what `work` enqueues on `stream` as a graph that can be launched again and again.

        Args:
            stream: A stream that is idle and has run the same work before, so that nothing is initialised inside.
            work: Enqueues only; allocates nothing. Returns False where it could not.

        Returns:
            The executable graph, or None where capture is not possible: then enqueue plainly.
        """
        graph = None
        try:
            with _no_collection():
                _check(
                    driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
                )
                captured = False
                try:
                    captured = work()
                finally:  # a stream that is left capturing would refuse everything after
                    code, graph = driver.cuStreamEndCapture(stream)
            if not captured or int(code) != 0:
                _LOG.warning("CUDA graph capture is not possible (%s); enqueueing each frame", code)
                return None
            made = _check(driver.cuGraphInstantiate(graph, 0))
            self._graphs.append(made)
            return made
        finally:
            if graph is not None:
                driver.cuGraphDestroy(graph)

    def destroy_graphs(self) -> None:
        """Destroy every captured graph; before the engine whose kernels they launch."""
        while self._graphs:
            driver.cuGraphExecDestroy(self._graphs.pop())

    def launch(self, graph: Any, stream: int) -> None:
        """Start a captured graph."""
        _check(driver.cuGraphLaunch(graph, stream))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's collector away: a finaliser that frees GPU memory inside a capture would invalidate it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn pycuda's error for memory that is not there into the one that names the remedy."""
    try:
        yield
    except cuda.MemoryError as error:
        raise _out_of_memory(_line(error)) from None


def _out_of_memory(value: str) -> EdgesegError:
    return EdgesegError(
        "the device is out of memory",
        value=value,
        allowed="a smaller frame, or fewer programs on the GPU",
        fix="edgeseg build MODEL --frame-size HxW, smaller",
    )


def _check(answer: Sequence[Any]) -> Any:
    """The value of a driver call, whose first item is its status.

    Raises:
        EdgesegError: The call failed; by CUDA's own name for it.
    """
    code, *values = answer
    if int(code) != 0:
        name = getattr(code, "name", str(code))
        if "OUT_OF_MEMORY" in name:
            raise _out_of_memory(name)
        raise EdgesegError("a CUDA call failed", value=name, fix="edgeseg doctor")
    return values[0] if values else None


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
