from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeseg.core.errors import RequestError
from edgeseg.graph import apply_forms, fix_frame_size, insert_qdq, make_variant, read_meta
from edgeseg.graph.forms import Forms
from edgeseg.graph.ir import BFLOAT16, FLOAT, FLOAT16, from_model, model_opset
from edgeseg.graph.qdq import ActivationQ, QdqPlan, WeightQ
from edgeseg.graph.sample import sample_model
from edgeseg.graph.variants import MIN_FP16_SCALE

SIZE = (37, 53)
LAYERS = ("encoder.0.0.pw1", "encoder.0.0.pw2", "encoder.1.down", "decoder.0.fuse")


def _quantised(model, *, int32_bias: bool = False):
    """Some convolutions of the sample in INT8, with per-channel weights."""
    graph = from_model(model)
    nodes = graph.producers()
    weights, activations = [], []
    for name in LAYERS:
        weight = graph.constants[f"{name}.weight"]
        peaks = np.abs(weight).reshape(weight.shape[0], -1).max(1)
        scales = tuple(float(max(peak, 1e-9)) / 127 for peak in peaks)
        weights.append(WeightQ(node=name, scales=scales, axis=0))
        activations.append(
            ActivationQ(tensor=nodes[name].inputs[0], scale=0.04, zero_point=0, dtype="int8", consumers=(name,))
        )
        if int32_bias:
            limit = 2**31
            scales = tuple(scale * 0.04 for scale in scales)
            weights.append(
                WeightQ(node=name, input=2, scales=scales, axis=0, dtype="int32", low=-limit, high=limit - 1)
            )
    return insert_qdq(model, QdqPlan(activations=tuple(activations), weights=tuple(weights)))


def _model(norm="batch", **options):
    return fix_frame_size(sample_model(norm=norm), SIZE, **options)


def _float_types(model):
    values = [*model.graph.value_info]
    network = [v for v in values if not v.name.startswith("geometry/") and v.name != "frame"]
    return {int(v.type.tensor_type.elem_type) for v in network} & {FLOAT, FLOAT16, BFLOAT16}


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_weak_quantises_float_weights_in_the_graph_and_changes_no_value(run, picture, norm):
    model = _quantised(_model(norm), int32_bias=True)
    weak = make_variant(model, "weak")
    graph = from_model(weak)
    assert model_opset(weak) == 17
    assert read_meta(weak).variant == "weak"
    assert all(value.dtype != np.int32 for value in graph.constants.values())
    for node in graph.nodes:
        if node.op == "DequantizeLinear":
            assert node.inputs[0] not in graph.constants, "integers as constants"
            assert (graph.constants[node.inputs[2]] == 0).all()
    frames = picture(*SIZE)
    before, after = run(model, frames, "scores")["scores"], run(weak, frames, "scores")["scores"]
    np.testing.assert_allclose(before, after, atol=1e-4 * np.abs(before).max())


def test_jetpack5_has_no_layer_normalization(run, picture):
    model = _quantised(_model("layer"))
    variant = make_variant(model, "jetpack5")
    assert "LayerNormalization" not in [node.op_type for node in variant.graph.node]
    frames = picture(*SIZE)
    before, after = run(model, frames, "scores")["scores"], run(variant, frames, "scores")["scores"]
    assert np.abs(before - after).max() < 0.02 * np.abs(before).max()  # a step of INT8 may flip


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("network_size", [None, (20, 30)])
@pytest.mark.parametrize("confidence", [False, True])
def test_typed_fp16_is_one_type_throughout(run, picture, norm, quantised, network_size, confidence):
    model = _model(norm, network_size=network_size, confidence=confidence)
    model = _quantised(model) if quantised else model
    typed = make_variant(model, "typed", "int8" if quantised else "fp16")
    assert model_opset(typed) == 19
    assert _float_types(typed) == {FLOAT16}
    assert typed.graph.node[0].op_type == "Cast"
    assert [v.type.tensor_type.elem_type for v in (*typed.graph.input, *typed.graph.output)] == (
        [onnx.TensorProto.UINT8] * (3 if confidence else 2)
    )
    assert {n.name for n in model.graph.node} <= {n.name for n in typed.graph.node} | {"pixels"}
    frames = picture(*SIZE)
    before, after = run(model, frames), run(typed, frames)
    assert np.mean(before["mask"] == after["mask"]) > (0.97 if quantised else 0.99)
    if confidence:
        difference = np.abs(before["confidence"].astype(int) - after["confidence"])
        assert np.percentile(difference, 95) <= 2


def test_typed_bf16_is_valid_and_of_one_type():
    typed = make_variant(_model("layer"), "typed", "bf16")
    assert _float_types(typed) == {BFLOAT16}
    assert read_meta(typed).variant == "typed-bf16"


def test_every_form_has_a_typed_variant(run, picture):
    model = apply_forms(_model(), Forms(transposed="shuffle", pointwise="matmul", tail="phases"))
    typed = make_variant(model, "typed", "fp16")
    frames = picture(*SIZE)
    assert np.mean(run(model, frames)["mask"] == run(typed, frames)["mask"]) > 0.99


def test_phases_with_confidence_have_a_typed_variant(run, picture):
    model = apply_forms(_model(confidence=True), Forms(tail="phases"))
    typed = make_variant(model, "typed", "fp16")
    before, after = run(model, picture(*SIZE)), run(typed, picture(*SIZE))
    assert np.percentile(np.abs(before["confidence"].astype(int) - after["confidence"]), 95) <= 2


def test_fp16_scales_never_underflow(run, picture):
    # a layer scale of 1e-6 folded into its convolution, and one channel of zeros beside
    graph = from_model(_model())
    for name in ("encoder.0.0.pw2", "decoder.0.fuse"):
        graph.constants[f"{name}.weight"] = graph.constants[f"{name}.weight"].copy()
    graph.constants["encoder.0.0.pw2.weight"] *= 1e-6
    graph.constants["decoder.0.fuse.weight"][3] = 0
    model = _quantised(graph.to_model())
    typed = make_variant(model, "typed", "fp16")
    constants = from_model(typed).constants
    scales = {name: value for name, value in constants.items() if name.endswith("/scale")}
    assert len(scales) == 2 * len(LAYERS)
    for name, value in scales.items():
        assert value.dtype == np.float16
        assert (value.astype(np.float64) >= MIN_FP16_SCALE).all(), name
    # with the larger step the tiny weights round to 0: what was under a sixteen-thousandth is not blown up
    assert not constants["encoder.0.0.pw2.weight/q"].any()
    assert not constants["decoder.0.fuse.weight/q"][3].any()
    frames = picture(*SIZE)
    assert np.mean(run(model, frames)["mask"] == run(typed, frames)["mask"]) > 0.97


def test_a_constant_beyond_fp16_is_refused_by_name():
    graph = from_model(_model())
    graph.constants["head.logits.bias"] = np.array([0, 0, 7e4, 0], np.float32)
    model = graph.to_model()
    with pytest.raises(RequestError, match=r"head\.logits\.bias.*bf16"):
        make_variant(model, "typed", "fp16")
    make_variant(model, "typed", "bf16")


def test_requests_that_cannot_be():
    with pytest.raises(RequestError, match="no such precision"):
        make_variant(_model(), "typed", "fp32")
    with pytest.raises(RequestError, match="unknown variant"):
        make_variant(_model(), "tflite")


def test_cpu_is_the_model_itself():
    model = _model()
    assert from_model(make_variant(model, "cpu")).nodes == from_model(model).nodes
