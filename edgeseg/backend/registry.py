"""The backends by name; a backend's file is imported when it is asked for, after its packages were checked."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from edgeseg.core.config import unknown_name
from edgeseg.core.deps import Availability, probe_package, require
from edgeseg.core.types import Builder, DeviceInfo


@dataclass(frozen=True, slots=True)
class _Entry:
    module: str
    builder: str
    packages: tuple[str, ...]


_ENTRIES = MappingProxyType(
    {
        "onnxruntime": _Entry("edgeseg.backend.onnxruntime", "OnnxRuntimeBuilder", ("onnxruntime", "onnx")),
        "openvino": _Entry("edgeseg.backend.openvino", "OpenVinoBuilder", ("openvino", "onnx")),
        "tensorrt": _Entry("edgeseg.backend.nvidia.builder", "TensorRtBuilder", ("tensorrt", "onnx")),
        "tensorrt_rtx": _Entry(
            "edgeseg.backend.nvidia.builder", "TensorRtRtxBuilder", ("tensorrt_rtx_bindings", "onnx")
        ),
        "trtexec": _Entry("edgeseg.backend.nvidia.trtexec", "TrtexecBuilder", ("onnx",)),
        "null": _Entry("edgeseg.backend.null", "NullBuilder", ()),
    }
)


def backend_names() -> list[str]:
    """Names of all backends, installed or not."""
    return list(_ENTRIES)


def probe_backends() -> list[Availability]:
    """Whether each backend could run here, without importing any."""
    return [_probe(name, entry) for name, entry in _ENTRIES.items()]


def get_builder(name: str) -> Builder:
    """The builder of one backend.

    Raises:
        RequestError: No backend has that name.
        UnavailableError: Its packages are not installed.
    """
    if name not in _ENTRIES:
        raise unknown_name("backend", name, backend_names())
    entry = _ENTRIES[name]
    require(*entry.packages, what=f"the backend {name}")
    return cast(Builder, getattr(importlib.import_module(entry.module), entry.builder)())


def device_of(builder: Builder, device: DeviceInfo) -> DeviceInfo:
    """The machine, with what only a backend's own driver tells of it: the GPU's name and compute capability."""
    complete: Callable[[DeviceInfo], DeviceInfo] = getattr(builder, "complete_device", lambda info: info)
    return complete(device)


def _probe(name: str, entry: _Entry) -> Availability:
    if not entry.packages:
        return Availability(name, True, "built in; a latency for tests, not a network")
    found = [probe_package(package) for package in entry.packages]
    missing = next((package for package in found if not package.ok), None)
    if missing is not None:
        return Availability(name, False, f"{missing.name} is not installed", missing.remedy)
    return Availability(name, True, found[0].detail)
