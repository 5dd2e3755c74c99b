"""The simulated GPU for tests of the runner, and small static models for tests of the builder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from edgeseg.core.types import U8, EngineSpec
from edgeseg.graph import fix_frame_size, read_meta, save_model
from edgeseg.graph.sample import sample_model

SIMULATED = Path(__file__).parent / "simulated"
SIZE = (40, 56)
_ROOTS = ("pycuda", "cuda", "tensorrt", "tensorrt_rtx_bindings", "simulated_gpu")
_OURS = "edgeseg.backend.nvidia.cuda"


def _belongs(name: str) -> bool:
    return name.split(".")[0] in _ROOTS or name == _OURS


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """A function that puts a simulated GPU and TensorRT of a version in the place of the real packages."""
    real = {name: module for name, module in sys.modules.items() if _belongs(name)}

    def start(version: str = "10.3.0", **settings: Any) -> ModuleType:
        for name in [name for name in sys.modules if _belongs(name)]:
            del sys.modules[name]
        monkeypatch.setenv("EDGESEG_SIMULATED_TRT", version)
        monkeypatch.syspath_prepend(str(SIMULATED))
        state = importlib.import_module("simulated_gpu")
        state.GPU.reset(**settings)
        return state.GPU

    yield start
    for name in [name for name in sys.modules if _belongs(name)]:
        del sys.modules[name]
    sys.modules.update(real)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let builds run in this process, where the simulated modules are."""

    def run(work: Any, request: object, *, what: str, progress: Any = None) -> Any:
        return work(request, lambda severity, text: None, lambda name, done, total: True)

    monkeypatch.setattr("edgeseg.backend.nvidia.builder.run_in_child", run)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A static FP32 model of the sample network."""
    path = tmp_path / "model.onnx"
    save_model(path, fix_frame_size(sample_model(norm="batch"), SIZE))
    return path


@pytest.fixture
def spec(model_file: Path) -> EngineSpec:
    from edgeseg.graph import load_model

    return EngineSpec(frame_size=SIZE, classes=read_meta(load_model(model_file)).classes)


@pytest.fixture
def frames() -> list[U8]:
    rng = np.random.default_rng(3)
    coarse = [rng.integers(0, 255, (1, 5, 7, 3), dtype=np.uint8) for _ in range(6)]
    return [np.repeat(np.repeat(item, 8, axis=1), 8, axis=2) for item in coarse]


@pytest.fixture
def reference(model_file: Path) -> Callable[[U8], U8]:
    """The masks that ONNX Runtime gives."""
    session = ort.InferenceSession(str(model_file), providers=["CPUExecutionProvider"])

    def run(frames_nhwc: U8) -> U8:
        mask: U8 = session.run(["mask"], {"frame": frames_nhwc})[0]
        return mask

    return run
