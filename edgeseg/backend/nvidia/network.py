"""From an ONNX file to a plan: parse, precision, memory, DLA, build. Runs in the build's own process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from edgeseg.backend.nvidia import dla
from edgeseg.backend.nvidia.api import LogSink, ProgressSink, TensorRtApi, make
from edgeseg.backend.nvidia.calibration import CalibratorKind, cache_key, make_calibrator, set_ranges
from edgeseg.backend.nvidia.failures import clean, explain
from edgeseg.backend.nvidia.options import NvidiaOptions
from edgeseg.core.artefacts import write_bytes
from edgeseg.core.deps import on_jetson, require
from edgeseg.core.errors import CapabilityError, EdgesegError, RequestError, VerifyError
from edgeseg.core.types import Precision
from edgeseg.core.workspace import cache_dir

_MB = 1 << 20
_SERIOUS = ("INTERNAL_ERROR", "ERROR")


class BuildJob(msgspec.Struct, frozen=True, kw_only=True):
    """One build.

    Attributes:
        model: Static ONNX file in the variant that the runtime builds from.
        plan: Where the plan is written.
        precision: What the engine shall run in.
        options: See `NvidiaOptions`.
        ranges: Implicit INT8: (low, high) by tensor name.
        frames: Implicit INT8 by NVIDIA's calibrator: a .npy file, uint8 [number, N, H, W, C].
        timing_cache: File of kernel timings, read and written; None for none.
        detailed: Keep layer names and details in the plan, for the inspector and the profiler.
    """

    model: Path
    plan: Path
    precision: Precision
    options: NvidiaOptions = NvidiaOptions()
    ranges: Mapping[str, tuple[float, float]] | None = None
    frames: Path | None = None
    timing_cache: Path | None = None
    detailed: bool = True


class NetworkBuild:
    """One network on its way to a plan.

    Args:
        api: The runtime.
        job: What to build.
        log: Takes every line that the runtime writes.
        progress: Takes phases; returns False to cancel. Unused where the runtime has no monitor.
    """

    def __init__(self, api: TensorRtApi, job: BuildJob, log: LogSink, progress: ProgressSink) -> None:
        self.api = api
        self._job = job
        self._errors: list[str] = []
        self._warnings: list[str] = []
        self._forward = log
        self._logger = api.logger(self._log)  # the runtime keeps no reference of its own
        self._monitor = api.progress_monitor(progress)
        self._parser: Any = None
        self._cuda: Any = None
        self._held: Any = None  # the runtime keeps no reference of its calibrator either
        self.dla_share: float | None = None

    def run(self) -> bytes:
        """Build and return the plan.

        Raises:
            CapabilityError: The runtime lacks an operator, a precision or a feature that was asked for.
            VerifyError: The file is not an ONNX model.
            EdgesegError: Anything else, with the runtime's own last lines.
        """
        try:
            return self._run()
        finally:
            self._held = None
            if self._cuda is not None:
                self._cuda.close()

    def _run(self) -> bytes:
        trt = self.api.trt
        builder = self._made("create a builder", lambda: trt.Builder(self._logger))
        network = self._made("create a network", lambda: builder.create_network(self.api.network_flags()))
        self._parse(network)
        config = self._made("create a build configuration", builder.create_builder_config)
        self._configure(config)
        self._set_precision(config, network)
        self._set_profile(builder, network, config)
        if self._job.options.dla_core >= 0:
            self.dla_share = dla.assign(self.api, builder, network, config, self._job.options)
        timing_cache = self._load_timing_cache(config)
        plan = self._made("build the engine", lambda: builder.build_serialized_network(network, config))
        self._save_timing_cache(timing_cache)
        return bytes(plan)

    # ------------------------------------------------------------ steps

    def _parse(self, network: Any) -> None:
        trt = self.api.trt
        parser = self._made("create an ONNX parser", lambda: trt.OnnxParser(network, self._logger))
        self._parser = parser  # the weights are its own until the engine is built
        if parser.parse(self._job.model.read_bytes()):
            return
        problems = [parser.get_error(index) for index in range(parser.num_errors)]
        if not problems:
            raise explain("the runtime cannot parse the model", self._errors, runtime=str(self.api))
        raise self._parse_error(problems)

    def _parse_error(self, problems: Sequence[Any]) -> EdgesegError:
        parser_error = problems[0]
        code, reason = str(parser_error.code().name), clean(parser_error.desc())
        if code == "MODEL_DESERIALIZE_FAILED":
            return VerifyError(
                "not an ONNX model",
                value=self._job.model,
                allowed="a model of edgeseg export",
                fix="edgeseg inspect FILE",
            )
        if self.api.has("ParserError", "node_operator"):
            nodes = [f"{parser_error.node_operator()} {parser_error.node_name()!r}" for parser_error in problems]
        else:  # 8.6 counts the file's nodes
            nodes = [self._node(parser_error.node()) for parser_error in problems]
        node = ", ".join(dict.fromkeys(nodes))
        return CapabilityError(
            f"an operator of the model ({node}: {reason})",
            runtime=str(self.api),
            allowed="edgeseg export writes only operators that every version has",
            fix="edgeseg export RUN --out MODEL.onnx",
        )

    def _node(self, index: int) -> str:
        nodes = onnx.load(str(self._job.model), load_external_data=False).graph.node
        if not 0 <= index < len(nodes):
            return f"node {index}"
        return f"{nodes[index].op_type} {nodes[index].name!r}"

    def _configure(self, config: Any) -> None:
        api, trt, options = self.api, self.api.trt, self._job.options
        verbosity = trt.ProfilingVerbosity
        config.profiling_verbosity = verbosity.DETAILED if self._job.detailed else verbosity.LAYER_NAMES_ONLY
        if self._monitor is not None:
            config.progress_monitor = self._monitor
        if options.workspace_mb:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb * _MB)
        if options.optimization_level >= 0:
            self._needs("IBuilderConfig", "builder_optimization_level", "a choice of optimisation level")
            config.builder_optimization_level = options.optimization_level
        if options.version_compatible:
            flag = api.member("BuilderFlag", "VERSION_COMPATIBLE")
            if flag is None or api.capabilities.portable_plans:
                raise api.lacks("a version-compatible plan", fix="edgeseg build MODEL, on each version")
            config.set_flag(flag)
        if options.hardware_compatible != "none":
            config.hardware_compatibility_level = self._hardware_level(options.hardware_compatible)
        if options.compute_capabilities:
            self._set_compute_capabilities(config, options.compute_capabilities.split(","))
        self._drop_stand_ins(config)

    def _hardware_level(self, name: str) -> Any:
        api = self.api
        levels = {
            "ampere_plus": api.member("HardwareCompatibilityLevel", "AMPERE_PLUS"),
            "same_compute_capability": api.member("HardwareCompatibilityLevel", "SAME_COMPUTE_CAPABILITY"),
        }
        if not api.capabilities.hardware_compatible or levels[name] is None or on_jetson():
            raise api.lacks(
                f"a hardware-compatible plan ({name})",
                allowed="a plan for one GPU; a Jetson's never runs on another" if on_jetson() else "a plan for one GPU",
                fix="edgeseg build MODEL, on each GPU",
            )
        return levels[name]

    def _set_precision(self, config: Any, network: Any) -> None:
        job, api = self._job, self.api
        for flag in api.precision_flags(job.precision):
            config.set_flag(flag)
        if not job.options.implicit or job.precision != "int8":
            return
        api.check_implicit()
        if (job.ranges is None) == (job.frames is None):
            raise RequestError(
                "implicit INT8 needs ranges, or frames for a calibrator",
                value="neither" if job.ranges is None else "both",
                allowed="one of the two",
            )
        if job.ranges is not None:
            refused = set_ranges(network, job.ranges)
            self._accepted(not refused, f"set the ranges of {', '.join(refused[:3])}")
        if job.frames is not None:
            config.int8_calibrator = self._calibrator(job.frames)

    def _calibrator(self, file: Path) -> Any:
        """NVIDIA's calibrator; it needs the GPU before the engine does."""
        require("pycuda", what="calibrating on the GPU")
        from edgeseg.backend.nvidia.cuda import CudaDriver

        job, frames = self._job, np.load(file, mmap_mode="r")
        kind: CalibratorKind = "minmax" if job.options.calibrator == "minmax" else "entropy"
        self._cuda = CudaDriver()
        self._cuda.open()
        key = cache_key(job.model.read_bytes(), frames, kind, self.api.version)
        cache = cache_dir() / "calibration" / f"{key}.cache"
        self._held = make_calibrator(self.api, self._cuda, frames, kind, cache)
        return self._held

    def _set_profile(self, builder: Any, network: Any, config: Any) -> None:
        """One profile over the static shapes; a shape that is not static is refused by name."""
        tensors = [network.get_input(index) for index in range(network.num_inputs)]
        profile = self._made("create an optimisation profile", builder.create_optimization_profile)
        for tensor in tensors:
            shape = tuple(tensor.shape)
            if min(shape) < 0:
                raise RequestError(
                    f"the model's input {tensor.name} has symbolic sizes",
                    value=list(shape),
                    allowed="static sizes",
                    fix="edgeseg build MODEL --frame-size HxW",
                )
            profile.set_shape(tensor.name, shape, shape, shape)
        number = config.add_optimization_profile(profile)
        self._accepted(number >= 0, "take the optimisation profile")

    def _set_compute_capabilities(self, config: Any, wanted: Sequence[str]) -> None:
        api = self.api
        if not api.capabilities.portable_plans:
            raise api.lacks("a choice of compute capabilities", fix="edgeseg build MODEL --target rtx")
        known = sorted(name for name in dir(api.trt.ComputeCapability) if name.startswith("SM"))
        members = []
        for item in wanted:
            member = api.member("ComputeCapability", "SM" + item.strip().replace(".", ""))
            if member is None:
                raise api.lacks(
                    f"compute capability {item.strip()}", allowed=f"allowed: {', '.join(known)}", fix="edgeseg doctor"
                )
            members.append(member)
        config.num_compute_capabilities = len(members)
        for index, member in enumerate(members):
            self._accepted(config.set_compute_capability(member, index), f"build for {member}")

    def _drop_stand_ins(self, config: Any) -> None:
        """Take cuBLAS and cuDNN out of the tactic sources where a version still has them.

        Convolutions do not need them from 8.6 on, NVIDIA dropped them in 11, and a machine may hold stand-ins only.
        """
        api = self.api
        sources = config.get_tactic_sources()
        for source in (
            api.member("TacticSource", "CUBLAS"),
            api.member("TacticSource", "CUBLAS_LT"),
            api.member("TacticSource", "CUDNN"),
        ):
            if source is not None:
                sources &= ~(1 << int(source))
        self._accepted(config.set_tactic_sources(sources), "leave cuBLAS and cuDNN out")

    def _load_timing_cache(self, config: Any) -> Any | None:
        file = self._job.timing_cache
        if file is None or not self.api.capabilities.timing_cache:
            return None
        data = file.read_bytes() if file.is_file() else b""
        for content in dict.fromkeys((data, b"")):  # one of another version or GPU is refused: start a new one
            timing_cache = config.create_timing_cache(content)
            if timing_cache is not None and config.set_timing_cache(timing_cache, False):
                return timing_cache
        return None

    def _save_timing_cache(self, timing_cache: Any | None) -> None:
        file = self._job.timing_cache
        if timing_cache is None or file is None:
            return
        blob = timing_cache.serialize()
        if blob is not None:
            write_bytes(file, bytes(blob))

    # ------------------------------------------------------------ checks

    def _made(self, what: str, factory: Callable[[], Any]) -> Any:
        """A runtime's object; failures come as None and are explained in the log, by 8.6 as mere warnings."""
        made = make(factory)
        if made is None:
            lines = [*self._errors, *self._warnings]
            raise explain(f"{self.api} could not {what}", lines, runtime=str(self.api))
        return made

    def _accepted(self, answer: bool, what: str) -> None:
        """A setter of the runtime says False where it refuses."""
        if not answer:
            lines = [*self._errors, *self._warnings]
            raise explain(f"{self.api} could not {what}", lines, runtime=str(self.api))

    def _needs(self, owner: str, name: str, feature: str) -> None:
        if not self.api.has(owner, name):
            raise self.api.lacks(feature, fix="edgeseg build MODEL, without it")

    def _log(self, severity: str, text: str) -> None:
        if severity in _SERIOUS:
            self._errors.append(text)
        elif severity == "WARNING":
            self._warnings.append(text)
        self._forward(severity, text)
