"""Implicit INT8: ranges on tensors, NVIDIA's calibration cache and calibrators (simulated GPU); and DLA's rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from edgeseg.backend.nvidia import dla
from edgeseg.backend.nvidia.api import TensorRtApi
from edgeseg.backend.nvidia.calibration import cache_key, decode_cache, encode_cache, make_calibrator, set_ranges
from edgeseg.backend.nvidia.options import NvidiaOptions
from edgeseg.backend.profiling import LayerTime
from edgeseg.core.errors import CapabilityError, GateError, RequestError, VerifyError
from edgeseg.core.types import EngineSpec


def test_the_cache_has_nvidias_form() -> None:
    data = encode_cache({"input": (-1.0, 0.5), "a: b": (0.0, 127.0)}, "8.6.1")
    assert data == b"TRT-8601-EntropyCalibration2\ninput: 3c010204\na: b: 3f800000\n"
    assert encode_cache({}, "10.3.0", "minmax") == b"TRT-100300-MinMaxCalibration\n"


def test_the_cache_comes_back() -> None:
    ranges = {"x": (-3.0, 2.0), "y": (0.0, 6.5)}
    found = decode_cache(encode_cache(ranges, "10.13.3.9"))
    assert found == pytest.approx({"x": 3.0, "y": 6.5})


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"TRT-8601-X\nx 3c01", b"TRT-8601-X\nx: zz", b"TRT-8601-X\nx: 7f800000", b"TRT-8601-X\nx: 0"],
)
def test_a_damaged_cache_is_refused(data: bytes) -> None:
    with pytest.raises(VerifyError):
        decode_cache(data)


class Tensor:
    def __init__(self, name: str, dtype: str = "DataType.FLOAT") -> None:
        self.name, self.dtype, self.range = name, dtype, (math.nan, math.nan)

    def set_dynamic_range(self, low: float, high: float) -> bool:
        self.range = (low, high)
        return True


class Layer:
    num_outputs = 1

    def __init__(self, tensor: Tensor) -> None:
        self.name, self._tensor = tensor.name, tensor

    def get_output(self, index: int) -> Tensor:
        return self._tensor


class Network:
    def __init__(self, *tensors: Tensor) -> None:
        self._layers = [Layer(tensor) for tensor in tensors]
        self.num_layers = len(tensors)

    def get_layer(self, index: int) -> Layer:
        return self._layers[index]


def test_ranges_are_symmetric_and_only_on_float_tensors() -> None:
    a, b, ids = Tensor("a"), Tensor("b"), Tensor("ids", "DataType.INT32")
    set_ranges(Network(a, b, ids), {"a": (-1.0, 3.0), "b": (-4.0, 0.0), "ids": (0.0, 9.0)})
    assert (a.range, b.range) == ((-3.0, 3.0), (-4.0, 4.0))
    assert math.isnan(ids.range[0])


def test_ranges_of_another_model_are_refused() -> None:
    network = Network(Tensor("a"), Tensor("b"), Tensor("c"), Tensor("(Unnamed Layer* 7) [Shuffle]_output"))
    set_ranges(network, {"a": (-1.0, 1.0)})  # what has no range stays in a float type
    with pytest.raises(VerifyError, match="none of its 3 tensors has one, for example a"):
        set_ranges(network, {"x": (-1.0, 1.0)})


@pytest.mark.parametrize("kind", ["entropy", "minmax"])
def test_a_calibrator_sees_every_frame_once_and_keeps_its_result_by_content(
    simulate: Callable[..., Any], tmp_path: Path, kind: Any
) -> None:
    gpu = simulate()
    import tensorrt

    from edgeseg.backend.nvidia.cuda import CudaDriver

    cuda = CudaDriver()
    cuda.open()
    frames = np.arange(3 * 2 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 2, 4, 4, 3)
    cache = tmp_path / cache_key(b"model", frames, kind, "10.3.0")
    calibrator = make_calibrator(TensorRtApi(tensorrt), cuda, frames, kind, cache)
    assert calibrator.get_batch_size() == 2
    assert calibrator.read_calibration_cache() is None
    seen = []
    while (batch := calibrator.get_batch(["frame"])) is not None:
        seen.append(gpu.view(batch[0], frames[0].nbytes).copy().reshape(frames[0].shape))
    np.testing.assert_array_equal(seen, frames)
    calibrator.write_calibration_cache(b"TRT-100300")
    assert calibrator.read_calibration_cache() == b"TRT-100300"
    cuda.close()
    assert gpu.violations == []


def test_a_cache_is_found_by_content_alone() -> None:
    frames = np.zeros((2, 1, 4, 4, 3), np.uint8)
    keys = {
        cache_key(b"model", frames, "entropy", "10"),
        cache_key(b"other", frames, "entropy", "10"),
        cache_key(b"model", frames + 1, "entropy", "10"),
        cache_key(b"model", frames.reshape(1, 2, 4, 4, 3), "entropy", "10"),
        cache_key(b"model", frames, "minmax", "10"),
        cache_key(b"model", frames, "entropy", "8"),
    }
    assert len(keys) == 6
    assert cache_key(b"model", frames.copy(), "entropy", "10") in keys


def test_11_has_no_calibrator(simulate: Callable[..., Any], tmp_path: Path) -> None:
    simulate("11.0.0")
    import tensorrt

    with pytest.raises(CapabilityError, match="explicit Q/DQ"):
        make_calibrator(TensorRtApi(tensorrt), None, np.zeros((1, 1, 2, 2, 3), np.uint8), "entropy", tmp_path / "c")


# ---------------------------------------------------------------- DLA


class DlaConfig:
    default_device_type: Any = None
    DLA_core = -1

    def __init__(self, refused: set[str]) -> None:
        self._refused = refused
        self.flags: list[str] = []

    def set_flag(self, flag: Any) -> None:
        self.flags.append(flag.name)

    def can_run_on_DLA(self, layer: Layer) -> bool:
        return layer.name not in self._refused


@pytest.fixture
def api(simulate: Callable[..., Any]) -> TensorRtApi:
    simulate()
    import tensorrt

    return TensorRtApi(tensorrt)


def test_a_board_without_dla_is_said_with_the_remedy(api: TensorRtApi) -> None:
    builder = SimpleNamespace(num_DLA_cores=0)
    with pytest.raises(CapabilityError, match=r"DLA core 0 is not available.*has none.*--target auto"):
        dla.assign(api, builder, Network(Tensor("a")), DlaConfig(set()), NvidiaOptions(dla_core=0))


def test_the_share_on_dla_is_reported_and_too_much_fallback_is_refused(api: TensorRtApi) -> None:
    builder, network = SimpleNamespace(num_DLA_cores=2), Network(*(Tensor(name) for name in "abcd"))
    config = DlaConfig({"b"})
    share = dla.assign(api, builder, network, config, NvidiaOptions(dla_core=1, max_gpu_fallback=0.25))
    assert share == 0.75
    assert (config.DLA_core, config.flags) == (1, ["GPU_FALLBACK"])
    assert config.default_device_type.name == "DLA"
    with pytest.raises(GateError, match=r"1 of 4, first b.*at most 10%"):
        dla.assign(api, builder, network, DlaConfig({"b"}), NvidiaOptions(dla_core=0, max_gpu_fallback=0.1))


def test_layer_norm_and_gelu_are_refused_before_anything_is_built() -> None:
    dla.check_operators({"Conv", "Relu", "Add"})
    with pytest.raises(RequestError, match=r"Erf, LayerNormalization.*edge-s, edge-m, edge-l"):
        dla.check_operators({"Conv", "LayerNormalization", "Erf"})


def test_q_dq_on_dla_is_refused(
    simulate: Callable[..., Any], in_process: None, model_file: Path, spec: EngineSpec, tmp_path: Path
) -> None:
    simulate()
    import msgspec

    from edgeseg.backend.nvidia.builder import TensorRtBuilder

    layer_norm = msgspec.structs.replace(spec, options={"dla_core": 0})
    with pytest.raises(CapabilityError, match="DLA core 0"):
        TensorRtBuilder().build(model_file, tmp_path, layer_norm)


def test_the_share_of_time_on_dla_is_reported_beside_that_of_layers(
    simulate: Callable[..., Any],
    in_process: None,
    model_file: Path,
    spec: EngineSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EDGESEG_SIMULATED_DLA", "2")
    gpu = simulate(integrated=True, compute_capability=(8, 7))
    from edgeseg.backend.nvidia import builder

    monkeypatch.setattr(builder, "_gpu_is_here", lambda: True)
    wanted = msgspec.structs.replace(spec, precision="fp16", options={"dla_core": 1})
    built = builder.TensorRtBuilder().build(model_file, tmp_path, wanted)
    assert built.report["dla_share"] == 1.0
    assert built.report["dla_time_share"] == 1.0  # the simulated engine's one layer says that it is on DLA
    assert built.report["dla_time_reason"] is None
    assert (gpu.contexts, gpu.violations) == (0, [])


def test_a_share_of_time_that_nothing_tells_is_none() -> None:
    def layer(kind: str, ms: int) -> LayerTime:
        return LayerTime(name="l", layers=(), kind=kind, implementation="", precision="int8", moves=False, time_ns=ms)

    assert dla.time_share([layer("DLA", 30), layer("Reformat", 10)]) == 0.75
    assert dla.time_share([layer("CaskConvolution", 30)]) is None


def test_an_fp16_engine_of_an_implicit_recipe_has_nothing_of_it(
    simulate: Callable[..., Any], in_process: None, model_file: Path, spec: EngineSpec, tmp_path: Path
) -> None:
    """`implicit` says how INT8 is done; the FP16 sibling of such a recipe was refused for want of ranges."""
    simulate()
    from edgeseg.backend.nvidia.builder import TensorRtBuilder

    wanted = msgspec.structs.replace(spec, precision="fp16", options={"implicit": True})
    built = TensorRtBuilder().build(model_file, tmp_path, wanted)
    assert built.precision == "fp16"
    assert not (tmp_path / "calibration.cache").exists()


def test_a_range_that_the_runtime_refuses_is_not_passed_over() -> None:
    class Refusing(Tensor):
        def set_dynamic_range(self, low: float, high: float) -> bool:
            return False

    assert set_ranges(Network(Tensor("a"), Refusing("b")), {"a": (0.0, 1.0), "b": (0.0, 1.0)}) == ["b"]
