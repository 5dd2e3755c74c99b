"""Every failure that a person with an NVIDIA engine meets ends in one line and its exit code, through the command line.

The GPU and its runtime are simulated; the commands, the bundles and the errors are the real ones.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeseg.backend.nvidia.api import LogSink, ProgressSink
from edgeseg.backend.nvidia.child import run_in_child
from edgeseg.cli.main import run
from edgeseg.graph import save_model
from edgeseg.graph.sample import sample_model

Simulate = Callable[..., Any]
FRAMES = "street:seed=3,frames=9,size=64x96"


def be_killed(request: object, log: LogSink, progress: ProgressSink) -> None:
    """What a build is for the kernel's memory killer."""
    log("INFO", "Formats and tactics selection")
    os.kill(os.getpid(), signal.SIGKILL)


class Machine:
    """A folder, a model, and a GPU that a test can exchange between two commands."""

    def __init__(
        self, root: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.root, self._simulate, self._capsys, self.patch = root, simulate, capsys, monkeypatch
        save_model(root / "model.onnx", sample_model(norm="batch"))

    def with_gpu(self, version: str = "10.3.0", **settings: Any) -> None:
        """Put another GPU and TensorRT into the machine."""
        self._simulate(version, **settings)

    def build(self, *more: str, precision: str = "fp16") -> tuple[int, str]:
        """`edgeseg build` for the card; the exit code and the last line."""
        words = ["build", str(self.root / "model.onnx"), "--target", "gpu", "--frame-size", "40x56", "--quiet"]
        words += ["--precision", precision, "--frames", FRAMES, "--out", str(self.root / "bundle")]
        return self._run([*words, *more])

    def use(self) -> tuple[int, str]:
        """`edgeseg verify --run` of the bundle: it must fit, load and agree with its golden masks."""
        return self._run(["verify", str(self.root / "bundle"), "--run", "--quiet"])

    def _run(self, words: list[str]) -> tuple[int, str]:
        self._capsys.readouterr()
        code = run(words)
        stderr = self._capsys.readouterr().err
        assert "Traceback" not in stderr
        return code, (stderr.splitlines() or [""])[-1]


@pytest.fixture
def machine(
    tmp_path: Path,
    simulate: Simulate,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    in_process: None,
) -> Machine:
    monkeypatch.setattr("edgeseg.backend.nvidia.builder._gpu_is_here", lambda: True)
    made = Machine(tmp_path, simulate, monkeypatch, capsys)
    made.with_gpu()
    return made


def assert_says(answer: tuple[int, str], code: int, *words: str) -> None:
    assert answer[0] == code, answer
    line = answer[1]
    assert line.startswith("edgeseg: error: ")
    assert "internal error" not in line
    for word in (*words, "; try: "):
        assert word in line


@pytest.fixture
def built(machine: Machine) -> Machine:
    assert machine.build()[0] == 0
    assert machine.use()[0] == 0
    return machine


def test_no_gpu(built: Machine) -> None:
    built.with_gpu(present=False)
    assert_says(built.use(), 4, "no NVIDIA GPU", "Simulated GPU", "edgeseg doctor")


def test_a_driver_that_is_too_old(built: Machine) -> None:
    built.with_gpu(cuda_version=11040)
    built.patch.setattr("edgeseg.backend.nvidia.api._requirements", lambda name: ["nvidia-cuda-runtime-cu12"])
    assert_says(built.use(), 4, "driver is too old", "CUDA 11.4", "CUDA 12")
    assert_says(built.build("--out", str(built.root / "other")), 4, "driver is too old")


def test_tensorrt_is_missing(machine: Machine) -> None:
    assert machine.build()[0] == 0
    machine.patch.setattr("edgeseg.core.deps._found", lambda package: package not in ("tensorrt", "tensorrt_bindings"))
    machine.patch.delitem(__import__("sys").modules, "tensorrt")
    assert_says(machine.use(), 4, "tensorrt", "not installed", "pip install 'edgeseg[tensorrt]'")
    assert_says(
        machine.build("--out", str(machine.root / "other")), 4, "no backend of the target gpu", "edgeseg[tensorrt]"
    )


def test_a_plan_of_another_version(built: Machine) -> None:
    built.with_gpu("11.4.0.106")
    assert_says(built.use(), 5, "engine.backend_version: built for 10.3.0, here 11.4.0.106", "edgeseg rebuild")


def test_a_plan_of_another_gpu(built: Machine) -> None:
    built.with_gpu(compute_capability=(9, 0))
    assert_says(built.use(), 5, "device.compute_capability: built for 8.9, here 9.0", "edgeseg rebuild")


def test_a_truncated_plan(built: Machine) -> None:
    import tensorrt

    def never(self: Any, data: bytes) -> None:
        raise AssertionError("a runtime saw a plan that does not verify")

    built.patch.setattr(tensorrt.Runtime, "deserialize_cuda_engine", never)
    plan = built.root / "bundle" / "engine.plan"
    plan.write_bytes(plan.read_bytes()[:1000])
    assert_says(built.use(), 5, "engine.plan", f"edgeseg rebuild {built.root / 'bundle'}")


def test_out_of_device_memory(built: Machine) -> None:
    built.with_gpu(memory_bytes=10_000)
    assert_says(built.use(), 1, "out of memory", "edgeseg build MODEL --frame-size HxW, smaller")


def test_a_builder_that_is_killed(machine: Machine) -> None:
    machine.patch.setattr("edgeseg.backend.nvidia.builder.run_in_child", run_in_child)
    machine.patch.setattr("edgeseg.backend.nvidia.builder.build_plan", be_killed)
    assert_says(
        machine.build(), 1, "killed, most likely because memory ran out", "Formats and tactics selection", "add swap"
    )
    assert not (machine.root / "bundle").exists()


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_an_unsupported_node(machine: Machine, version: str) -> None:
    """By the model's own name, on 8.6 too, whose parser only counts nodes."""
    machine.with_gpu(version)
    import tensorrt

    machine.patch.setattr(tensorrt, "_UNSUPPORTED", ("ConvTranspose", "ArgMax"))
    assert_says(machine.build(), 4, "an operator of the model (ConvTranspose 'decoder.0.up'", "edgeseg export")


def test_int8_where_only_q_dq_is_possible(machine: Machine) -> None:
    machine.with_gpu("11.4.0.106")
    assert_says(
        machine.build("--option", "implicit=true", precision="int8"), 4, "without Q/DQ nodes", "11.4.0.106", "explicit"
    )


def test_dla_where_there_is_none(machine: Machine) -> None:
    assert_says(machine.build("--option", "dla_core=0"), 4, "DLA core 0 is not available", "has none", "--target auto")


def test_too_much_fallback_from_dla_is_a_gate(machine: Machine) -> None:
    machine.patch.setenv("EDGESEG_SIMULATED_DLA", "1")
    machine.with_gpu()
    import tensorrt

    machine.patch.setattr(tensorrt.INetworkDefinition, "num_layers", 1, raising=False)
    layer = SimpleNamespace(name="head.logits")
    machine.patch.setattr(tensorrt.INetworkDefinition, "get_layer", lambda self, index: layer, raising=False)
    machine.patch.setattr(tensorrt.IBuilderConfig, "can_run_on_DLA", lambda self, layer: False)
    assert_says(
        machine.build("--option", "dla_core=0", "--max-gpu-fallback", "0.25"), 3, "at most 25%: --max-gpu-fallback"
    )


def test_an_unknown_option_lists_those_that_are_taken(machine: Machine) -> None:
    code, line = machine.build("--option", "dla=0")
    assert code == 2
    assert "dla_core" in line
