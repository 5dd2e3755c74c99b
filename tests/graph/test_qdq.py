from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.errors import RequestError
from edgeseg.graph import fix_frame_size, insert_qdq
from edgeseg.graph.ir import from_model
from edgeseg.graph.qdq import ActivationQ, QdqPlan, WeightQ
from edgeseg.graph.sample import sample_model


def _model():
    return fix_frame_size(sample_model(), (40, 48))


def test_one_pair_serves_the_chosen_readers_and_no_other(run, picture):
    skip = "encoder.0.0.add"
    item = ActivationQ(tensor=skip, scale=0.05, zero_point=10, dtype="uint8", consumers=("encoder.1.down",))
    model = insert_qdq(_model(), QdqPlan(activations=(item,)))
    nodes = {node.output[0]: node for node in model.graph.node}
    assert nodes["encoder.1.down"].input[0] == f"{skip}/dq"
    assert skip in nodes["decoder.0.concat"].input
    seen = run(model, picture(40, 48), skip, f"{skip}/dq")
    expected = (np.clip(np.rint(seen[skip] / np.float32(0.05)) + 10, 0, 255) - 10) * np.float32(0.05)
    np.testing.assert_allclose(seen[f"{skip}/dq"], expected, atol=1e-6)


def test_two_pairs_behind_one_tensor_for_different_readers():
    skip = "encoder.0.0.add"
    items = tuple(
        ActivationQ(tensor=skip, scale=scale, zero_point=0, dtype="int8", consumers=(reader,))
        for scale, reader in [(0.1, "encoder.1.down"), (0.2, "decoder.0.concat")]
    )
    graph = from_model(insert_qdq(_model(), QdqPlan(activations=items)))
    nodes = {node.name: node for node in graph.nodes}
    assert nodes["encoder.1.down"].inputs[0] == f"{skip}/dq"
    assert nodes["decoder.0.concat"].inputs[1] == f"{skip}/dq.1"
    assert graph.constants[f"{skip}/scale.1"] == np.float32(0.2)


@pytest.mark.parametrize("prequantised", [True, False])
@pytest.mark.parametrize(("node", "axis"), [("encoder.0.0.pw1", 0), ("decoder.0.up", 1), ("encoder.0.0.dw", None)])
def test_weights_become_integers(run, picture, node, axis, prequantised):
    base = _model()
    weight = from_model(base).constants[f"{node}.weight"]
    peaks = (
        np.abs(weight).max()
        if axis is None
        else np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(1)
    )
    scales = tuple(float(x) for x in np.atleast_1d(peaks / 63))
    item = WeightQ(node=node, scales=scales, axis=axis, low=-64, high=63, prequantised=prequantised)
    model = insert_qdq(base, QdqPlan(weights=(item,)))
    graph = from_model(model)
    assert graph.constants[f"{node}.weight/scale"].shape == (() if axis is None else (len(scales),))
    assert any(n.op == "QuantizeLinear" for n in graph.nodes) is not prequantised
    seen = run(model, picture(40, 48), f"{node}.weight/dq")[f"{node}.weight/dq"]
    shape = [-1 if i == axis else 1 for i in range(4)]
    scale = np.float32(scales).reshape(shape if axis is not None else ())
    np.testing.assert_allclose(seen, np.clip(np.rint(weight / scale), -64, 63) * scale, atol=1e-6)
    assert np.abs(seen - weight).max() <= 0.5001 * max(scales)


def test_a_bias_may_be_int32():
    item = WeightQ(
        node="encoder.0.0.pw1", input=2, scales=(1e-5,) * 32, axis=0, dtype="int32", low=-(2**31), high=2**31 - 1
    )
    graph = from_model(insert_qdq(_model(), QdqPlan(weights=(item,))))
    assert graph.constants["encoder.0.0.pw1.bias/q"].dtype == np.int32


def test_the_model_itself_is_not_changed():
    model = _model()
    before = model.SerializeToString(deterministic=True)
    insert_qdq(model, QdqPlan(activations=(ActivationQ(tensor="pixels", scale=1.0, zero_point=0, dtype="uint8"),)))
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    "plan",
    [
        QdqPlan(activations=(ActivationQ(tensor="no", scale=1.0, zero_point=0, dtype="int8"),)),
        QdqPlan(
            activations=(ActivationQ(tensor="pixels", scale=1.0, zero_point=0, dtype="int8", consumers=("mask",)),)
        ),
        QdqPlan(weights=(WeightQ(node="no", scales=(1.0,)),)),
        QdqPlan(weights=(WeightQ(node="encoder.0.0.act", scales=(1.0,)),)),
        QdqPlan(weights=(WeightQ(node="encoder.0.0.pw1", scales=(1.0, 1.0), axis=0),)),
    ],
)
def test_a_plan_for_another_model_is_refused_by_name(plan):
    with pytest.raises(RequestError, match="the plan"):
        insert_qdq(_model(), plan)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_must_be_positive_and_finite(scale):
    with pytest.raises(ValueError, match="scale"):
        ActivationQ(tensor="x", scale=scale, zero_point=0, dtype="int8")
    with pytest.raises(ValueError, match="scale"):
        WeightQ(node="x", scales=(scale,))
