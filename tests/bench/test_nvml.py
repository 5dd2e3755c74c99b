import sys
import types

import pytest

from edgeseg.bench import nvml


@pytest.fixture
def library(monkeypatch):
    """A stub of nvidia-ml-py with two GPUs, of which the second has no power sensor."""

    class NVMLError(Exception):
        pass

    def power(handle):
        if handle == 1:
            raise NVMLError("not supported")
        return 71_500

    stub = types.SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        nvmlClocksThrottleReasonSwThermalSlowdown=0x20,
        nvmlClocksThrottleReasonSwPowerCap=0x4,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTemperature=lambda handle, sensor: 55 + handle,
        nvmlDeviceGetClockInfo=lambda handle, clock: 1000 * clock,
        nvmlDeviceGetPowerUsage=power,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x21 if handle == 0 else 0x1,
    )
    monkeypatch.setitem(sys.modules, "pynvml", stub)
    return stub


def test_what_each_gpu_tells(library):
    found = {(kind, name): read() for kind, name, read in nvml.gpu_readings()}
    assert found["temperature_c", "gpu0"] == 55
    assert found["clock_mhz", "gpu1 sm"] == 1000
    assert found["power_w", "gpu0"] == pytest.approx(71.5)
    assert ("power_w", "gpu1") not in found
    assert found["throttle", "gpu0 thermal"] == 1
    assert found["throttle", "gpu0 power cap"] == 0
    assert found["throttle", "gpu1 thermal"] == 0


def test_nothing_without_a_driver(library):
    def fail():
        raise library.NVMLError("driver not loaded")

    library.nvmlInit = fail
    assert list(nvml.gpu_readings()) == []


def test_nothing_without_the_library(monkeypatch):
    monkeypatch.setattr(nvml, "probe_package", lambda name: types.SimpleNamespace(ok=False))
    assert list(nvml.gpu_readings()) == []
