"""The part of `pycuda.driver` that the runner uses, over the simulated GPU."""

from __future__ import annotations

import threading

import numpy as np
from simulated_gpu import GPU, NAME, RefusedError


class Error(Exception):
    pass


class LogicError(Error):
    pass


class MemoryError(Error):  # noqa: A001 - pycuda's own name
    pass


class device_attribute:  # noqa: N801 - pycuda's own name
    INTEGRATED = "integrated"
    CAN_MAP_HOST_MEMORY = "maps"


class host_alloc_flags:  # noqa: N801 - pycuda's own name
    PORTABLE, DEVICEMAP, WRITECOMBINED = 1, 2, 4


def init(flags: int = 0) -> None:
    if not GPU.present:
        raise LogicError("cuInit failed: no CUDA-capable device is detected")


class Context:
    def push(self) -> None:
        GPU.thread = threading.get_ident()
        GPU.contexts += 1

    @staticmethod
    def pop() -> None:
        GPU.use("pop")
        GPU.contexts -= 1  # contexts are a stack: with two runners open, the other's is current again
        if GPU.contexts == 0:
            GPU.thread = None


class Device:
    def __init__(self, index: int) -> None:
        init()

    def name(self) -> str:
        return NAME

    def compute_capability(self) -> tuple[int, int]:
        return GPU.compute_capability

    def get_attribute(self, attribute: str) -> int:
        return int(GPU.integrated) if attribute == device_attribute.INTEGRATED else 1

    def retain_primary_context(self) -> Context:
        return Context()

    def make_context(self, flags: int = 0) -> Context:
        GPU.violations.append("a second context instead of the primary one")
        return Context()


def get_driver_version() -> int:
    return GPU.cuda_version


def mem_get_info() -> tuple[int, int]:
    GPU.use("mem_get_info")
    return GPU.free_bytes, GPU.total_bytes


class Stream:
    def __init__(self, flags: int = 0) -> None:
        self.handle = GPU.new_stream(flags).handle


class _Allocation:
    def __init__(self, nbytes: int) -> None:
        self._address = GPU.allocate(nbytes)

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        GPU.free(self._address)


def mem_alloc(nbytes: int) -> _Allocation:
    try:
        return _Allocation(nbytes)
    except RefusedError as error:
        raise MemoryError(f"cuMemAlloc failed: {error.code}") from None


class _PagelockedHostAllocation:
    def __init__(self, shape: tuple[int, ...], flags: int) -> None:
        self._backing, self._pointer = GPU.pin(shape, bool(flags & host_alloc_flags.DEVICEMAP))
        self.__array_interface__ = self._backing.__array_interface__

    def get_device_pointer(self) -> int:
        if not self._pointer:
            raise LogicError("cuMemHostGetDevicePointer failed: invalid argument")
        return self._pointer


def pagelocked_empty(shape: tuple[int, ...], dtype: type, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    assert dtype is np.uint8
    return np.asarray(_PagelockedHostAllocation(shape, mem_flags))
