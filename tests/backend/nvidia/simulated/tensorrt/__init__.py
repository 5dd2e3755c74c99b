"""The part of `tensorrt` that the backend uses, over the simulated GPU. The version comes from EDGESEG_SIMULATED_TRT.

Surfaces follow the real bindings: 8 has no progress monitor and needs EXPLICIT_BATCH, 11 has no precision flags.
"""

from __future__ import annotations

import enum
import json
import os
from typing import Any

import numpy as np
from simulated_gpu import GPU, NAME, RefusedError

__version__ = os.environ.get("EDGESEG_SIMULATED_TRT", "10.3.0")
_MAJOR = int(__version__.split(".")[0])
_MAGIC = b"simulated plan\n"
_UNSUPPORTED = ("MaxUnpool",)


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class IErrorRecorder:
    pass


class IProfiler:
    pass


if _MAJOR >= 10:

    class IProgressMonitor:
        pass


DataType = enum.Enum("DataType", ["FLOAT", "HALF", "INT8", "UINT8", *(["BF16"] if _MAJOR >= 10 else [])])
TensorIOMode = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
ProfilingVerbosity = enum.Enum("ProfilingVerbosity", ["LAYER_NAMES_ONLY", "DETAILED", "NONE"])
MemoryPoolType = enum.Enum("MemoryPoolType", ["WORKSPACE"])
DeviceType = enum.Enum("DeviceType", ["GPU", "DLA"])
LayerInformationFormat = enum.Enum("LayerInformationFormat", ["ONELINE", "JSON"])
HardwareCompatibilityLevel = enum.Enum(
    "HardwareCompatibilityLevel", ["NONE", "AMPERE_PLUS", *(["SAME_COMPUTE_CAPABILITY"] if _MAJOR >= 10 else [])]
)
_WEAK = ["FP16", "INT8", *(["BF16"] if _MAJOR >= 10 else [])] if _MAJOR < 11 else []
BuilderFlag = enum.IntEnum("BuilderFlag", [*_WEAK, "TF32", "GPU_FALLBACK", "VERSION_COMPATIBLE"], start=0)
TacticSource = enum.IntEnum("TacticSource", ["CUBLAS", "CUBLAS_LT", "CUDNN", "JIT_CONVOLUTIONS"], start=0)
NetworkDefinitionCreationFlag = enum.IntEnum(
    "NetworkDefinitionCreationFlag", {"EXPLICIT_BATCH": 0} if _MAJOR < 11 else {"STRONGLY_TYPED": 0}
)
if _MAJOR < 11:

    class IInt8EntropyCalibrator2:
        pass

    class IInt8MinMaxCalibrator:
        pass


class _Tensor:
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape, self.dtype = name, shape, DataType.UINT8


class INetworkDefinition:
    num_layers = 0

    def __init__(self) -> None:
        self.model = b""
        self.inputs: list[_Tensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> _Tensor:
        return self.inputs[index]


class IBuilderConfig:
    builder_optimization_level = 3
    hardware_compatibility_level = HardwareCompatibilityLevel.NONE
    num_compute_capabilities = 0

    def __init__(self) -> None:
        self.flags: set[int] = set()
        self.profiles: list[Any] = []
        self.progress_monitor: Any = None

    def set_flag(self, flag: Any) -> None:
        self.flags.add(int(flag))

    def can_run_on_DLA(self, layer: Any) -> bool:
        return True

    def set_memory_pool_limit(self, pool: Any, nbytes: int) -> None:
        self.workspace = nbytes

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return 0

    def get_tactic_sources(self) -> int:
        return 0b1111

    def set_tactic_sources(self, sources: int) -> bool:
        self.sources = sources
        return True

    def set_compute_capability(self, capability: Any, index: int) -> bool:
        return 0 <= index < self.num_compute_capabilities  # of TensorRT-RTX alone

    def create_timing_cache(self, data: bytes) -> Any:
        return _Blob(data or b"simulated timings")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        return True


class _Blob:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> bytes:
        return self._data


class _Profile:
    def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
        pass


class _Problem:
    def __init__(self, code: str, text: str, node: int, name: str, operator: str) -> None:
        self._values = (code, text, node, name, operator)

    def code(self) -> Any:
        return enum.Enum("ErrorCode", [self._values[0]])[self._values[0]]

    def desc(self) -> str:
        return self._values[1]

    def node(self) -> int:
        return self._values[2]


if _MAJOR >= 10:

    class ParserError(_Problem):
        def node_name(self) -> str:
            return self._values[3]

        def node_operator(self) -> str:
            return self._values[4]
else:
    ParserError = _Problem


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._errors = network, []

    def parse(self, data: bytes) -> bool:
        import onnx

        try:
            model = onnx.load_from_string(data)
        except Exception:
            self._errors = [ParserError("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.", -1, "", "")]
            return False
        for index, node in enumerate(model.graph.node):
            if node.op_type in _UNSUPPORTED:
                self._errors.append(ParserError("UNSUPPORTED_NODE", "false", index, node.name, node.op_type))
        for value in model.graph.input:
            shape = tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)
            self._network.inputs.append(_Tensor(value.name, shape))
        self._network.model = data
        return not self._errors

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return self._errors[index]


