"""A `Runner` over a TensorRT plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.backend.base import BaseRunner, input_planes, input_shape
from edgeseg.backend.nvidia.api import TensorRtApi
from edgeseg.backend.nvidia.loading import LoadedEngine
from edgeseg.backend.nvidia.options import NvidiaOptions
from edgeseg.backend.nvidia.transport import Mapped, Pinned, Transport, fastest
from edgeseg.backend.ring import Slot
from edgeseg.core.artefacts import sha256_file, write_bytes
from edgeseg.core.log import get_logger
from edgeseg.core.types import U8, EngineSpec, RunnerSpec, RunTimes
from edgeseg.core.workspace import cache_dir

if TYPE_CHECKING:
    from edgeseg.backend.nvidia.cuda import CudaDriver, GpuInfo

_LOG = get_logger(__name__)


class TensorRtRunner(BaseRunner):
    """Runs a plan: page-locked buffers, one enqueue or graph launch a frame, GPU events for times.

    For cameras `depth` stays 1: the newest frame is taken at the last moment. With depth 2 the copy of one frame
    overlaps the run of another, which raises throughput of files and latency of cameras alike.

    Args:
        api: The runtime.
        driver: Makes the CUDA driver; called when the runner is entered.
        plan: The verified plan file.
        spec: What the manifest says about it.
        options: How to run it.
    """

    def __init__(
        self, api: TensorRtApi, driver: Callable[[], CudaDriver], plan: Path, spec: EngineSpec, options: NvidiaOptions
    ) -> None:
        super().__init__(
            RunnerSpec.of(spec, backend=str(api), depth=options.depth),
            outputs=options.outputs,
        )
        self._api = api
        self._driver = driver
        self._plan = plan
        self._options = options
        self._cuda: CudaDriver | None = None
        self._engine: LoadedEngine | None = None
        self._transport: Transport | None = None
        self._runtime_graphs = False
        self._mapped = False
        self._held: tuple[Sequence[U8], Sequence[Slot]] = ((), ())

    # ------------------------------------------------------------ what is known once it is entered

    @property
    def gpu(self) -> GpuInfo:
        """The GPU that runs it."""
        assert self._cuda is not None
        return self._cuda.info

    @property
    def io(self) -> str:
        """How frames come in and masks out: `mapped` or `pinned`."""
        assert self._transport is not None
        return self._transport.name

    @property
    def graph(self) -> str:
        """Who replays graphs: `own`, `runtime` (TensorRT-RTX) or `none`."""
        assert self._transport is not None
        return "runtime" if self._runtime_graphs else "own" if self._transport.captured else "none"

    def memory_bytes(self) -> tuple[int, int]:
        """Free and total device memory in bytes."""
        assert self._cuda is not None
        return self._cuda.memory_bytes()

    def layer_times_ms(self, runs: int = 50) -> dict[str, float]:
        """Median milliseconds of each layer by the runtime's name, measured in plain enqueues of their own."""
        assert self._cuda is not None
        assert self._engine is not None
        assert self._transport is not None
        stream = self._transport.address_buffers()
        cuda = self._cuda
        times = self._engine.profile(stream, runs, lambda: cuda.synchronize(stream))
        return {name: median(values) for name, values in times.items()}

    def inspect(self) -> str:
        """The engine inspector's JSON, for the layer audit."""
        assert self._engine is not None
        return self._engine.inspect()

    # ------------------------------------------------------------ BaseRunner

    def _open(self) -> None:
        self._cuda = self._driver()
        self._cuda.open()
        info = self._cuda.info
        self._api.check_driver(info.driver)
        self._engine = LoadedEngine(self._api, self._plan)
        batch, size = self._spec.batch, self._spec.frame_size
        outputs = {"mask": (batch, *size)}
        if self._spec.confidence:
            outputs["confidence"] = (batch, *size)
        template = np.empty(input_shape(self._spec), np.uint8)
        inputs = {name: plane.shape for name, plane in input_planes(self._spec, template).items()}
        self._engine.load(inputs=inputs, outputs=outputs)
        self._runtime_graphs = self._engine.create_context(
            own_graph=self._options.cuda_graph and self._spec.depth == 1, cache=self._read_cache()
        )
        # a runtime that captures graphs itself captures anew when an address changes: it gets fixed device buffers
        self._mapped = info.maps_host_memory and self._options.io != "pinned" and not self._runtime_graphs

    def _allocate(self, shape: tuple[int, ...]) -> U8:
        assert self._cuda is not None
        return self._cuda.host_empty(shape, mapped=self._mapped)

    def _bind(self, inputs: Sequence[U8], slots: Sequence[Slot]) -> None:
        assert self._cuda is not None
        assert self._engine is not None
        self._held = (inputs, slots)  # the GPU writes into these until the last run is waited for
        capture = self._options.cuda_graph and not self._runtime_graphs
        kinds: list[type[Transport]] = [Mapped] if self._mapped else []
        if not self._mapped or self._options.io == "auto":
            kinds.append(Pinned)
        made = [kind(self._cuda, self._engine, self._spec, capture=capture) for kind in kinds]
        self._transport = fastest(made, inputs, slots)
        _LOG.debug("%s: I/O %s, graphs %s", self._api, self.io, self.graph)

    def _start(self, feed: int, slot: int) -> None:
        assert self._transport is not None
        self._transport.start(feed, slot)

    def _finish(self, slot: int) -> RunTimes:
        del slot  # runs finish in order of submission
        assert self._transport is not None
        return self._transport.finish()

    def _close(self) -> None:
        try:
            if self._transport is not None:
                self._transport.drain()
            if self._engine is not None:
                self._write_cache(self._engine.runtime_cache())
        finally:
            self._transport = None
            if self._cuda is not None:
                self._cuda.destroy_graphs()
            if self._engine is not None:
                self._engine.close()
                self._engine = None
            self._held = ((), ())
            if self._cuda is not None:
                self._cuda.close()
                self._cuda = None

    # ------------------------------------------------------------ what this machine learnt

    def _cache_file(self) -> Path:
        return cache_dir() / "runtime" / f"{sha256_file(self._plan)}.cache"

    def _read_cache(self) -> bytes:
        if not self._api.capabilities.runtime_config:
            return b""
        file = self._cache_file()
        return file.read_bytes() if file.is_file() else b""

    def _write_cache(self, data: bytes) -> None:
        if data and data != self._read_cache():
            write_bytes(self._cache_file(), data)
