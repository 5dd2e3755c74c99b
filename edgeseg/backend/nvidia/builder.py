"""The backends `tensorrt` and `tensorrt_rtx`: an ONNX file of the right variant to a plan, and a plan to a Runner."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import msgspec
import numpy as np
import onnx

from edgeseg.backend.base import input_shape
from edgeseg.backend.nvidia import audit as audits
from edgeseg.backend.nvidia import dla
from edgeseg.backend.nvidia.api import LogSink, ProgressSink, TensorRtApi, load_api, loading_libraries
from edgeseg.backend.nvidia.calibration import Ranges, decode_cache, encode_cache
from edgeseg.backend.nvidia.child import run_in_child
from edgeseg.backend.nvidia.gpu import complete_device, first_gpu
from edgeseg.backend.nvidia.loading import inspect_plan
from edgeseg.backend.nvidia.network import BuildJob, NetworkBuild
from edgeseg.backend.nvidia.options import NvidiaOptions, nvidia_options
from edgeseg.backend.nvidia.phases import LogPhases
from edgeseg.backend.onnx_model import check_model
from edgeseg.backend.profiling import LayerTime
from edgeseg.core.artefacts import write_bytes
from edgeseg.core.clock import now_ns
from edgeseg.core.deps import on_jetson, require
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import CapabilityError, RequestError, VerifyError
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import U8, BuiltEngine, DeviceInfo, EngineSpec, Precision, Runner, RunnerSpec
from edgeseg.core.workspace import cache_dir

if TYPE_CHECKING:
    from edgeseg.backend.nvidia.runner import TensorRtRunner

PLAN_FILE = "engine.plan"
CACHE_FILE = "calibration.cache"
_LISTING = "Layers:"
_AMPERE = "8.0+"
_DLA_RUNS = 20
_SILENT = Silent()
_NO_GPU_TO_ASK = "this runtime tells its layers only to a GPU's inspector"


class BuildOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the build's process tells its parent.

    Attributes:
        seconds: Duration of parse and build.
        plan_bytes: Size of the plan.
        dla_share: Share of layers on DLA; None without one.
        kernels: Of RTX's build log, or of the engine inspector where there is a GPU; else empty.
        unread: Why the inspector's answer could not be read; empty where it could, or was not asked.
        warnings: Warning lines, each once.
    """

    seconds: float
    plan_bytes: int
    dla_share: float | None
    kernels: tuple[audits.Kernel, ...]
    unread: str = ""
    warnings: tuple[str, ...]


def build_plan(request: tuple[str, BuildJob], log: LogSink, progress: ProgressSink) -> BuildOutcome:
    """Build one plan, in this process. Runs in the child."""
    backend, job = request
    listing: list[str] = []
    warnings: dict[str, None] = {}

    api = load_api(backend)
    phases = None if api.capabilities.progress_monitor else LogPhases(progress)

    def sink(severity: str, text: str) -> None:
        if phases is not None:
            phases.read(text)
        if severity == "VERBOSE":
            if text.lstrip().startswith(_LISTING):
                listing.append(text)
            return  # tens of thousands of lines on 8.6: of use to nobody but the audit
        if severity == "WARNING":
            warnings[text] = None
        log(severity, text)

    begin_ns = now_ns()
    build = NetworkBuild(api, job, sink, progress)
    plan = build.run()
    seconds = (now_ns() - begin_ns) / 1e9
    write_bytes(job.plan, plan)
    kernels, unread = audits.kernels_from_log(listing), ""
    if not kernels and _gpu_is_here():
        text = inspect_plan(build.api, plan, sink)
        kernels, unread = ([], "") if text is None else _kernels_or_why(text)
    return BuildOutcome(
        seconds=seconds,
        plan_bytes=len(plan),
        dla_share=build.dla_share,
        kernels=tuple(kernels),
        unread=unread,
        warnings=tuple(warnings),
    )


def _kernels_or_why(text: str) -> tuple[list[audits.Kernel], str]:
    """The inspector's kernels, or why there are none: a plan that is built is not lost for an answer about it."""
    try:
        return audits.kernels_from_inspector(text), ""
    except VerifyError as error:
        return [], str(error)


