"""The part of `cuda.bindings.driver` that the runner uses, over the simulated GPU. Every call returns (status, …)."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any

from simulated_gpu import GPU, NAME, Event, Graph, RefusedError

CUresult = enum.IntEnum(
    "CUresult",
    {
        "CUDA_SUCCESS": 0,
        "CUDA_ERROR_INVALID_VALUE": 1,
        "CUDA_ERROR_OUT_OF_MEMORY": 2,
        "CUDA_ERROR_NO_DEVICE": 100,
        "CUDA_ERROR_INVALID_CONTEXT": 201,
        "CUDA_ERROR_ILLEGAL_STATE": 401,
        "CUDA_ERROR_DEADLOCK": 402,
        "CUDA_ERROR_NOT_READY": 600,
        "CUDA_ERROR_ILLEGAL_ADDRESS": 700,
        "CUDA_ERROR_LAUNCH_FAILED": 719,
        "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": 900,
        "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED": 901,
    },
)
CUevent_flags = enum.IntEnum("CUevent_flags", {"CU_EVENT_DEFAULT": 0, "CU_EVENT_BLOCKING_SYNC": 1})
CUevent_record_flags = enum.IntEnum(
    "CUevent_record_flags", {"CU_EVENT_RECORD_DEFAULT": 0, "CU_EVENT_RECORD_EXTERNAL": 1}
)
CUstreamCaptureMode = enum.IntEnum(
    "CUstreamCaptureMode",
    {"CU_STREAM_CAPTURE_MODE_GLOBAL": 0, "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL": 1, "CU_STREAM_CAPTURE_MODE_RELAXED": 2},
)


CUdevice_attribute = enum.IntEnum(
    "CUdevice_attribute",
    {"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": 75, "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": 76},
)


def cuInit(flags: int) -> tuple[Any, ...]:
    """The functions from here to the next need no context."""
    return (CUresult.CUDA_SUCCESS if GPU.present else CUresult.CUDA_ERROR_NO_DEVICE,)


def cuDeviceGet(ordinal: int) -> tuple[Any, ...]:
    return CUresult.CUDA_SUCCESS, ordinal


def cuDeviceGetName(length: int, device: int) -> tuple[Any, ...]:
    return CUresult.CUDA_SUCCESS, NAME.encode().ljust(length, b"\0")


def cuDeviceGetAttribute(attribute: int, device: int) -> tuple[Any, ...]:
    return CUresult.CUDA_SUCCESS, GPU.compute_capability[int(attribute) - 75]


def cuDriverGetVersion() -> tuple[Any, ...]:
    return CUresult.CUDA_SUCCESS, GPU.cuda_version


def _call(values: int = 0) -> Callable[[Callable[..., Any]], Callable[..., tuple[Any, ...]]]:
    """Make a function answer as a driver call with `values` results does."""

    def decorate(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        @functools.wraps(function)
        def call(*args: Any) -> tuple[Any, ...]:
            try:
                GPU.use(function.__name__)
                result = function(*args)
            except RefusedError as error:
                return (CUresult[error.code], *[None] * values)
            return (CUresult.CUDA_SUCCESS, result) if values else (CUresult.CUDA_SUCCESS,)

        return call

    return decorate


@_call()
def cuMemcpyHtoDAsync(to: int, source: int, nbytes: int, stream: int) -> None:
    view, host = GPU.view(to, nbytes), GPU.host_view(source, nbytes)
    GPU.enqueue(stream, lambda: view.__setitem__(slice(None), host))


@_call()
def cuMemcpyDtoHAsync(to: int, source: int, nbytes: int, stream: int) -> None:
    view, host = GPU.view(source, nbytes), GPU.host_view(to, nbytes)
    GPU.enqueue(stream, lambda: host.__setitem__(slice(None), view))


@_call()
def cuStreamSynchronize(stream: int) -> None:
    GPU.drain(stream)


@_call()
def cuStreamWaitEvent(stream: int, event: Event, flags: int) -> None:
    GPU.wait_in_stream(stream, event)


@_call(1)
def cuEventCreate(flags: int) -> Event:
    GPU.make("event")
    event = Event()
    GPU.events.add(event)
    return event


@_call()
def cuEventRecord(event: Event, stream: int) -> None:
    GPU.record(event, stream, external=False)


@_call()
def cuEventRecordWithFlags(event: Event, stream: int, flags: int) -> None:
    GPU.record(event, stream, external=flags == 1)


@_call()
def cuEventSynchronize(event: Event) -> None:
    GPU.wait(event)


@_call(1)
def cuEventElapsedTime(begin: Event, end: Event) -> float:
    if begin.time_ns is None or end.time_ns is None or begin.done < begin.recorded or end.done < end.recorded:
        raise RefusedError("CUDA_ERROR_NOT_READY")
    return (end.time_ns - begin.time_ns) / 1e6


@_call()
def cuEventDestroy(event: Event) -> None:
    GPU.events.remove(event)


@_call()
def cuStreamBeginCapture(stream: int, mode: int) -> None:
    if int(mode) != CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL:
        GPU.violations.append("a capture that other threads' calls can break")
    GPU.begin_capture(stream)


@_call(1)
def cuStreamEndCapture(stream: int) -> Graph | None:
    return GPU.end_capture(stream)


@_call(1)
def cuGraphInstantiate(graph: Graph, flags: int) -> Graph:
    GPU.make("graph")
    made = Graph(ops=list(graph.ops))
    GPU.live_graphs.add(made)
    return made


@_call()
def cuGraphLaunch(graph: Graph, stream: int) -> None:
    assert not graph.destroyed
    for op in graph.ops:
        GPU.enqueue(stream, op)


def _destroy(graph: Graph) -> None:
    graph.destroyed = True
    graph.ops.clear()
    GPU.live_graphs.remove(graph)


@_call()
def cuGraphDestroy(graph: Graph) -> None:
    _destroy(graph)


@_call()
def cuGraphExecDestroy(graph: Graph) -> None:
    _destroy(graph)
