"""Requests that the builder refuses or maps, on the simulated TensorRT of several versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgeseg.backend.nvidia.api import needed_cuda_major
from edgeseg.backend.nvidia.builder import TensorRtBuilder, free_memory_mb
from edgeseg.backend.nvidia.calibration import decode_cache, encode_cache
from edgeseg.core.errors import CapabilityError, EdgesegError, RequestError, UnavailableError
from edgeseg.core.types import U8, EngineSpec

Simulate = Callable[..., Any]


@pytest.mark.parametrize(
    ("version", "variant", "precisions"),
    [
        ("8.6.1", "weak", ("fp32", "fp16", "int8")),
        ("10.3.0", "weak", ("fp32", "bf16", "fp16", "int8")),
        ("11.4.0.106", "typed", ("fp32", "bf16", "fp16", "int8")),
    ],
)
def test_a_version_says_which_graph_it_builds_from(
    simulate: Simulate, version: str, variant: str, precisions: tuple[str, ...]
) -> None:
    simulate(version)
    builder = TensorRtBuilder()
    assert (builder.version, builder.variant, builder.precisions) == (version, variant, precisions)


def test_bf16_on_8_6_is_refused_before_anything_starts(
    simulate: Simulate, model_file: Path, spec: EngineSpec, tmp_path: Path
) -> None:
    simulate("8.6.1")
    wanted = msgspec.structs.replace(spec, precision="bf16")
    with pytest.raises(CapabilityError, match=r"precision bf16 is not available.*8\.6\.1.*--precision fp16"):
        TensorRtBuilder().build(model_file, tmp_path, wanted)


def test_a_build_reports_its_size_and_keeps_its_timings(
    simulate: Simulate, in_process: None, model_file: Path, spec: EngineSpec, tmp_path: Path
) -> None:
    simulate("10.3.0")
    built = TensorRtBuilder().build(model_file, tmp_path, spec)
    assert (built.backend, built.backend_version, built.precision) == ("tensorrt", "10.3.0", "fp32")
    assert built.report["plan_bytes"] == (tmp_path / "engine.plan").stat().st_size
    assert built.report["audit"] is None
    assert "inspector" in str(built.report["audit_reason"])
    # kernel timings are kept for the next build, of this version on this GPU
    file = tmp_path / "cache" / "timing" / "tensorrt-10.3.0-simulated-gpu-no-hardware.cache"
    assert file.read_bytes() == b"simulated timings"


def test_a_plan_is_not_lost_for_an_answer_about_it_that_cannot_be_read(
    simulate: Simulate,
    in_process: None,
    model_file: Path,
    spec: EngineSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulate("8.6.1")
    monkeypatch.setattr("edgeseg.backend.nvidia.builder._gpu_is_here", lambda: True)
    monkeypatch.setattr("edgeseg.backend.nvidia.builder.inspect_plan", lambda *_: '{"Layers": [{"Name": torn}]}')
    built = TensorRtBuilder().build(model_file, tmp_path, spec)
    assert (tmp_path / built.file).is_file()
    assert built.report["audit"] is None
    assert "inspector's answer cannot be read" in str(built.report["audit_reason"])
    assert "torn" in str(built.report["audit_reason"])


def test_implicit_int8_wants_ranges_or_frames(
    simulate: Simulate, in_process: None, model_file: Path, spec: EngineSpec, tmp_path: Path, frames: list[U8]
) -> None:
    wanted = msgspec.structs.replace(spec, precision="int8", options={"implicit": True})
    simulate("10.3.0")
    with pytest.raises(RequestError, match="needs ranges, or frames"):
        TensorRtBuilder().build(model_file, tmp_path, wanted)
    gpu = simulate("10.3.0")
    TensorRtBuilder().build(model_file, tmp_path, wanted, frames=frames)
    assert gpu.violations == []
    assert gpu.contexts == 0
    simulate("11.0.0")
    with pytest.raises(CapabilityError, match=r"ranges without Q/DQ nodes is not available.*explicit Q/DQ"):
        TensorRtBuilder().build(model_file, tmp_path, wanted, ranges={"x": (0.0, 1.0)})


def test_ranges_come_from_the_cache_beside_the_model_and_a_copy_goes_into_the_bundle(
    simulate: Simulate, in_process: None, model_file: Path, spec: EngineSpec, tmp_path: Path
) -> None:
    simulate("10.3.0")
    cache = encode_cache({"scores": (-2.0, 2.0)}, "8.6.1")
    model_file.with_suffix(".cache").write_bytes(cache)
    folder = tmp_path / "engine"
    folder.mkdir()
    wanted = msgspec.structs.replace(spec, precision="int8", options={"implicit": True})
    TensorRtBuilder().build(model_file, folder, wanted)
    copy = (folder / "calibration.cache").read_bytes()
    assert copy.startswith(b"TRT-100300-EntropyCalibration2\n")
    assert decode_cache(copy) == decode_cache(cache)


def test_a_graph_without_q_dq_is_not_built_as_int8(
    simulate: Simulate, in_process: None, model_file: Path, spec: EngineSpec, tmp_path: Path
) -> None:
    simulate()
    with pytest.raises(RequestError, match="no Q/DQ nodes"):
        TensorRtBuilder().build(model_file, tmp_path, msgspec.structs.replace(spec, precision="int8"))


def test_free_memory_is_what_programs_may_still_take(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       8000000 kB\nMemFree:         100000 kB\nMemAvailable:    4194304 kB\n")
    assert free_memory_mb(file) == 4096
    assert np.iinfo(np.int32).max > free_memory_mb() > 0


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("libcuda.so.1: cannot open shared object file", "the NVIDIA driver is not installed"),
        ("libnvinfer.so.10: cannot open shared object file", "tensorrt cannot be loaded"),
    ],
)
def test_a_package_without_its_libraries_is_one_line(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, words: str
) -> None:
    simulate()
    (tmp_path / "tensorrt.py").write_text(f"raise ImportError({said!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UnavailableError, match=f"{words}.*{said.split(':')[0]}.*edgeseg doctor"):
        _ = TensorRtBuilder().version


def test_a_runner_without_cuda_bindings_is_one_line(
    simulate: Simulate, spec: EngineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate()
    broken = tmp_path / "cuda"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UnavailableError, match=r"pycuda or cuda-bindings cannot be loaded.*edgeseg doctor"):
        TensorRtBuilder().open(tmp_path / "engine.plan", spec)


@pytest.mark.parametrize(
    ("requirements", "major"),
    [
        (["tensorrt", "tensorrt-cu12==10.3.0"], 12),
        (["tensorrt_cu13_libs==10.16.1.11"], 13),
        (["tensorrt", "nvidia-cuda-runtime-cu12", "nvidia-cudnn-cu12"], 12),
        (["tensorrt"], None),
        ([], None),
    ],
)
def test_the_cuda_version_of_a_package_is_in_its_requirements(requirements: list[str], major: int | None) -> None:
    assert needed_cuda_major(requirements) == major


def test_a_driver_that_is_too_old_is_refused_before_a_runtime_object_is_made(
    simulate: Simulate,
    in_process: None,
    model_file: Path,
    spec: EngineSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = simulate("8.6.1")
    import tensorrt

    builder = TensorRtBuilder()
    builder.build(model_file, tmp_path, spec)
    monkeypatch.setattr("edgeseg.backend.nvidia.api._requirements", lambda name: ["nvidia-cuda-runtime-cu14"])
    monkeypatch.setattr(tensorrt, "Runtime", None)
    with pytest.raises(UnavailableError, match=r"driver is too old.*has CUDA 13\.2.*8\.6\.1 was built with CUDA 14"):
        builder.open(tmp_path / "engine.plan", spec).__enter__()
    assert gpu.contexts == 0


def test_8_6_without_a_gpu_raises_in_its_constructor_and_warns(
    simulate: Simulate,
    in_process: None,
    model_file: Path,
    spec: EngineSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the real library does: TypeError about a null pointer, and the reason as a mere warning."""
    simulate("8.6.1")
    import tensorrt

    def builder(logger: Any) -> None:
        text = "CUDA initialization failure with error: 35. Please check your CUDA installation"
        logger.log(tensorrt.ILogger.Severity.WARNING, "Unable to determine GPU memory usage")
        logger.log(tensorrt.ILogger.Severity.WARNING, text)
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(tensorrt, "Builder", builder)
    with pytest.raises(UnavailableError, match="driver is missing or too old"):
        TensorRtBuilder().build(model_file, tmp_path, spec)


