"""OpenVINO on the CPU: FP32, BF16 where the processor has it, and Q/DQ INT8.

OpenVINO picks a precision of its own where none is asked for (BF16 on processors that have it), so every compilation
here names one and reads it back. Nothing is cached: compiling takes about a second and is then surely of this model.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import openvino as ov

from edgeseg.backend.base import LENT, OUTPUTS, BaseRunner, input_planes
from edgeseg.backend.onnx_model import check_model
from edgeseg.backend.options import Option, resolve_options
from edgeseg.backend.profiling import LayerTime
from edgeseg.backend.ring import Slot
from edgeseg.core.artefacts import disk_errors
from edgeseg.core.clock import now_ns
from edgeseg.core.errors import CapabilityError, EdgesegError, VerifyError
from edgeseg.core.log import get_logger
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, BuiltEngine, EngineSpec, Precision, RunnerSpec, RunTimes

ENGINE_FILE = "engine.xml"
_WEIGHTS_FILE = "engine.bin"
_MOST_STREAMS = 4  # each has activations of its own in memory

_LOG = get_logger(__name__)
_OPTIONS: Mapping[str, Option] = {
    "outputs": OUTPUTS,
    "float_precision": "fp32",  # of the layers of an INT8 engine that are not quantised: fp32 or bf16
}

# our precision -> OpenVINO's capability of the device, and its name as INFERENCE_PRECISION_HINT
_CAPABILITIES: Mapping[Precision, str] = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8"}
_HINTS: Mapping[str, ov.Type] = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16, "fp16": ov.Type.f16}

# runtime layer types that compute; the others are inputs, constants, reorders and moves
_COMPUTE = frozenset(
    (
        *("Convolution", "Deconvolution", "FullyConnected", "MatMul", "Pooling", "AdaptivePooling", "Eltwise"),
        *("Subgraph", "MVN", "NormalizeL2", "RMSNorm", "Interpolate", "TopK", "Softmax", "FakeQuantize", "Reduce"),
    )
)
_RUNTIME_PRECISIONS: Mapping[str, str] = {
    "f32": "fp32",
    "bf16": "bf16",
    "f16": "fp16",
    "i8": "int8",
    "u8": "int8",
}


class OpenVinoRunner(BaseRunner):
    """Runs an OpenVINO model on the CPU, straight from the input buffer into the leased output buffer.

    With one stream all threads work on one frame, which is soonest done. With several, each works on a frame of its
    own: threads that never wait for each other give more frames a second, and each frame takes longer.

    Args:
        model: An `engine.xml` with its `engine.bin` beside it, or the bytes of an ONNX model.
        spec: What the model takes and gives; its `depth` is the number of requests.
        hint: Precision of the layers that are not quantised; set, and read back after compiling.
        threads: CPU threads; 0 lets OpenVINO choose.
        streams: Frames that are worked on at once.
        outputs: Output buffers beyond the depth.
    """

    def __init__(
        self,
        model: Path | bytes,
        spec: RunnerSpec,
        *,
        hint: str = "fp32",
        threads: int = 0,
        streams: int = 1,
        outputs: int = OUTPUTS,
    ) -> None:
        super().__init__(spec, outputs=outputs)
        self._model = model
        self._hint = hint
        self._threads = threads
        self._streams = streams
        self._idle: deque[Any] = deque()  # requests
        self._started: deque[tuple[Any, int]] = deque()  # requests in flight, and their engine time where it is known
        self._feeds: list[dict[str, ov.Tensor]] = []
        self._lent: dict[str, ov.Tensor] = {}
        self._outs: list[dict[str, ov.Tensor]] = []
        self._held: tuple[Sequence[U8], Sequence[Slot]] = ((), ())  # what requests in flight read and write

    def _open(self) -> None:
        core = ov.Core()
        model = read_model(core, self._model)
        compiled = compile_model(core, model, hint=self._hint, threads=self._threads, streams=self._streams)
        self._idle.extend(compiled.create_infer_request() for _ in range(self._spec.depth))

    def _bind(self, inputs: Sequence[U8], slots: Sequence[Slot]) -> None:
        self._held = (inputs, slots)
        self._feeds = [
            {name: _shared(plane) for name, plane in input_planes(self._spec, item).items()} for item in inputs
        ]
        for slot in slots:
            outs = {"mask": _shared(slot.mask_nhw)}
            if slot.confidence_nhw is not None:
                outs["confidence"] = _shared(slot.confidence_nhw)
            self._outs.append(outs)

    def _lend(self, frames_nhwc: U8) -> bool:
        if not frames_nhwc.flags.c_contiguous:
            return False
        self._lent = {name: _shared(plane) for name, plane in input_planes(self._spec, frames_nhwc).items()}
        return True

    def _start(self, feed: int, slot: int) -> None:
        request, begin_ns = self._idle.popleft(), now_ns()
        try:
            for name, tensor in (self._lent if feed == LENT else self._feeds[feed]).items():
                request.set_tensor(name, tensor)
            for name, tensor in self._outs[slot].items():
                request.set_tensor(name, tensor)
            request.start_async()  # then wait(): unlike infer() it does not make a dictionary of every output
            if self._spec.depth == 1:  # nothing else can be done meanwhile, and the time is the engine's alone
                request.wait()
        except RuntimeError as error:
            self._idle.append(request)
            raise EdgesegError("OpenVINO failed while running", value=_first_line(error)) from error
        self._started.append((request, now_ns() - begin_ns))

    def _finish(self, slot: int) -> RunTimes:
        del slot  # requests end in the order in which they are waited for
        request, engine_ns = self._started.popleft()
        self._idle.append(request)
        if self._spec.depth == 1:
            return RunTimes(0, engine_ns, 0)
        try:
            request.wait()
        except RuntimeError as error:
            raise EdgesegError("OpenVINO failed while running", value=_first_line(error)) from error
        return RunTimes(0, round(request.latency * 1e6), 0)  # from start to end, waiting for a stream included

    def _close(self) -> None:
        for request, _ in self._started:
            request.cancel()
            _settle(request)
        self._started.clear()
        self._idle.clear()
        self._feeds, self._outs, self._held, self._lent = [], [], ((), ()), {}


class OpenVinoBuilder:
    """Converts the model to OpenVINO's own format, compiles it once, and reports the precisions that it runs in.

    Options: `outputs`, `float_precision`.
    """

    name = "openvino"

    @property
    def version(self) -> str:
        """Version of OpenVINO."""
        return str(ov.__version__).split("-")[0]

    @property
    def precisions(self) -> Sequence[Precision]:
        """Precisions that this processor computes in, as OpenVINO says."""
        return device_precisions(ov.Core())

    def build(self, model: Path, folder: Path, spec: EngineSpec, progress: Progress | None = None) -> BuiltEngine:
        """Write `engine.xml` and `engine.bin`, compile them here, and count the layers by precision."""
        del progress  # this takes seconds
        hint = float_hint(spec, self._resolve(spec))
        check_model(model, spec)
        core = ov.Core()
        converted = read_model(core, model)
        with tempfile.TemporaryDirectory(prefix=".engine-", dir=folder) as scratch, disk_errors(folder):
            written = Path(scratch) / ENGINE_FILE
            ov.save_model(converted, str(written), compress_to_fp16=False)
            for name in (_WEIGHTS_FILE, ENGINE_FILE):
                (written.parent / name).replace(folder / name)
        compiled = compile_model(core, read_model(core, folder / ENGINE_FILE), hint=hint, threads=spec.threads)
        layers = count_layers(compiled)
        precision: Precision = "int8" if layers.get("int8") else _precision_of(compiled)
        if precision != spec.precision:
            raise CapabilityError(
                f"precision {spec.precision} for this model", runtime=self._runtime, allowed=f"it runs in {precision}"
            )
        return BuiltEngine(
            file=ENGINE_FILE,
            backend=self.name,
            backend_version=self.version,
            precision=precision,
            layers=layers,
            report={
                "inference_precision_hint": _precision_of(compiled),
                "device": str(core.get_property("CPU", "FULL_DEVICE_NAME")),
                "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
            },
        )

    def open(self, engine: Path, spec: EngineSpec, *, throughput: bool = False) -> OpenVinoRunner:
        """A runner over `engine.xml`; for throughput, one with several streams and two requests more than those."""
        options = self._resolve(spec)
        streams = min(_MOST_STREAMS, spec.threads or len(os.sched_getaffinity(0))) if throughput else 1
        return OpenVinoRunner(
            engine,
            runner_spec(spec, depth=streams + 2 if streams > 1 else 1),
            hint=float_hint(spec, options),
            threads=spec.threads,
            streams=streams,
            outputs=int(options["outputs"]),
        )

    def profile(self, engine: Path, spec: EngineSpec, frames: Sequence[U8], runs: int) -> list[LayerTime]:
        """Times by layer from OpenVINO's performance counters; see `Profiler.profile`."""
        hint = float_hint(spec, self._resolve(spec))
        core = ov.Core()
        compiled = compile_model(core, read_model(core, engine), hint=hint, threads=spec.threads, profile=True)
        request = compiled.create_infer_request()
        times: dict[str, list[int]] = {}
        kinds: dict[str, tuple[str, str]] = {}
        for run in range(2 * runs):
            for name, plane in input_planes(runner_spec(spec), frames[run % len(frames)]).items():
                request.set_tensor(name, _shared(plane))
            request.infer()
            for info in request.profiling_info if run >= runs else ():
                if info.status == ov.ProfilingInfo.Status.EXECUTED:
                    times.setdefault(info.node_name, []).append(info.real_time // timedelta(microseconds=1) * 1000)
                    kinds[info.node_name] = (info.node_type, info.exec_type)
        told = {layer["name"]: layer for layer in runtime_layers(compiled)}
        return [_layer_time(name, *kinds[name], told.get(name, {}), sorted(times[name])) for name in times]

    @property
    def _runtime(self) -> str:
        return f"openvino {self.version}"

    def _resolve(self, spec: EngineSpec) -> dict[str, Option]:
        options = resolve_options(spec.options, _OPTIONS, backend=self.name)
        for precision in (spec.precision, str(options["float_precision"])):
            if precision not in self.precisions:
                raise CapabilityError(
                    f"precision {precision} on this CPU",
                    runtime=self._runtime,
                    allowed=f"allowed: {', '.join(self.precisions)}",
                )
        return options


def runner_spec(spec: EngineSpec, *, depth: int = 1) -> RunnerSpec:
    """What a runner of OpenVINO takes and gives."""
    return RunnerSpec.of(spec, backend=f"openvino {str(ov.__version__).split('-')[0]}", depth=depth)


def device_precisions(core: ov.Core) -> list[Precision]:
    """Precisions that the CPU has, in the order of `Precision`."""
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [precision for precision, name in _CAPABILITIES.items() if name in capabilities]


def float_hint(spec: EngineSpec, options: Mapping[str, Option]) -> str:
    """The hint for an engine: its own precision, or for INT8 that of the layers that are not quantised."""
    return str(options["float_precision"]) if spec.precision == "int8" else spec.precision


def read_model(core: ov.Core, model: Path | bytes) -> ov.Model:
    """Read an OpenVINO or ONNX model.

    Raises:
        VerifyError: OpenVINO cannot read it.
    """
    try:
        return core.read_model(str(model) if isinstance(model, Path) else model)
    except RuntimeError as error:
        name = model if isinstance(model, Path) else "a model in memory"
        raise VerifyError("OpenVINO cannot read the model", value=f"{name}: {_first_line(error)}") from error


def compile_model(
    core: ov.Core, model: ov.Model, *, hint: str, threads: int = 0, streams: int = 1, profile: bool = False
) -> ov.CompiledModel:
    """Compile for the CPU in the precision asked for: for lowest latency, or with several streams for throughput.

    Raises:
        CapabilityError: OpenVINO compiled it in another precision.
        EdgesegError: OpenVINO cannot compile it.
    """
    config: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[hint],
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": str(streams),
        "PERF_COUNT": profile,
    }
    if streams > 1:
        config["ENABLE_CPU_PINNING"] = False  # a stream whose core decodes a video moves to another core
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = core.compile_model(model, "CPU", config)
    except RuntimeError as error:
        raise EdgesegError("OpenVINO cannot compile the model", value=_first_line(error)) from error
    found = _precision_of(compiled)
    if found != hint:
        raise CapabilityError(f"precision {hint}", runtime=f"openvino {ov.__version__}", allowed=f"it chose {found}")
    return compiled


