"""TensorRT-RTX on the simulated GPU: its own graphs on fixed buffers, its runtime cache, its judgement of a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.core.errors import FitError
from edgeseg.core.types import U8, EngineSpec

Simulate = Callable[..., Any]


def open_engine(model_file: Path, spec: EngineSpec, folder: Path) -> Any:
    from edgeseg.backend.nvidia.builder import TensorRtRtxBuilder

    builder = TensorRtRtxBuilder()
    if not (folder / "engine.plan").exists():
        builder.build(model_file, folder, spec)
    return builder.open(folder / "engine.plan", spec)


@pytest.mark.parametrize("integrated", [True, False])
def test_the_runtimes_own_graph_is_captured_once_because_its_buffers_stay(
    simulate: Simulate,
    in_process: None,
    model_file: Path,
    spec: EngineSpec,
    frames: list[U8],
    reference: Callable[[U8], U8],
    tmp_path: Path,
    integrated: bool,
) -> None:
    gpu = simulate(integrated=integrated)
    with open_engine(model_file, spec, tmp_path) as runner:
        assert (runner.graph, runner.io) == ("runtime", "pinned")
        assert "context WHOLE_GRAPH_CAPTURE" in gpu.calls
        held = [runner.infer(frame) for frame in frames]  # each in a buffer of its own
        assert gpu.calls.count("capture") == 1
        assert "cuStreamBeginCapture" not in gpu.calls  # two captures of one enqueue would fight
        for output, frame in zip(held, frames, strict=True):
            np.testing.assert_array_equal(output.mask_nhw, reference(frame))
    assert gpu.violations == []


def test_what_was_compiled_for_the_gpu_is_kept_for_the_next_start(
    simulate: Simulate, in_process: None, model_file: Path, spec: EngineSpec, frames: list[U8], tmp_path: Path
) -> None:
    for expected in ("compile", "cached"):
        gpu = simulate()
        with open_engine(model_file, spec, tmp_path) as runner:
            assert expected in gpu.calls
            runner.infer(frames[0]).release()
    (cache,) = (tmp_path / "cache" / "runtime").iterdir()
    cache.write_bytes(b"of another driver")
    gpu = simulate()
    with open_engine(model_file, spec, tmp_path):
        assert "compile" in gpu.calls


def test_a_plan_that_the_runtime_judges_invalid_is_not_deserialised(
    simulate: Simulate, in_process: None, model_file: Path, spec: EngineSpec, tmp_path: Path
) -> None:
    gpu = simulate()
    runner = open_engine(model_file, spec, tmp_path)
    (tmp_path / "engine.plan").write_bytes(b"foreign")
    with pytest.raises(FitError, match=r"not valid on this machine.*reasons 0x20.*edgeseg rebuild"):
        runner.__enter__()
    assert gpu.contexts == 0
