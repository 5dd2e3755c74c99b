"""The layer that hurts most is found, and the figures mean what they say."""

import msgspec
import numpy as np
import onnx
import pytest

from edgeseg.graph import fix_frame_size
from edgeseg.graph.sample import sample_model
from edgeseg.quant import calibrate
from edgeseg.quant.frames import ArrayPool
from edgeseg.quant.placement import CPU, NVIDIA
from edgeseg.quant.sensitivity import divergence, layer_sensitivity, scores_of, sqnr_db
from edgeseg.quant.thresholds import Method

from .test_calibration import PICTURES, SIZE


def test_the_worst_layer_comes_first():
    model = sample_model()
    ranges = calibrate(model, ArrayPool(PICTURES), count=16, method=Method(name="minmax"), prepare=False)
    spoilt = ranges.tensors["encoder.0.0.act"]
    spoilt = msgspec.structs.replace(spoilt, maximum=spoilt.maximum / 50)  # all but the smallest values are clipped
    ranges = msgspec.structs.replace(ranges, tensors={**ranges.tensors, "encoder.0.0.act": spoilt})
    found = layer_sensitivity(fix_frame_size(model, SIZE), ranges, CPU, PICTURES[:2])
    assert found[0].layer == "encoder.0.0.pw2"
    assert found[0].sqnr_db == min(item.sqnr_db for item in found)
    assert found[0].clipped > 0.3
    assert {item.layer for item in found} >= {"encoder.0.0.dw", "decoder.0.fuse"}


def test_clipped_shares_and_dead_channels():
    model = sample_model()
    for tensor in model.graph.initializer:
        if tensor.name == "encoder.0.0.pw1.weight":
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[:3] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    method = Method(name="percentile", percentile=90.0)
    ranges = calibrate(model, ArrayPool(PICTURES), count=16, method=method, prepare=False)
    found = {item.layer: item for item in layer_sensitivity(fix_frame_size(model, SIZE), ranges, NVIDIA, PICTURES[:1])}
    assert found["encoder.0.0.pw1"].dead_channels == 3
    assert found["encoder.1.0.pw1"].dead_channels == 0
    assert found["encoder.0.0.pw2"].clipped == pytest.approx(0.1, abs=0.03)


def test_figures_of_equal_and_shifted_logits():
    logits = np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32)
    assert sqnr_db(logits, logits) == 120.0
    assert divergence(logits, logits) == 0.0
    # a constant on every class changes no probability, but it is noise
    assert divergence(logits, logits + 3) == pytest.approx(0, abs=1e-5)
    assert sqnr_db(logits, logits + 0.1 * np.abs(logits).mean()) < 25
    other = np.random.default_rng(1).normal(size=logits.shape).astype(np.float32)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    log_q = other - np.log(np.exp(other).sum(1, keepdims=True))
    expected = (np.exp(log_p) * (log_p - log_q)).sum(1).mean()
    assert divergence(logits, other) == pytest.approx(expected, rel=1e-4)


def test_with_labels_it_says_what_each_layer_costs_in_miou():
    model = sample_model()
    ranges = calibrate(model, ArrayPool(PICTURES), count=16, method=Method(name="minmax"), prepare=False)
    spoilt = ranges.tensors["encoder.0.0.act"]
    spoilt = msgspec.structs.replace(spoilt, maximum=spoilt.maximum / 50)
    ranges = msgspec.structs.replace(ranges, tensors={**ranges.tensors, "encoder.0.0.act": spoilt})
    static = fix_frame_size(model, SIZE)
    # labelled with its own FP32 masks: every change is a loss
    labels = [
        np.repeat(np.repeat(mask, 2, 0), 2, 1) for mask in scores_of(static, PICTURES[:2]).argmax(1).astype(np.uint8)
    ]
    found = layer_sensitivity(static, ranges, CPU, PICTURES[:2], labels=labels)
    assert found[0].layer == "encoder.0.0.pw2"
    assert found[0].lost_points > 1
    assert min(item.lost_points for item in found) < found[0].lost_points
    assert layer_sensitivity(static, ranges, CPU, PICTURES[:1])[0].lost_points is None