class Builder:
    num_DLA_cores = int(os.environ.get("EDGESEG_SIMULATED_DLA", "0"))  # noqa: N815 - the vendor's own name

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition | None:
        if _MAJOR < 10 and flags != 1:
            self._logger.log(ILogger.Severity.ERROR, "only explicit batch networks can be parsed")
            return None
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        if config.progress_monitor is not None:
            config.progress_monitor.phase_start("Building engine", None, 2)
            for step in range(2):
                if not config.progress_monitor.step_complete("Building engine", step):
                    return None
            config.progress_monitor.phase_finish("Building engine")
        if not config.profiles:
            self._logger.log(ILogger.Severity.ERROR, "no optimization profile has been defined")
            return None
        header = json.dumps({"version": __version__, "gpu": NAME}).encode() + b"\n"
        return _MAGIC + header + network.model


class ICudaEngine:
    def __init__(self, model: bytes, logger: ILogger) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._logger = logger
        self.device_memory_size = self.device_memory_size_v2 = 1 << 20
        self._tensors = {item.name: (item, TensorIOMode.INPUT) for item in self._session.get_inputs()}
        self._tensors |= {item.name: (item, TensorIOMode.OUTPUT) for item in self._session.get_outputs()}

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self._tensors[name][1]

    def get_tensor_dtype(self, name: str) -> Any:
        return DataType.UINT8 if "uint8" in self._tensors[name][0].type else DataType.FLOAT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name][0].shape)

    def create_execution_context(self) -> IExecutionContext | None:
        try:
            return IExecutionContext(self)
        except RefusedError:
            self._logger.log(ILogger.Severity.ERROR, "Error Code 2: OutOfMemory (no further information)")
            return None

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector()


class EngineInspector:
    def get_engine_information(self, layout: Any) -> str:
        layer = {"Name": "simulated layer", "LayerType": "DLA", "Inputs": [], "Outputs": [], "Metadata": ""}
        return json.dumps({"Layers": [layer], "Bindings": []})


class IExecutionContext:
    error_recorder: Any = None
    profiler: Any = None

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._scratch = GPU.allocate(engine.device_memory_size)

    def __del__(self) -> None:
        if hasattr(self, "_scratch"):
            GPU.free(self._scratch)

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in self._engine._tensors:
            return False
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self.error_recorder is not None and getattr(GPU, "fail_enqueue", False):
            self.error_recorder.report_error(None, "Error Code 1: Cuda Runtime (an illegal memory access)")
            return False
        addresses = dict(self._addresses)
        try:
            views = {
                name: GPU.view(addresses[name], int(np.prod(self._engine.get_tensor_shape(name))))
                for name in self._engine._tensors
            }
        except RefusedError:
            return False

        def run() -> None:
            if self.profiler is not None:
                self.profiler.report_layer_time("simulated layer", 1.0)
            shapes = {name: self._engine.get_tensor_shape(name) for name in views}
            modes = {name: mode for name, (_, mode) in self._engine._tensors.items()}
            feed = {name: views[name].reshape(shapes[name]) for name in views if modes[name] == TensorIOMode.INPUT}
            names = [name for name in views if modes[name] == TensorIOMode.OUTPUT]
            for name, value in zip(names, self._engine._session.run(names, feed), strict=True):
                views[name][:] = value.reshape(-1)

        GPU.enqueue(stream_handle, run)
        return True


class Runtime:
    engine_host_code_allowed = True  # so that a loader that forgets to forbid it is seen
    error_recorder: Any = None

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> ICudaEngine | None:
        if self.engine_host_code_allowed:
            GPU.violations.append("host code in plans was left allowed")
        if not data.startswith(_MAGIC):
            return self._fail("Serialization (assertion plan->header.magicTag == rt::kPLAN_MAGIC_TAG failed.)")
        header, _, model = data[len(_MAGIC) :].partition(b"\n")
        found = json.loads(header)
        if found["version"] != __version__:
            return self._fail(
                "The engine plan file is not compatible with this version of TensorRT, expecting library version "
                f"{__version__} got {found['version']}, please rebuild."
            )
        if found["gpu"] != NAME:
            return self._fail(
                "The engine plan file is generated on an incompatible device, expecting compute 8.7 got compute 8.6, "
                "please rebuild."
            )
        try:
            return ICudaEngine(model, self._logger)
        except Exception:
            return self._fail("Serialization (Serialization assertion plan.header.size == blobSize failed.)")

    def _fail(self, text: str) -> None:
        self.error_recorder.report_error(None, text)