class _NvidiaBuilder:
    """What the two backends share."""

    name: str

    @cached_property
    def api(self) -> TensorRtApi:
        """The runtime's module."""
        return load_api(self.name)

    @property
    def version(self) -> str:
        """Version of the runtime."""
        return self.api.version

    @property
    def precisions(self) -> Sequence[Precision]:
        """Precisions that this runtime can build."""
        return self.api.precisions

    @property
    def variant(self) -> Literal["weak", "typed"]:
        """Which variant of a graph `build` takes."""
        return self.api.variant

    def sibling(self, precision: Precision) -> Precision | None:
        """The precision to build and time beside `precision`, since INT8 is not always faster; None without a GPU."""
        return "fp16" if precision == "int8" and _gpu_is_here() else None

    def complete_device(self, device: DeviceInfo) -> DeviceInfo:
        """The machine with the GPU that CUDA puts first, as its driver tells it."""
        return complete_device(device)

    def build(
        self,
        model: Path,
        folder: Path,
        spec: EngineSpec,
        progress: Progress = _SILENT,
        *,
        ranges: Ranges | None = None,
        frames: Sequence[U8] | None = None,
    ) -> BuiltEngine:
        """Build `engine.plan` in a process of its own.

        Args:
            model: Static ONNX file in this runtime's `variant`; with Q/DQ nodes for INT8, unless implicit.
            folder: Where the plan is written.
            spec: What it shall be; see `NvidiaOptions` for its options.
            progress: Where the build's phases are shown.
            ranges: (low, high) by tensor name, with the option `implicit`; else read from the calibration cache
                MODEL.cache beside MODEL.onnx where there is one. A copy of the cache goes into `folder`, for trtexec.
            frames: Submissions for NVIDIA's own calibrator, with the option `implicit` and no ranges.

        Raises:
            CapabilityError: The runtime or the board lacks what was asked for.
            RequestError: The model does not fit the request.
            EdgesegError: The build failed, with the runtime's last lines.
        """
        options = _of_precision(nvidia_options(spec.options, backend=self.name), spec.precision)
        self.api.check_precision(spec.precision)
        gpu = first_gpu()
        if gpu is not None:  # 8.6 crashes where CUDA cannot start, instead of saying so
            self.api.check_driver(gpu.cuda)
        proto = self._check(model, spec, options, frames)
        if options.implicit:
            ranges = _implicit_ranges(model, folder, ranges, self.version)
        job = BuildJob(
            model=model,
            plan=folder / PLAN_FILE,
            precision=spec.precision,
            options=_with_workspace(options),
            ranges=ranges,
            timing_cache=self._timing_cache(),
        )
        what = f"building with {self.api}"
        with _frames_file(frames) as file:
            job = msgspec.structs.replace(job, frames=file)
            outcome: BuildOutcome = run_in_child(build_plan, (self.name, job), what=what, progress=progress)
        found = audits.audit(outcome.kernels, proto, spec.precision)
        here = self._runs_here(options)
        dla_times = self._dla_time(folder / PLAN_FILE, spec) if here and options.dla_core >= 0 else {}
        return BuiltEngine(
            file=PLAN_FILE,
            backend=self.name,
            backend_version=self.version,
            precision=spec.precision,
            layers=found.layers,
            same_gpu=not self.api.capabilities.portable_plans and options.hardware_compatible == "none",
            compute_capabilities=self._fits(options),
            report={
                "seconds": round(outcome.seconds, 3),
                "plan_bytes": outcome.plan_bytes,
                "dla_share": outcome.dla_share,
                **dla_times,
                "audit": found.summary() if found.kernels else None,
                "audit_reason": None if found.kernels else outcome.unread or _NO_GPU_TO_ASK,
                "warnings": list(outcome.warnings),
            },
            can_run_here=here,
        )

    def open(self, engine: Path, spec: EngineSpec, *, throughput: bool = False) -> Runner:
        """A runner over a verified plan; nothing touches the GPU before it is entered.

        For throughput two frames are in flight: the copy of one beside the run of another. That is for files; a
        camera's newest frame would wait behind an older one.

        Raises:
            UnavailableError: pycuda or cuda-bindings is not installed, or the driver is missing.
        """
        require("pycuda", what=f"an engine of {self.name}")
        from edgeseg.backend.nvidia.runner import TensorRtRunner

        with loading_libraries("pycuda or cuda-bindings"):
            from edgeseg.backend.nvidia.cuda import CudaDriver

        options = nvidia_options(spec.options, backend=self.name)
        if throughput:
            options = msgspec.structs.replace(options, depth=2)
        if options.version_compatible:
            raise CapabilityError(
                "running a version-compatible plan",
                runtime=str(self.api),
                allowed="it carries host code, which is never executed from a plan; such a plan is for other programs",
                fix="edgeseg build MODEL, without version_compatible",
            )
        return TensorRtRunner(self.api, CudaDriver, engine, spec, options)

    def profile(self, engine: Path, spec: EngineSpec, frames: Sequence[U8], runs: int) -> list[LayerTime]:
        """Times by layer from TensorRT's profiler, in plain enqueues; see `edgeseg.backend.profiling.Profiler`."""
        plain = msgspec.structs.replace(spec, options={**spec.options, "cuda_graph": False, "depth": 1})
        runner = cast("TensorRtRunner", self.open(engine, plain))
        with runner:
            runner.infer(frames[0]).release()  # the times do not depend on the picture
            runner.layer_times_ms(runs)
            times = runner.layer_times_ms(runs)
            kernels = {kernel.name: kernel for kernel in _kernels_or_why(runner.inspect())[0]}
        return [_layer_time(name, ms, kernels.get(name)) for name, ms in times.items()]

    def _runs_here(self, options: NvidiaOptions) -> bool:
        """Whether a plan of these options can be run on this machine's GPU by this toolkit."""
        if options.version_compatible or not _gpu_is_here():
            return False
        if not self.api.capabilities.portable_plans:
            return True
        gpu = first_gpu()  # a portable plan runs on the GPUs that it was compiled for
        wanted = options.compute_capabilities.replace(" ", "").split(",") if options.compute_capabilities else []
        return (
            gpu is not None
            and self.api.knows_gpu(gpu.compute_capability)
            and (not wanted or gpu.compute_capability in wanted)
        )

    def _fits(self, options: NvidiaOptions) -> tuple[str, ...]:
        """Compute capabilities that a plan of these options runs on; empty where only a driver could tell."""
        if options.compute_capabilities:
            return tuple(options.compute_capabilities.replace(" ", "").split(","))
        if self.api.capabilities.portable_plans or options.hardware_compatible == "ampere_plus":
            return (_AMPERE,)
        gpu = first_gpu()
        return () if gpu is None else (gpu.compute_capability,)

    def _dla_time(self, plan: Path, spec: EngineSpec) -> dict[str, object]:
        """Share of the layers' time that runs on DLA, for the report."""
        share = dla.time_share(self.profile(plan, spec, [np.zeros(_input_shape(spec), np.uint8)], _DLA_RUNS))
        reason = "the runtime's layer list names no layer on DLA" if share is None else None
        return {"dla_time_share": share, "dla_time_reason": reason}

    def _check(
        self, model: Path, spec: EngineSpec, options: NvidiaOptions, frames: Sequence[U8] | None
    ) -> onnx.ModelProto:
        if options.implicit:
            self.api.check_implicit()
        # an implicit INT8 engine is built from the float graph
        as_built = msgspec.structs.replace(spec, precision="fp32") if options.implicit else spec
        proto = check_model(model, as_built)
        if frames is not None and spec.input_format == "nv12":
            raise RequestError(
                "NVIDIA's calibrator takes frames of one plane",
                value=spec.input_format,
                allowed="bgr or yuyv, or ranges instead of frames",
            )
        if options.dla_core >= 0:
            if spec.precision == "int8" and not options.implicit:
                raise RequestError(
                    "DLA has no Q/DQ nodes",
                    value=f"dla_core={options.dla_core}",
                    allowed="INT8 with implicit=true, or FP16",
                )
            dla.check_operators({node.op_type for node in proto.graph.node})
        return proto

    def _timing_cache(self) -> Path | None:
        if not self.api.capabilities.timing_cache:
            return None
        device = complete_device(fingerprint())  # a cache of another GPU is refused by the runtime
        gpu = re.sub(r"[^a-z0-9]+", "-", (device.gpu or "gpu").lower()).strip("-")
        return cache_dir() / "timing" / f"{self.name}-{self.version}-{gpu}.cache"