def test_times_by_layer_carry_the_audits_names(
    simulate: Simulate, in_process: None, model_file: Path, spec: EngineSpec, tmp_path: Path, frames: list[U8]
) -> None:
    from edgeseg.backend.profiling import Profiler

    gpu = simulate()
    builder = TensorRtBuilder()
    assert isinstance(builder, Profiler)
    built = builder.build(model_file, tmp_path, spec)
    (layer,) = builder.profile(tmp_path / built.file, spec, frames, 3)
    assert (layer.name, layer.kind, layer.time_ns) == ("simulated layer", "DLA", 1_000_000)
    assert "cuGraphLaunch" not in gpu.calls  # a graph replays no profiler
    assert gpu.violations == []


def test_nvidias_calibrator_does_not_take_frames_of_two_planes(
    simulate: Simulate, model_file: Path, spec: EngineSpec, tmp_path: Path, frames: list[U8]
) -> None:
    simulate()
    from edgeseg.graph import camera_input, load_model, save_model

    file = tmp_path / "nv12.onnx"
    save_model(file, camera_input(load_model(model_file), "nv12"))
    wanted = msgspec.structs.replace(spec, precision="int8", input_format="nv12", options={"implicit": True})
    with pytest.raises(RequestError, match=r"frames of one plane.*ranges instead"):
        TensorRtBuilder().build(file, tmp_path, wanted, frames=frames)


