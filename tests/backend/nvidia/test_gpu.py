"""The runner on a real GPU: `pytest -m gpu`. What tools/gpu_check.py measures, this asserts on a small network.

Each installed runtime is tried; one that does not know this GPU (TensorRT-RTX on a data-centre card) is skipped, and
says so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgeseg.backend import get_builder, open_onnx
from edgeseg.backend.nvidia.gpu import first_gpu
from edgeseg.core.types import U8, EngineSpec
from edgeseg.graph import fix_frame_size, make_variant, read_meta, save_model
from edgeseg.graph.sample import sample_model

pytestmark = pytest.mark.gpu
SIZE = (72, 96)
Opened = Callable[..., Any]


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt_rtx"])
def builder(request: pytest.FixtureRequest) -> Any:
    packages = ("pycuda", "tensorrt" if request.param == "tensorrt" else "tensorrt_rtx_bindings")
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    gpu = first_gpu()
    if gpu is None:
        pytest.skip("there is no NVIDIA GPU, or no cuda-bindings to find it with")
    made = get_builder(request.param)
    if made.api.capabilities.portable_plans and not made.api.knows_gpu(gpu.compute_capability):
        pytest.skip(f"{made.api} does not know compute capability {gpu.compute_capability}")
    return made


@pytest.fixture(scope="module")
def engine(builder: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, EngineSpec]:
    """The exact ONNX file, its FP16 plan, and the spec."""
    folder = tmp_path_factory.mktemp("engine")
    model = fix_frame_size(sample_model(norm="batch"), SIZE)
    save_model(folder / "model.onnx", make_variant(model, builder.variant, "fp16"))
    spec = EngineSpec(frame_size=SIZE, precision="fp16", classes=read_meta(model).classes)
    built = builder.build(folder / "model.onnx", folder, spec)
    assert built.can_run_here
    return folder / "model.onnx", folder / built.file, spec


@pytest.fixture
def pictures() -> list[U8]:
    rng = np.random.default_rng(5)
    coarse = [rng.integers(0, 255, (1, 9, 12, 3), dtype=np.uint8) for _ in range(6)]
    return [np.repeat(np.repeat(item, 8, axis=1), 8, axis=2) for item in coarse]


@pytest.mark.parametrize("io", ["pinned", "mapped"])
@pytest.mark.parametrize("cuda_graph", [True, False])
@pytest.mark.parametrize("depth", [1, 2])
def test_masks_agree_with_onnx_runtime(
    builder: Any, engine: tuple[Path, Path, EngineSpec], pictures: list[U8], io: str, cuda_graph: bool, depth: int
) -> None:
    model, plan, spec = engine
    wanted = msgspec.structs.replace(spec, options={"io": io, "cuda_graph": cuda_graph, "depth": depth})
    with open_onnx(model, SIZE) as exact, builder.open(plan, wanted) as runner:
        assert runner.graph in (("own", "runtime") if cuda_graph else ("none",))
        tickets = [runner.submit(picture) for picture in pictures]
        equal = total = 0
        for ticket, picture in zip(tickets, pictures, strict=True):
            with runner.collect(ticket) as ours, exact.infer(picture) as theirs:
                equal += int(np.count_nonzero(ours.mask_nhw == theirs.mask_nhw))
                total += theirs.mask_nhw.size
        assert equal / total >= 0.995


def test_device_memory_is_constant_after_the_first_frames(
    builder: Any, engine: tuple[Path, Path, EngineSpec], pictures: list[U8]
) -> None:
    _, plan, spec = engine
    with builder.open(plan, spec) as runner:
        free = 0
        for number in range(600):
            runner.infer(pictures[number % len(pictures)]).release()
            if number == 99:
                free = runner.memory_bytes()[0]
        assert runner.memory_bytes()[0] == free


def test_two_runners_live_beside_each_other_and_layers_have_times(
    builder: Any, engine: tuple[Path, Path, EngineSpec], pictures: list[U8]
) -> None:
    _, plan, spec = engine
    with builder.open(plan, spec) as first, builder.open(plan, spec) as second:
        with first.infer(pictures[0]) as one, second.infer(pictures[0]) as two:
            np.testing.assert_array_equal(one.mask_nhw, two.mask_nhw)
        assert sum(first.layer_times_ms(5).values()) > 0
    layers = builder.profile(plan, spec, pictures, 5)
    assert any(layer.layers for layer in layers)