class TensorRtBuilder(_NvidiaBuilder):
    """TensorRT 8.6, 10 and 11: builds and runs on the GPU that it is for."""

    name = "tensorrt"


class TensorRtRtxBuilder(_NvidiaBuilder):
    """TensorRT-RTX: builds without a GPU, runs on desktop GPUs from Ampere on."""

    name = "tensorrt_rtx"


def _implicit_ranges(model: Path, folder: Path, ranges: Ranges | None, version: str) -> Ranges | None:
    """The given ranges, else those of the cache beside the model; a cache of them goes into the engine's folder."""
    beside = model.with_suffix(".cache")
    if ranges is None and beside.is_file():
        ranges = {name: (-amax, amax) for name, amax in decode_cache(beside.read_bytes()).items()}
    if ranges is not None:
        write_bytes(folder / CACHE_FILE, encode_cache(ranges, version))
    return ranges


def _of_precision(options: NvidiaOptions, precision: Precision) -> NvidiaOptions:
    """`implicit` says how INT8 is done: an FP16 engine of the same recipe has nothing of it."""
    return options if precision == "int8" else msgspec.structs.replace(options, implicit=False)


def _input_shape(spec: EngineSpec) -> tuple[int, ...]:
    return input_shape(RunnerSpec.of(spec, backend="tensorrt"))


def _layer_time(name: str, ms: float, kernel: audits.Kernel | None) -> LayerTime:
    return LayerTime(
        name=name,
        layers=() if kernel is None else kernel.nodes,
        kind="" if kernel is None else kernel.kind,
        implementation="",
        precision="unknown" if kernel is None else kernel.precision,
        moves=kernel is not None and kernel.moves,
        time_ns=round(ms * 1e6),
    )


@contextmanager
def _frames_file(frames: Sequence[U8] | None) -> Iterator[Path | None]:
    """The frames as a file that the build's process maps, for the time of the `with` block."""
    if frames is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="edgeseg-frames-") as folder:
        file = Path(folder) / "frames.npy"
        np.save(file, np.stack(frames))
        yield file


def _with_workspace(options: NvidiaOptions) -> NvidiaOptions:
    """On a Jetson the GPU's memory is everybody's: the builder gets half of what is free."""
    if options.workspace_mb or not on_jetson():
        return options
    return msgspec.structs.replace(options, workspace_mb=free_memory_mb() // 2)


def free_memory_mb(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that programs may still take, in MiB."""
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def _gpu_is_here() -> bool:
    """Whether a driver has put a GPU into /dev; says nothing about its version."""
    return any(Path(name).exists() for name in ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu"))
