"""From a plan to an engine that can be enqueued: trust, validity, tensors, addresses.

A plan is code. It reaches this file after its bundle was verified; host code inside it stays disallowed, no plugin
library is ever loaded from a path, and the bytes that are checked are the bytes that are deserialised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeseg.backend.nvidia.api import LogSink, TensorRtApi, make
from edgeseg.backend.nvidia.failures import REBUILD, explain
from edgeseg.core.errors import EdgesegError, FitError, VerifyError
from edgeseg.core.log import get_logger

_LOG = get_logger(__name__)
_SERIOUS = ("INTERNAL_ERROR", "ERROR", "WARNING")  # 8.6 says in a warning that CUDA does not start
Tensors = Mapping[str, tuple[int, ...]]


class LoadedEngine:
    """A deserialised plan with one execution context. Needs an open CUDA context.

    Args:
        api: The runtime.
        plan: The verified plan file.
    """

    def __init__(self, api: TensorRtApi, plan: Path) -> None:
        self._api = api
        self._plan = plan
        self._said: list[str] = []
        self._logger = api.logger(self._log)
        self._recorder = api.error_recorder(self._log)
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._runtime_cache: Any = None

    def load(self, *, inputs: Tensors, outputs: Tensors) -> None:
        """Deserialise, and refuse an engine with other tensors.

        Args:
            inputs: Shape of each input by name; all are uint8.
            outputs: Shape of each output by name; all are uint8.

        Raises:
            VerifyError: The plan is truncated or foreign, or has other tensors.
            FitError: It was built by another version or for another GPU.
            UnavailableError: No GPU, or a driver that is too old.
        """
        runtime = make_runtime(self._api, self._logger)
        if runtime is None:
            raise self._explain("the runtime does not start", "edgeseg doctor")
        runtime.error_recorder = self._recorder
        self._runtime = runtime
        data = self._plan.read_bytes()
        self._check_validity(runtime, data)
        engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise self._explain("the plan cannot be loaded")
        self._engine = engine
        self._check_tensors(engine, inputs, outputs)

    def create_context(self, *, own_graph: bool, cache: bytes = b"") -> bool:
        """Make the execution context.

        Args:
            own_graph: Let the runtime capture graphs itself where it can (TensorRT-RTX).
            cache: What `runtime_cache` gave at the end of an earlier run: saves compiling for the GPU again.

        Returns:
            Whether the runtime captures graphs itself, so that the caller must not.
        """
        engine = self._engine
        context, owns = None, False
        if self._api.capabilities.runtime_config and self._api.has("IRuntimeConfig", "cuda_graph_strategy"):
            runtime_config = self._made("prepare a run", engine.create_runtime_config)
            if own_graph:
                runtime_config.cuda_graph_strategy = self._api.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
                owns = True
            runtime_cache = self._made("keep its kernels", runtime_config.create_runtime_cache)
            if cache and not runtime_cache.deserialize(cache):
                _LOG.debug("the runtime cache is of another version, GPU or driver; starting a new one")
            if not runtime_config.set_runtime_cache(runtime_cache):
                raise self._explain("the runtime does not take its own kernel cache")
            self._runtime_cache = runtime_cache
            context = engine.create_execution_context(runtime_config)
        else:
            context = engine.create_execution_context()
        if context is None:
            raise self._explain("the engine cannot be prepared")
        context.error_recorder = self._recorder
        self._context = context
        return owns

    def runtime_cache(self) -> bytes:
        """Kernels that were compiled for this GPU, for the next start; empty where the runtime keeps none."""
        runtime_cache = self._runtime_cache
        blob = None if runtime_cache is None else runtime_cache.serialize()
        return b"" if blob is None else bytes(blob)

    def set_addresses(self, addresses: Mapping[str, int]) -> None:
        """Where the next enqueue reads and writes."""
        context = self._context
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise self._explain(f"the engine refuses the memory of {name}")

    def enqueue(self, stream: int) -> bool:
        """Start the engine on a stream; False where the runtime refused."""
        context = self._context
        return bool(context.execute_async_v3(stream))

    def enqueue_or_raise(self, stream: int) -> None:
        """Start the engine on a stream.

        Raises:
            EdgesegError: The runtime refused; with its last lines.
        """
        if not self.enqueue(stream):
            raise self._explain("the engine failed while running")

    def device_bytes(self) -> int:
        """Device memory that the execution context uses for activations."""
        engine = self._engine
        if self._api.has("ICudaEngine", "device_memory_size_v2"):
            return int(engine.device_memory_size_v2)
        return int(engine.device_memory_size)

    def profile(self, stream: int, runs: int, wait: Callable[[], None]) -> dict[str, list[float]]:
        """Milliseconds of every layer in each of `runs` plain enqueues; a run of its own, since it slows all of them.

        Args:
            stream: Where to enqueue; addresses are set.
            runs: How often.
            wait: Waits for the stream.
        """
        times: dict[str, list[float]] = {}
        profiler = self._api.profiler(lambda name, ms: times.setdefault(name, []).append(ms))
        context = self._context
        context.profiler = profiler
        try:
            for _ in range(runs):
                self.enqueue_or_raise(stream)
                wait()
        finally:
            context.profiler = None
        return times

    def inspect(self) -> str:
        """The engine inspector's JSON."""
        engine = self._engine
        inspector = self._made("be inspected", engine.create_engine_inspector)
        return str(inspector.get_engine_information(self._api.trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Let go of context, engine and runtime, in this order."""
        self._runtime_cache = None
        self._context = None
        self._engine = None
        self._runtime = None

    # ------------------------------------------------------------ checks

    def _made(self, what: str, factory: Callable[[], Any]) -> Any:
        made = make(factory)
        if made is None:
            raise self._explain(f"the engine could not {what}")
        return made

    def _check_validity(self, runtime: Any, data: bytes) -> None:
        """Ask a runtime that can judge a plan without deserialising it."""
        if not self._api.capabilities.plan_validity:
            return
        verdict, reasons = runtime.get_engine_validity(data)
        if verdict == self._api.trt.EngineValidity.INVALID:
            error = self._explain("the plan is not valid here")
            if type(error) is not EdgesegError:
                raise error
            raise FitError(  # the log gave no better reason
                "the plan is not valid on this machine",
                value=f"{self._api}: reasons {int(reasons):#x}",
                allowed="a plan of this version for this GPU",
                fix=f"edgeseg rebuild {self._plan.parent}",
            )

    def _check_tensors(self, engine: Any, inputs: Tensors, outputs: Tensors) -> None:
        trt = self._api.trt
        found: dict[str, tuple[tuple[int, ...], str]] = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            mode = "in" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "out"
            if engine.get_tensor_dtype(name) != trt.DataType.UINT8:
                raise _other_tensors(self._plan, f"{name}: {engine.get_tensor_dtype(name)}", "uint8 tensors")
            found[name] = (tuple(engine.get_tensor_shape(name)), mode)
        expected = {name: (shape, "in") for name, shape in inputs.items()}
        expected |= {name: (shape, "out") for name, shape in outputs.items()}
        if found != expected:
            raise _other_tensors(self._plan, found, str(expected))

    def _explain(self, what: str, fix: str = REBUILD) -> EdgesegError:
        return explain(what, self._said, runtime=str(self._api), fix=fix, bundle=self._plan.parent)

    def _log(self, severity: str, text: str) -> None:
        if severity in _SERIOUS:
            self._said.append(text)
        _LOG.debug("%s: %s", severity.lower(), text)


def make_runtime(api: TensorRtApi, logger: Any) -> Any | None:
    """A runtime that never executes host code from a plan; None where it does not start."""
    trt = api.trt
    runtime = make(lambda: trt.Runtime(logger))
    if runtime is not None and api.has("Runtime", "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = False
    return runtime


def inspect_plan(api: TensorRtApi, plan: bytes, log: LogSink) -> str | None:
    """The engine inspector's JSON of a plan that this process has just built; None where no GPU can load it."""
    trt = api.trt
    logger = api.logger(log)
    runtime = make_runtime(api, logger)
    engine = None if runtime is None else runtime.deserialize_cuda_engine(plan)
    inspector = None if engine is None else engine.create_engine_inspector()
    return None if inspector is None else str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def _other_tensors(plan: Path, found: object, expected: str) -> VerifyError:
    what = "the plan has other tensors than its manifest says"
    return VerifyError(what, value=f"{plan}: {found}", allowed=expected, fix=f"edgeseg rebuild {plan.parent}")