@pytest.mark.parametrize("refused", ["create_optimization_profile", "add_optimization_profile", "set_tactic_sources"])
def test_a_refusal_of_the_runtime_is_an_error_with_its_own_words(
    simulate: Simulate,
    in_process: None,
    model_file: Path,
    spec: EngineSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: str,
) -> None:
    """The runtime returns None, False or -1; a call whose answer nobody reads would build something else."""
    simulate()
    import tensorrt

    owner = tensorrt.Builder if refused.startswith("create") else tensorrt.IBuilderConfig
    answer = {"create": None, "add_op": -1, "set_ta": False}[refused[:6]]

    def say_no(self: Any, *args: Any) -> Any:
        return answer

    monkeypatch.setattr(owner, refused, say_no)
    with pytest.raises(EdgesegError, match=r"TensorRT 10\.3\.0 could not .*profile|could not leave cuBLAS"):
        TensorRtBuilder().build(model_file, tmp_path, spec)


def test_a_timing_cache_of_another_gpu_is_replaced(
    simulate: Simulate, in_process: None, model_file: Path, spec: EngineSpec, tmp_path: Path, monkeypatch: Any
) -> None:
    simulate()
    import tensorrt

    TensorRtBuilder().build(model_file, tmp_path, spec)
    (file,) = (tmp_path / "cache" / "timing").iterdir()
    file.write_bytes(b"of another GPU")
    monkeypatch.setattr(
        tensorrt.IBuilderConfig, "set_timing_cache", lambda self, cache, ignore: cache.serialize() != b"of another GPU"
    )
    TensorRtBuilder().build(model_file, tmp_path, spec)
    assert file.read_bytes() == b"simulated timings"


def test_a_version_without_a_monitor_reports_its_phases_from_the_log(
    simulate: Simulate, model_file: Path, spec: EngineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate("8.6.1")
    import tensorrt

    built = tensorrt.Builder.build_serialized_network

    def talk(self: Any, network: Any, config: Any) -> Any:
        text = "--------------- Timing Runner: stem (CaskConvolution[0x80000009])"
        self._logger.log(tensorrt.ILogger.Severity.VERBOSE, text)
        return built(self, network, config)

    monkeypatch.setattr(tensorrt.Builder, "build_serialized_network", talk)
    seen: list[str] = []

    def run(work: Any, request: object, *, what: str, progress: Any = None) -> Any:
        return work(request, lambda severity, text: None, lambda name, done, total: seen.append(name) or True)

    monkeypatch.setattr("edgeseg.backend.nvidia.builder.run_in_child", run)
    TensorRtBuilder().build(model_file, tmp_path, spec)
    assert seen == ["timing kernels, layer 1"]


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_cublas_and_cudnn_are_left_out_before_the_first_build(
    simulate: Simulate,
    in_process: None,
    model_file: Path,
    spec: EngineSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
) -> None:
    """A machine may hold stand-ins of them only; the other tactic sources stay as they are."""
    simulate(version)
    import tensorrt

    sources: list[int] = []
    monkeypatch.setattr(
        tensorrt.IBuilderConfig, "set_tactic_sources", lambda self, chosen: sources.append(chosen) or True
    )
    TensorRtBuilder().build(model_file, tmp_path, spec)
    assert sources == [1 << int(tensorrt.TacticSource.JIT_CONVOLUTIONS)]
