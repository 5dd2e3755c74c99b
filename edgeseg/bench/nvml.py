"""Readings of a desktop NVIDIA GPU through NVIDIA's own library (nvidia-ml-py); nothing where it is not installed.

On a Jetson the library is there but tells nothing of the integrated GPU: sysfs does (`sensors`).
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from edgeseg.core.deps import on_jetson, probe_package

# reasons that slow a GPU down against its will; the others are idle, a user's clocks or a synchronised pair
_THROTTLES = (
    ("nvmlClocksThrottleReasonSwThermalSlowdown", "thermal"),
    ("nvmlClocksThrottleReasonHwThermalSlowdown", "thermal (hardware)"),
    ("nvmlClocksThrottleReasonHwPowerBrakeSlowdown", "power brake"),
    ("nvmlClocksThrottleReasonSwPowerCap", "power cap"),
)


def gpu_readings() -> Iterator[tuple[str, str, Callable[[], float | None]]]:
    """(kind, name, reading) of every GPU: temperature_c, clock_mhz, power_w, throttle."""
    if on_jetson() or not probe_package("pynvml").ok:
        return
    nvml = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return
    for i, handle in enumerate(handles):
        name = f"gpu{i}"
        sensors: list[tuple[str, str, Callable[[], Any], float]] = [
            ("temperature_c", name, _of(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU), 1.0),
            ("clock_mhz", f"{name} sm", _of(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM), 1.0),
            ("clock_mhz", f"{name} memory", _of(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM), 1.0),
            ("power_w", name, _of(nvml.nvmlDeviceGetPowerUsage, handle), 1e-3),
        ]
        for kind, label, call, scale in sensors:
            reading = _guarded(nvml, call, scale)
            if reading() is not None:
                yield kind, label, reading
        yield from _throttles(nvml, handle, name)


def _throttles(nvml: ModuleType, handle: object, name: str) -> Iterator[tuple[str, str, Callable[[], float | None]]]:
    reasons = _guarded(nvml, _of(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle), 1.0)
    if reasons() is None:
        return
    for attribute, label in _THROTTLES:
        bit = getattr(nvml, attribute, None)
        if bit is not None:
            yield "throttle", f"{name} {label}", _bit(reasons, int(bit))


def _of(call: Callable[..., Any], *arguments: object) -> Callable[[], Any]:
    return lambda: call(*arguments)


def _guarded(nvml: ModuleType, call: Callable[[], Any], scale: float) -> Callable[[], float | None]:
    def read() -> float | None:
        with contextlib.suppress(nvml.NVMLError):
            return float(call()) * scale
        return None

    return read


def _bit(reasons: Callable[[], float | None], bit: int) -> Callable[[], float | None]:
    def read() -> float | None:
        value = reasons()
        return None if value is None else float(bool(int(value) & bit))

    return read
