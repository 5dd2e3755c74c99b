"""What a calibration decides by itself: layers that integers would cost too much stay in float, for new weights too."""

import msgspec
import numpy as np
import pytest

from edgeseg.graph import fix_frame_size, read_meta
from edgeseg.graph.ir import from_model
from edgeseg.graph.sample import sample_model
from edgeseg.quant import calibrate, quantize
from edgeseg.quant.frames import ArrayPool
from edgeseg.quant.placement import CPU, NVIDIA, plan
from edgeseg.quant.prepare import MAX_CHANGED, layers_in_float
from edgeseg.quant.sensitivity import scores_of

from .test_calibration import PICTURES, SIZE


@pytest.fixture(scope="module")
def model():
    return sample_model()


@pytest.fixture(scope="module")
def ranges(model):
    return calibrate(model, ArrayPool(PICTURES), count=16, network_size=SIZE, prepare=False)


def changed(static, ranges, placement) -> float:
    frames = PICTURES[:4]
    reference = scores_of(static, frames).argmax(axis=1)
    return float(np.mean(reference != scores_of(quantize(static, ranges, placement), frames).argmax(axis=1)))


def test_a_spoilt_layer_leaves_the_integers_and_the_masks_come_back(model, ranges):
    bad = ranges.tensors["encoder.0.0.act"]
    bad = msgspec.structs.replace(bad, maximum=bad.maximum / 50)  # all but the smallest values are clipped
    spoilt = msgspec.structs.replace(
        ranges,
        tensors={**ranges.tensors, "encoder.0.0.act": bad},
        method=msgspec.structs.replace(ranges.method, name="minmax"),
    )
    static = fix_frame_size(model, SIZE)
    assert changed(static, spoilt, CPU) > MAX_CHANGED
    found = layers_in_float(static, spoilt, PICTURES[:4])
    assert "encoder.0.0.pw2" in found["uint8"]  # it reads the clipped tensor
    kept = msgspec.structs.replace(spoilt, in_float=found)
    assert changed(static, kept, CPU) <= MAX_CHANGED
    assert "encoder.0.0.pw2" not in {item.node for item in plan(from_model(model), kept, CPU).weights}


def test_no_layer_leaves_where_the_masks_are_kept(model, ranges, monkeypatch):
    from edgeseg.quant import prepare

    monkeypatch.setattr(prepare, "MAX_CHANGED", 1.0)
    assert layers_in_float(fix_frame_size(model, SIZE), ranges, PICTURES[:2]) == {}


def test_layers_in_float_are_those_of_their_arithmetic(model, ranges):
    kept = msgspec.structs.replace(ranges, in_float={"uint8": ("encoder.0.0.pw1",)})
    nodes = {p.name: {item.node for item in plan(from_model(model), kept, p).weights} for p in (CPU, NVIDIA)}
    assert "encoder.0.0.pw1" not in nodes["cpu"]
    assert "encoder.0.0.pw1" in nodes["nvidia"]


def test_a_calibration_says_which_and_is_of_the_canonical_weights(model):
    found = calibrate(model, ArrayPool(PICTURES), count=16, network_size=SIZE)
    assert found.weights_sha256 == read_meta(model).weights_sha256
    for placement in (CPU, NVIDIA):
        assert changed(fix_frame_size(model, SIZE), found, placement) <= 2 * MAX_CHANGED
