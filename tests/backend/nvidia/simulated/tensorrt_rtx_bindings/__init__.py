"""The part of TensorRT-RTX that differs from TensorRT 11, over the simulated GPU: typed only, portable, own graphs."""

from __future__ import annotations

import enum
import os
from typing import Any

os.environ["EDGESEG_SIMULATED_TRT"] = "11.4.0"

import tensorrt
from simulated_gpu import GPU
from tensorrt import *  # noqa: F403 - the rest of the surface is the same
from tensorrt import ICudaEngine, IExecutionContext
from tensorrt import Runtime as _Runtime

__version__ = "1.7.1.116"
ComputeCapability = enum.Enum("ComputeCapability", ["SM80", "SM86", "SM89"])
CudaGraphStrategy = enum.Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])
EngineValidity = enum.Enum("EngineValidity", ["VALID", "SUBOPTIMAL", "INVALID"])
_COMPILED = b"compiled for the simulated GPU"


class IRuntimeCache:
    def __init__(self) -> None:
        self._data = b""

    def deserialize(self, data: bytes) -> bool:
        self._data = data if data == _COMPILED else b""
        return bool(self._data)

    def serialize(self) -> bytes:
        return self._data or _COMPILED


class IRuntimeConfig:
    cuda_graph_strategy = CudaGraphStrategy.DISABLED

    def __init__(self) -> None:
        self.cache: IRuntimeCache | None = None

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self.cache = cache
        return True


class _Engine(ICudaEngine):
    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, config: IRuntimeConfig) -> Any:
        context = super().create_execution_context()
        GPU.calls.append(f"context {config.cuda_graph_strategy.name}")
        GPU.calls.append("compile" if config.cache is None or not config.cache._data else "cached")
        return context


class _Context(IExecutionContext):
    """A runtime that captures graphs itself captures anew whenever an address changes."""

    _captured: dict[str, int] | None = None

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._captured != self._addresses:
            GPU.calls.append("capture")
            self._captured = dict(self._addresses)
        return super().execute_async_v3(stream_handle)


tensorrt.ICudaEngine = _Engine  # what its runtime makes of a plan
tensorrt.IExecutionContext = _Context
ICudaEngine = _Engine


class Runtime(_Runtime):
    def get_engine_validity(self, data: bytes) -> tuple[Any, int]:
        return (EngineValidity.VALID, 0) if data.startswith(b"simulated plan") else (EngineValidity.INVALID, 32)
