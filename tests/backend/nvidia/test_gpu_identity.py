"""Which GPU a plan is for: asked of the driver, written into the manifest, and part of what decides whether it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeseg.backend.nvidia.gpu import complete_device, first_gpu
from edgeseg.core.errors import CapabilityError
from edgeseg.core.types import BuiltEngine, DeviceInfo, EngineSpec

Simulate = Callable[..., Any]


@pytest.fixture
def build(
    tmp_path: Path, model_file: Path, spec: EngineSpec, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., BuiltEngine]:
    def make(backend: str = "TensorRtBuilder", **options: Any) -> BuiltEngine:
        from edgeseg.backend.nvidia import builder

        monkeypatch.setattr(builder, "_gpu_is_here", lambda: True)
        wanted = msgspec.structs.replace(spec, options=options)
        built: BuiltEngine = getattr(builder, backend)().build(model_file, tmp_path, wanted)
        return built

    return make


def test_the_driver_tells_name_and_compute_capability_without_a_context(simulate: Simulate) -> None:
    gpu = simulate(compute_capability=(9, 0))
    found = complete_device(DeviceInfo(gpu="what /proc says"))
    assert (found.gpu, found.compute_capability, found.cuda) == ("Simulated GPU (no hardware)", "9.0", "13.2")
    assert gpu.contexts == 0
    assert gpu.calls == []


def test_a_jetson_keeps_the_name_of_its_module(simulate: Simulate) -> None:
    simulate(compute_capability=(8, 7))
    jetson = DeviceInfo(board="Jetson Orin NX", gpu="Jetson Orin NX (integrated)", compute_capability="8.7")
    assert complete_device(jetson).gpu == "Jetson Orin NX (integrated)"


def test_without_a_gpu_or_cuda_bindings_nothing_is_guessed(
    simulate: Simulate, tmp_path: Path, monkeypatch: Any
) -> None:
    simulate(present=False)
    assert first_gpu() is None
    assert complete_device(DeviceInfo(gpu="what /proc says")) == DeviceInfo(gpu="what /proc says")
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "__init__.py").write_text("")  # hides cuda-bindings
    simulate()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert first_gpu() is None


@pytest.mark.parametrize(
    ("options", "same_gpu", "capabilities"),
    [
        ({}, True, ("8.9",)),
        ({"hardware_compatible": "ampere_plus"}, False, ("8.0+",)),
        ({"hardware_compatible": "same_compute_capability"}, False, ("8.9",)),
    ],
)
def test_a_plan_says_which_gpus_it_is_for(
    simulate: Simulate,
    build: Callable[..., BuiltEngine],
    options: dict[str, Any],
    same_gpu: bool,
    capabilities: tuple[str, ...],
) -> None:
    simulate()
    built = build(**options)
    assert (built.same_gpu, built.compute_capabilities, built.can_run_here) == (same_gpu, capabilities, True)


@pytest.mark.parametrize(
    ("here", "options", "capabilities", "runs"),
    [
        ((8, 9), {}, ("8.0+",), True),
        ((9, 0), {}, ("8.0+",), False),  # TensorRT-RTX knows no data-centre GPU
        ((8, 9), {"compute_capabilities": "8.6, 8.9"}, ("8.6", "8.9"), True),
        ((8, 9), {"compute_capabilities": "8.6"}, ("8.6",), False),
    ],
)
def test_a_portable_plan_runs_here_only_where_it_was_compiled_for_this_gpu(
    simulate: Simulate,
    build: Callable[..., BuiltEngine],
    here: tuple[int, int],
    options: dict[str, Any],
    capabilities: tuple[str, ...],
    runs: bool,
) -> None:
    simulate(compute_capability=here)
    built = build("TensorRtRtxBuilder", **options)
    assert (built.same_gpu, built.compute_capabilities, built.can_run_here) == (False, capabilities, runs)


def test_hardware_compatibility_is_not_for_a_jetson_nor_for_a_version_without_it(
    simulate: Simulate, build: Callable[..., BuiltEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate("8.6.1")
    with pytest.raises(CapabilityError, match=r"hardware-compatible plan \(same_compute_capability\).*8\.6\.1"):
        build(hardware_compatible="same_compute_capability")
    simulate()
    monkeypatch.setattr("edgeseg.backend.nvidia.network.on_jetson", lambda: True)
    with pytest.raises(CapabilityError, match="a Jetson's never runs on another"):
        build(hardware_compatible="ampere_plus")


def test_a_version_compatible_plan_is_built_but_never_run_here_because_it_carries_host_code(
    simulate: Simulate, build: Callable[..., BuiltEngine], tmp_path: Path, spec: EngineSpec
) -> None:
    simulate()
    built = build(version_compatible=True)
    assert built.can_run_here is False
    from edgeseg.backend.nvidia.builder import TensorRtBuilder

    wanted = msgspec.structs.replace(spec, options={"version_compatible": True})
    with pytest.raises(CapabilityError, match="host code, which is never executed from a plan"):
        TensorRtBuilder().open(tmp_path / "engine.plan", wanted)


def test_doctor_tells_what_the_driver_tells(simulate: Simulate, capsys: pytest.CaptureFixture[str]) -> None:
    from edgeseg.cli.main import run

    simulate(compute_capability=(8, 6))
    run(["doctor"])
    assert "Simulated GPU (no hardware), CUDA 13.2, compute capability 8.6" in " ".join(capsys.readouterr().err.split())
