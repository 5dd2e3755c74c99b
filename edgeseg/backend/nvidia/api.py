"""`TensorRtApi`: one surface over the Python modules of TensorRT 8.6, 10 and 11 and of TensorRT-RTX.

Nothing here asks for a version. An attribute is probed once; what a runtime lacks raises CapabilityError with the
remedy. Flags go through their enum members, never through bits: the same bit means STRONGLY_TYPED in 10 and
PREFER_JIT_PYTHON_PLUGINS in 11.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from edgeseg.core.errors import CapabilityError, UnavailableError
from edgeseg.core.types import Precision

Severity = Literal["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"]
LogSink = Callable[[str, str], None]
"""Takes the severity's name and one message; called from the runtime's own threads."""
ProgressSink = Callable[[str, int, int], bool]
"""Takes a phase, steps done and steps in all; returns False to cancel the build."""

MODULES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt_rtx_bindings"}
"""Backend name to import name. TensorRT-RTX's metapackage only re-exports the bindings module."""

_DISTRIBUTIONS = {
    "tensorrt": ("tensorrt", "tensorrt-bindings"),
    "tensorrt_rtx": ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings", "tensorrt-rtx"),
}
_FLAG_OF: dict[str, str] = {"fp16": "FP16", "bf16": "BF16", "int8": "INT8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a runtime has, by probes.

    Attributes:
        weakly_typed: Precision is chosen by builder flags; else it is the tensors' own.
        implicit_int8: INT8 from ranges on a graph without Q/DQ nodes.
        bf16: bfloat16 tensors or flag.
        progress_monitor: The build reports its phases and can be cancelled.
        timing_cache: Kernel timings can be kept between builds.
        portable_plans: The build names compute capabilities and needs no GPU.
        runtime_config: The context has a configuration of its own (graph strategy, runtime cache).
        plan_validity: The runtime can judge a plan without deserialising it.
        version_compatible: A plan can be made to run on later minor versions.
        hardware_compatible: A plan can be made to run on other GPUs.
    """

    weakly_typed: bool
    implicit_int8: bool
    bf16: bool
    progress_monitor: bool
    timing_cache: bool
    portable_plans: bool
    runtime_config: bool
    plan_validity: bool
    version_compatible: bool
    hardware_compatible: bool


class TensorRtApi:
    """A TensorRT module: what it has, and how its objects are made.

    Args:
        module: `tensorrt`, `tensorrt_rtx_bindings`, or a stand-in with the same surface.
    """

    def __init__(self, module: Any) -> None:
        self.trt = module
        self.version = str(module.__version__)
        self.name = "tensorrt_rtx" if "tensorrt_rtx" in str(module.__name__) else "tensorrt"
        self.capabilities = self._probe()

    def __str__(self) -> str:
        return f"{'TensorRT-RTX' if self.name == 'tensorrt_rtx' else 'TensorRT'} {self.version}"

    def check_driver(self, driver: str) -> None:
        """Refuse a driver that is older than the CUDA version that the runtime was built with.

        To be called before a runtime object is made: that of 8.6 crashes the process where CUDA cannot start.

        Args:
            driver: CUDA version of the driver, for example `12.4`.

        Raises:
            UnavailableError: Names both versions.
        """
        needed = needed_cuda_major(text for name in _DISTRIBUTIONS[self.name] for text in _requirements(name))
        if needed is not None and int(driver.split(".")[0]) < needed:
            raise UnavailableError(
                "the NVIDIA driver is too old for this runtime",
                value=f"it has CUDA {driver}",
                allowed=f"{self} was built with CUDA {needed}",
                fix="edgeseg doctor",
            )

    # ------------------------------------------------------------ probes

    def member(self, enum: str, name: str) -> Any | None:
        """A member of one of the module's enums; None where this version has no such enum or member."""
        return getattr(getattr(self.trt, enum, None), name, None)

    def has(self, owner: str, name: str) -> bool:
        """Whether a class of the module has an attribute."""
        return hasattr(getattr(self.trt, owner, None), name)

    def lacks(self, feature: str, *, allowed: str | None = None, fix: str | None = None) -> CapabilityError:
        """The error for a feature that this runtime does not have."""
        return CapabilityError(feature, runtime=str(self), allowed=allowed, fix=fix)

    @property
    def variant(self) -> Literal["weak", "typed"]:
        """Which variant of a graph this runtime builds from: `weak` chooses precision by flags, `typed` by tensors."""
        return "weak" if self.capabilities.weakly_typed else "typed"

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions that this runtime can build, as far as it can be known without a GPU."""
        return ("fp32", "bf16", "fp16", "int8") if self.capabilities.bf16 else ("fp32", "fp16", "int8")

    def knows_gpu(self, compute_capability: str) -> bool:
        """Whether a runtime that names the GPUs it compiles for (TensorRT-RTX) names this one, for example `8.9`."""
        name = "SM" + compute_capability.replace(".", "")
        return hasattr(getattr(self.trt, "ComputeCapability", None), name)

    def check_precision(self, precision: Precision) -> None:
        """Refuse a precision that this runtime lacks.

        Raises:
            CapabilityError: With the nearest precision that it has.
        """
        if precision not in self.precisions:
            raise self.lacks(
                f"precision {precision}",
                allowed=f"allowed: {', '.join(self.precisions)}",
                fix="edgeseg build MODEL --precision fp16",
            )

    def check_implicit(self) -> None:
        """Refuse INT8 without Q/DQ nodes where a runtime knows only those (TensorRT 11, TensorRT-RTX).

        Raises:
            CapabilityError: Names the way that every version has.
        """
        if not self.capabilities.implicit_int8:
            raise self.lacks(
                "INT8 from ranges without Q/DQ nodes",
                allowed="explicit Q/DQ, which every version has",
                fix="edgeseg build MODEL --precision int8, without implicit=true",
            )

    def precision_flags(self, precision: Precision) -> list[Any]:
        """Builder flags that let a weakly typed network run in `precision`; none for a typed one.

        INT8 brings FP16 with it: the layers without Q/DQ nodes would else run in FP32.
        """
        self.check_precision(precision)
        if not self.capabilities.weakly_typed or precision == "fp32":
            return []
        wanted = ("fp16", "int8") if precision == "int8" else (precision,)
        flags = [self.member("BuilderFlag", _FLAG_OF[name]) for name in wanted]
        return [flag for flag in flags if flag is not None]

    def network_flags(self) -> int:
        """Bits for `create_network`: explicit batch where the version knows it (8 needs it, 10 ignores it)."""
        bit = self.member("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH")
        return 0 if bit is None else 1 << int(bit)

    # ------------------------------------------------------------ objects

    def logger(self, sink: LogSink) -> Any:
        """A logger of the module that hands every line to `sink`."""
        trt = self.trt

        class _Logger(trt.ILogger):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                sink(str(severity.name), msg)

        return _Logger()

    def progress_monitor(self, sink: ProgressSink) -> Any | None:
        """A monitor that reports the innermost phase to `sink`; None where the version has none (8.6)."""
        if not self.capabilities.progress_monitor:
            return None
        trt = self.trt

        class _Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)
                self._steps: dict[str, int] = {}

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                del parent_phase  # the innermost phase is the one shown
                self._steps[phase_name] = num_steps
                sink(phase_name, 0, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                return sink(phase_name, step + 1, self._steps.get(phase_name, 0))

            def phase_finish(self, phase_name: str) -> None:
                steps = self._steps.pop(phase_name, 0)
                sink(phase_name, steps, steps)

        return _Monitor()

    def error_recorder(self, sink: LogSink) -> Any:
        """A recorder that keeps what a runtime, engine or context reports outside of its log."""
        trt = self.trt

        class _Recorder(trt.IErrorRecorder):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.IErrorRecorder.__init__(self)
                self._errors: list[tuple[Any, str]] = []

            def num_errors(self) -> int:
                return len(self._errors)

            def get_error_code(self, arg0: int) -> Any:
                return self._errors[arg0][0]

            def get_error_desc(self, arg0: int) -> str:
                return self._errors[arg0][1]

            def has_overflowed(self) -> bool:
                return False

            def clear(self) -> None:
                self._errors.clear()

            def report_error(self, arg0: Any, arg1: str) -> bool:
                self._errors.append((arg0, arg1))
                sink("ERROR", arg1)
                return False

        return _Recorder()

    def profiler(self, sink: Callable[[str, float], None]) -> Any:
        """A profiler that hands layer name and milliseconds of every enqueue to `sink`."""
        trt = self.trt

        class _Profiler(trt.IProfiler):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                sink(layer_name, ms)

        return _Profiler()

    def _probe(self) -> Capabilities:
        trt = self.trt
        return Capabilities(
            weakly_typed=self.member("BuilderFlag", "FP16") is not None,
            implicit_int8=hasattr(trt, "IInt8EntropyCalibrator2"),
            bf16=self.member("DataType", "BF16") is not None,
            progress_monitor=hasattr(trt, "IProgressMonitor") and self.has("IBuilderConfig", "progress_monitor"),
            # RTX keeps the calls and ignores them: it compiles for the GPU when a context is made
            timing_cache=self.has("IBuilderConfig", "set_timing_cache") and not hasattr(trt, "ComputeCapability"),
            portable_plans=hasattr(trt, "ComputeCapability"),
            runtime_config=self.has("ICudaEngine", "create_runtime_config"),
            plan_validity=self.has("Runtime", "get_engine_validity"),
            version_compatible=self.member("BuilderFlag", "VERSION_COMPATIBLE") is not None,
            hardware_compatible=self.member("HardwareCompatibilityLevel", "AMPERE_PLUS") is not None
            and not hasattr(trt, "ComputeCapability"),
        )


def make(factory: Callable[[], Any]) -> Any | None:
    """What a factory of the runtime makes; None where it fails, whichever way it says so.

    Factories return None; constructors of 8.6 raise TypeError about a null pointer instead.
    """
    try:
        return factory()
    except TypeError as error:
        if "nullptr" not in str(error):
            raise
        return None


def needed_cuda_major(requirements: Iterable[str]) -> int | None:
    """Major CUDA version that a TensorRT package was built with, from its distribution's name and requirements.

    Args:
        requirements: For example `tensorrt_cu13_libs==10.16.1` or `nvidia-cuda-runtime-cu12`.

    Returns:
        None where nothing says so, as for JetPack's own packages, which always fit their driver.
    """
    found = [match for text in requirements if (match := re.search(r"[-_]cu(\d{2})\b", text.replace("_", "-")))]
    return int(found[0][1]) if found else None


def load_api(backend: str) -> TensorRtApi:
    """The installed module of `tensorrt` or `tensorrt_rtx`; its package must have been required before.

    Raises:
        UnavailableError: It is installed, but one of NVIDIA's libraries is missing or of another version.
    """
    with loading_libraries(MODULES[backend]):
        return TensorRtApi(importlib.import_module(MODULES[backend]))


def _requirements(distribution: str) -> list[str]:
    try:
        return [distribution, *(importlib.metadata.requires(distribution) or ())]
    except importlib.metadata.PackageNotFoundError:
        return []


@contextmanager
def loading_libraries(package: str) -> Iterator[None]:
    """Turn the failure to load a package's native libraries into one line."""
    try:
        yield
    except (ImportError, OSError) as error:
        line = str(error).strip().split("\n", maxsplit=1)[0]
        missing = "the NVIDIA driver is not installed" if "libcuda" in line else f"{package} cannot be loaded"
        raise UnavailableError(
            missing, value=line, allowed="driver and libraries that fit", fix="edgeseg doctor"
        ) from None
