"""One pass over real frames: exact extremes, the frames that count, constant work for every placement."""

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeseg.core.errors import DataError, RequestError
from edgeseg.core.workspace import resolve_model
from edgeseg.graph import fix_frame_size, load_model
from edgeseg.graph.ir import from_model
from edgeseg.graph.sample import sample_model
from edgeseg.quant import calibrate
from edgeseg.quant.frames import ArrayPool, choose_frames
from edgeseg.quant.layers import moved_from
from edgeseg.quant.placement import PLACEMENTS, quantised_tensors
from edgeseg.quant.thresholds import Method

SIZE = (72, 100)


def picture(seed: int, size=SIZE) -> np.ndarray:
    """Smooth coloured shapes, unlike each other."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    waves = [np.sin(2 * np.pi * (rng.uniform(0.5, 3) * x + rng.uniform(0.5, 3) * y) + rng.uniform(0, 6)) for _ in "bgr"]
    return np.clip(rng.uniform(60, 190) + 60 * np.stack(waves, -1) + rng.normal(0, 3, (*size, 3)), 0, 255).astype(
        np.uint8
    )


PICTURES = [picture(seed) for seed in range(24)]


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_extremes_equal_those_of_a_plain_run(norm):
    model = sample_model(norm=norm)
    ranges = calibrate(model, ArrayPool(PICTURES), count=16, prepare=False)
    assert ranges.frames.count == 16
    assert ranges.layers_size == (64, 89)
    chosen = choose_frames(ArrayPool(PICTURES), 16).indices
    exposed = fix_frame_size(model, SIZE, ranges.layers_size)
    for name in ranges.tensors:
        exposed.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run(list(ranges.tensors), {"frame": PICTURES[i][None]}) for i in chosen]
    for tensor, values in zip(ranges.tensors.values(), zip(*runs, strict=True), strict=True):
        everything = np.concatenate([value.reshape(-1) for value in values])
        assert tensor.minimum == pytest.approx(everything.min(), rel=1e-5, abs=1e-6)
        assert tensor.maximum == pytest.approx(everything.max(), rel=1e-5, abs=1e-6)
        assert tensor.distribution().counts.sum() == everything.size


def test_only_what_some_placement_quantises_is_measured():
    model = sample_model()
    graph = from_model(model)
    wanted = {moved_from(graph, name) for placement in PLACEMENTS for name in quantised_tensors(graph, placement)} - {
        "pixels"
    }
    assert set(calibrate(model, ArrayPool(PICTURES), count=16, prepare=False).tensors) == wanted


def test_the_same_frames_give_the_same_content():
    model = sample_model()
    first = calibrate(model, ArrayPool(PICTURES), count=16, prepare=False)
    assert first.id == calibrate(model, ArrayPool(PICTURES), count=16, prepare=False).id
    other = [*PICTURES[:5], picture(99), *PICTURES[6:]]
    assert first.id != calibrate(model, ArrayPool(other), count=24, prepare=False).id


def test_frames_of_several_sizes():
    mixed = [picture(seed, (72, 100) if seed % 2 else (96, 128)) for seed in range(20)]
    assert calibrate(sample_model(), ArrayPool(mixed), count=20, prepare=False).frames.count == 20
    mixed = [picture(seed, (72, 100 + 4 * seed)) for seed in range(20)]
    with pytest.raises(DataError, match="too many sizes"):
        calibrate(sample_model(), ArrayPool(mixed), count=20, prepare=False)


def test_a_tensor_that_is_not_finite_is_refused_by_name():
    model = sample_model()
    for tensor in model.graph.initializer:
        if tensor.name == "encoder.0.0.pw1.weight":
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[0] = np.inf
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    with pytest.raises(DataError, match=r"not finite.*encoder\.0\.0\.act"):
        calibrate(model, ArrayPool(PICTURES), count=16, prepare=False)


def test_the_method_is_kept():
    assert (
        calibrate(
            sample_model(), ArrayPool(PICTURES), count=16, method=Method(name="entropy"), prepare=False
        ).method.name
        == "entropy"
    )


@pytest.mark.parametrize("prepare", [True, False])
def test_frames_of_less_than_one_stride_are_refused(prepare):
    model = load_model(resolve_model("zoo:edge-s"))
    frames = ArrayPool([picture[:24] for picture in PICTURES])
    with pytest.raises(RequestError, match=r"24x100 at stride 32.*sides of 32 to.*try: --network-size 360x480"):
        calibrate(model, frames, count=16, method=Method(name="minmax"), prepare=prepare)


def test_too_few_frames_are_refused():
    with pytest.raises(DataError, match="too few calibration frames"):
        calibrate(sample_model(), ArrayPool(PICTURES[:7]), count=16, prepare=False)
