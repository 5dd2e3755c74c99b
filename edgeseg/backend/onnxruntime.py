"""ONNX Runtime on the CPU: the reference executor for FP32, and an engine for FP32 and Q/DQ INT8."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import onnx
import onnxruntime as ort

from edgeseg.backend.base import OUTPUTS, BlockingRunner, input_planes
from edgeseg.backend.onnx_model import check_model
from edgeseg.backend.options import Option, resolve_options
from edgeseg.backend.profiling import LayerTime
from edgeseg.backend.ring import Slot
from edgeseg.core.artefacts import atomic_file
from edgeseg.core.errors import CapabilityError, EdgesegError, VerifyError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, BuiltEngine, EngineSpec, Precision, RunnerSpec

ENGINE_FILE = "engine.onnx"

_OPTIONS: Mapping[str, Option] = {
    "outputs": OUTPUTS,
    "spin": False,  # idle workers spin between operators, never after a run: the cores then belong to the camera
}

# operators of an optimised graph that move or convert data and compute nothing
_DATA_MOVEMENT = frozenset(
    (
        *("QuantizeLinear", "DequantizeLinear", "Cast", "Transpose", "Reshape", "Concat", "Slice", "Pad", "Split"),
        *("Gather", "Squeeze", "Unsqueeze", "Identity", "ReorderInput", "ReorderOutput", "Shape", "Constant", "Expand"),
    )
)
_INT8_PREFIXES = ("QLinear", "QGemm", "QAttention", "ConvInteger", "MatMulInteger", "DynamicQuantize", "QMoE")
_INT8_TYPES = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


# what ONNX Runtime's rewrites append to the name of a node, and its profile to the name of an event
_DECORATION = re.compile(r"(_nchwc|_token_\d+|/duplicated|/dq|/q|_q)+$")
_KERNEL = "_kernel_time"


class _Event(msgspec.Struct):
    """One event of a profile file, in the Chrome trace format."""

    name: str
    cat: str = ""
    dur: float = 0.0
    args: dict[str, object] = {}


class OnnxRuntimeRunner(BlockingRunner):
    """Runs an ONNX model through IOBinding, straight from the input buffer into the leased output buffer.

    Args:
        model: A file, or the bytes of a model.
        spec: What the model takes and gives.
        threads: Threads within an operator; 0 lets ONNX Runtime take one per core.
        spin: Let idle workers spin after a run too.
        outputs: Output buffers beyond the depth.
    """

    def __init__(
        self, model: Path | bytes, spec: RunnerSpec, *, threads: int = 0, spin: bool = False, outputs: int = OUTPUTS
    ) -> None:
        super().__init__(spec, outputs=outputs)
        self._model = model
        self._threads = threads
        self._spin = spin
        self._session: ort.InferenceSession | None = None
        self._bindings: list[list[ort.IOBinding]] = []
        self._keep: list[ort.OrtValue] = []

    def _open(self) -> None:
        source = str(self._model) if isinstance(self._model, Path) else self._model
        with _loading(self._model):
            self._session = _session(source, threads=self._threads, spin=self._spin)

    def _bind(self, inputs: Sequence[U8], slots: Sequence[Slot]) -> None:
        assert self._session is not None
        self._keep = []
        feeds = [
            {name: self._value(plane) for name, plane in input_planes(self._spec, item).items()} for item in inputs
        ]
        for feed in feeds:
            row = []
            for slot in slots:
                binding = self._session.io_binding()
                for name, value in feed.items():
                    binding.bind_ortvalue_input(name, value)
                binding.bind_ortvalue_output("mask", self._value(slot.mask_nhw))
                if slot.confidence_nhw is not None:
                    binding.bind_ortvalue_output("confidence", self._value(slot.confidence_nhw))
                row.append(binding)
            self._bindings.append(row)

    def _value(self, array: U8) -> ort.OrtValue:
        value = ort.OrtValue.ortvalue_from_numpy(array)  # on the CPU a view, not a copy
        self._keep.append(value)
        return value

    def _run(self, feed: int, slot: int) -> None:
        assert self._session is not None
        binding = self._bindings[feed][slot]
        try:
            self._session.run_with_iobinding(binding)
        except RuntimeError as error:
            raise EdgesegError("ONNX Runtime failed while running", value=_first_line(error)) from error

    def _close(self) -> None:
        self._bindings = []
        self._keep = []
        self._session = None


class OnnxRuntimeBuilder:
    """Checks that the model runs, keeps it as it is, and counts the layers of the graph that really runs.

    Options: `outputs`, `spin`.
    """

    name = "onnxruntime"
    precisions: Sequence[Precision] = ("fp32", "int8")

    @property
    def version(self) -> str:
        """Version of ONNX Runtime."""
        return str(ort.__version__)

    def build(self, model: Path, folder: Path, spec: EngineSpec, progress: Progress | None = None) -> BuiltEngine:
        """Copy the model to `engine.onnx` and report the layers that ONNX Runtime makes of it on this machine."""
        del progress  # this takes seconds
        self._resolve(spec)
        check_model(model, spec)
        with tempfile.TemporaryDirectory(prefix="edgeseg-ort-") as scratch:
            optimised = Path(scratch) / "optimised.onnx"
            with _loading(model):
                _session(str(model), threads=spec.threads, spin=False, optimised=optimised)
            layers, moves = _count_layers(onnx.load(str(optimised)))
        precision: Precision = "int8" if layers.get("int8") else "fp32"
        if precision != spec.precision:
            raise CapabilityError(
                f"precision {spec.precision} for this model",
                runtime=f"onnxruntime {self.version}",
                allowed=f"it runs in {precision}: a convolution needs uint8 Q/DQ on input and output, int32 bias",
            )
        with atomic_file(folder / ENGINE_FILE) as temporary:
            shutil.copyfile(model, temporary)
        return BuiltEngine(
            file=ENGINE_FILE,
            backend=self.name,
            backend_version=self.version,
            precision=precision,
            layers=layers,
            report={"data_movement_nodes": moves, "provider": "CPUExecutionProvider"},
        )

    def open(self, engine: Path, spec: EngineSpec, *, throughput: bool = False) -> OnnxRuntimeRunner:
        """A runner over `engine.onnx`; the same for throughput."""
        del throughput
        options = self._resolve(spec)
        return OnnxRuntimeRunner(
            engine,
            runner_spec(spec),
            threads=spec.threads,
            spin=bool(options["spin"]),
            outputs=int(options["outputs"]),
        )

    def profile(self, engine: Path, spec: EngineSpec, frames: Sequence[U8], runs: int) -> list[LayerTime]:
        """Times by node from ONNX Runtime's profile; see `Profiler.profile`."""
        self._resolve(spec)
        with tempfile.TemporaryDirectory(prefix="edgeseg-ort-") as scratch:
            with _loading(engine):
                session = _session(str(engine), threads=spec.threads, spin=False, profile=Path(scratch) / "profile")
            for run in range(2 * runs):
                session.run(None, input_planes(runner_spec(spec), frames[run % len(frames)]))
            events = msgspec.json.decode(Path(session.end_profiling()).read_bytes(), type=list[_Event], strict=False)
        times: dict[str, list[int]] = {}
        ops: dict[str, str] = {}
        for event in events:
            if event.cat == "Node" and event.name.endswith(_KERNEL):
                name = event.name.removesuffix(_KERNEL)
                times.setdefault(name, []).append(round(event.dur * 1000))
                ops[name] = str(event.args.get("op_name", ""))
        return [_layer_time(name, ops[name], sorted(values[-runs:])) for name, values in times.items()]

    def _resolve(self, spec: EngineSpec) -> dict[str, Option]:
        if spec.precision not in self.precisions:
            raise CapabilityError(
                f"precision {spec.precision} on the CPU",
                runtime=f"onnxruntime {self.version}",
                allowed=f"allowed: {', '.join(self.precisions)}",
            )
        return resolve_options(spec.options, _OPTIONS, backend=self.name)