def count_layers(compiled: ov.CompiledModel) -> dict[str, int]:
    """Compute layers of a compiled model by the precision that each really runs in."""
    counts: dict[str, int] = {}
    for layer in runtime_layers(compiled):
        kind = _RUNTIME_PRECISIONS.get(layer["runtimePrecision"])
        converts_bytes = layer["layerType"] == "Subgraph" and kind == "int8"  # the frame's Cast
        if layer["layerType"] in _COMPUTE and kind and not converts_bytes:
            counts[kind] = counts.get(kind, 0) + 1
    return counts


def runtime_layers(compiled: ov.CompiledModel) -> list[dict[str, str]]:
    """The layers that OpenVINO executes, in order: name, layerType, runtimePrecision, primitiveType and more."""
    fields = ("layerType", "runtimePrecision", "primitiveType", "originalLayersNames", "outputPrecisions")
    layers = []
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        layer = {name: str(info[name].astype(str)) if name in info else "" for name in fields}
        layers.append({"name": op.get_friendly_name(), **layer})
    return layers


def _layer_time(name: str, kind: str, kernel: str, told: Mapping[str, str], times_ns: list[int]) -> LayerTime:
    precision = told.get("runtimePrecision", "")
    return LayerTime(
        name=name,
        layers=tuple(layer for layer in told.get("originalLayersNames", "").split(",") if layer),
        kind=kind,
        implementation=kernel,
        precision=_RUNTIME_PRECISIONS.get(precision, precision),
        moves=told.get("layerType", kind) not in _COMPUTE,
        time_ns=times_ns[len(times_ns) // 2],
    )


def _precision_of(compiled: ov.CompiledModel) -> Precision:
    found = compiled.get_property("INFERENCE_PRECISION_HINT")
    names: Mapping[ov.Type, Precision] = {ov.Type.f32: "fp32", ov.Type.bf16: "bf16", ov.Type.f16: "fp16"}
    return names.get(found, "fp32")


def _shared(array: U8) -> ov.Tensor:
    return ov.Tensor(array, shared_memory=True)


def _settle(request: Any) -> None:
    """Wait for a cancelled request, however it ends."""
    try:
        request.wait()
    except RuntimeError as error:
        _LOG.debug("a request ended with %s", _first_line(error))


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
