"""Which GPU CUDA puts first, asked of the driver alone: no context is made, no runtime is started, no memory is taken.

The kernel driver's files name a GPU but not its compute capability, and in a machine with several they do not say which
one CUDA puts first. What a plan must fit is the GPU that will run it, so this is asked of the same driver API.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from edgeseg.core.log import get_logger
from edgeseg.core.types import DeviceInfo

_LOG = get_logger(__name__)
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class FirstGpu:
    """CUDA's device 0.

    Attributes:
        name: For example `NVIDIA GeForce RTX 4090`.
        compute_capability: For example `8.9`.
        cuda: CUDA version of the driver, for example `12.4`.
    """

    name: str
    compute_capability: str
    cuda: str


def first_gpu() -> FirstGpu | None:
    """The GPU that an engine would run on; None where there is none, no driver, or no cuda-bindings to ask with."""
    try:
        from cuda.bindings import driver
    except (ImportError, OSError):
        return None
    try:
        return _ask(driver)
    except (RuntimeError, OSError) as error:  # cuda-bindings loads the driver's library at the first call
        _LOG.debug("the CUDA driver does not tell its GPU: %s", error)
        return None


def complete_device(device: DeviceInfo) -> DeviceInfo:
    """What the machine's files say about it, with what the driver says of its GPU; a Jetson keeps its module's name."""
    gpu = first_gpu()
    if gpu is None:
        return device
    return msgspec.structs.replace(
        device,
        gpu=device.gpu if device.board is not None else gpu.name,
        compute_capability=gpu.compute_capability,
        cuda=gpu.cuda,
    )


def _ask(driver: Any) -> FirstGpu:
    attribute = driver.CUdevice_attribute
    _value(driver.cuInit(0))
    device = _value(driver.cuDeviceGet(0))
    name = _value(driver.cuDeviceGetName(_NAME_BYTES, device))
    major = _value(driver.cuDeviceGetAttribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device))
    minor = _value(driver.cuDeviceGetAttribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device))
    version = int(_value(driver.cuDriverGetVersion()))
    return FirstGpu(
        name=bytes(name).split(b"\0", 1)[0].decode(errors="replace"),
        compute_capability=f"{int(major)}.{int(minor)}",
        cuda=f"{version // 1000}.{version % 1000 // 10}",
    )


def _value(answer: tuple[Any, ...]) -> Any:
    code, *values = answer
    if int(code) != 0:
        raise RuntimeError(getattr(code, "name", str(code)))
    return values[0] if values else None