def runner_spec(spec: EngineSpec) -> RunnerSpec:
    """What a runner of ONNX Runtime takes and gives."""
    return RunnerSpec.of(spec, backend=f"onnxruntime {ort.__version__}")


def _session(
    source: str | bytes, *, threads: int, spin: bool, optimised: Path | None = None, profile: Path | None = None
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; its warnings are about graphs, not about the user's model
    if not spin:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@contextmanager
def _loading(model: Path | bytes) -> Iterator[None]:
    name = model if isinstance(model, Path) else "a model in memory"
    try:
        yield
    except Exception as error:  # its exception types are made in C++ and share no base but Exception
        raise VerifyError("ONNX Runtime cannot load the model", value=f"{name}: {_first_line(error)}") from error


def _count_layers(model: onnx.ModelProto) -> tuple[dict[str, int], int]:
    """Compute layers by precision, and the number of nodes that only move or convert data."""
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    weights = {item.name: item.data_type for item in model.graph.initializer}
    counts = {"int8": 0, "fp32": 0}
    moves = 0
    for node in model.graph.node:
        if node.op_type in _DATA_MOVEMENT:
            moves += 1
        elif node.op_type.startswith(_INT8_PREFIXES) or _computes_int8(node, kinds, weights):
            counts["int8"] += 1
        else:
            counts["fp32"] += 1
    return {kind: count for kind, count in counts.items() if count}, moves


def _computes_int8(node: onnx.NodeProto, kinds: Mapping[str, int], weights: Mapping[str, int]) -> bool:
    """A standard operator (MaxPool, Relu) that ONNX Runtime moved into the quantised part of the graph."""
    types = {**weights, **kinds}
    return bool(node.input) and node.op_type != "ArgMax" and types.get(node.input[0]) in _INT8_TYPES


def _layer_time(name: str, op: str, times_ns: list[int]) -> LayerTime:
    layer = _DECORATION.sub("", name)
    return LayerTime(
        name=name,
        layers=(layer,),
        kind=op,
        implementation="NCHWc" if "_nchwc" in name else "",
        precision="int8" if op.startswith(_INT8_PREFIXES) else "fp32",
        moves=op in _DATA_MOVEMENT,
        time_ns=times_ns[len(times_ns) // 2],
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
