from __future__ import annotations

import pytest

from edgeseg.core.errors import VerifyError
from edgeseg.graph import fix_frame_size, insert_qdq, save_model, summarise
from edgeseg.graph.qdq import ActivationQ, QdqPlan, WeightQ
from edgeseg.graph.sample import sample_model
from edgeseg.graph.summary import layers_by_precision


def test_a_summary_says_what_is_in_the_file(tmp_path):
    file = tmp_path / "m.onnx"
    save_model(file, sample_model(norm="layer"))
    summary = summarise(file)
    assert summary.name == "sample-layer"
    assert summary.opset == 17
    assert summary.inputs[0].shape == ("batch", "height", "width", 3)
    assert summary.inputs[0].dtype == "uint8"
    assert summary.ops["LayerNormalization"] == 2
    assert summary.counted_at == (64, 96)
    assert summary.macs > 0
    assert summary.layers["fp32"] == sum(summary.ops.values())
    assert len(summary.most_expensive) == 5


def test_a_layer_counts_as_int8_where_its_data_and_weights_are():
    pw1, dw = "encoder.0.0.pw1", "encoder.0.0.dw"
    inputs = ActivationQ(tensor=dw, scale=0.1, zero_point=0, dtype="int8")
    weight = WeightQ(node=pw1, scales=(0.01,) * 32, axis=0)
    model = fix_frame_size(sample_model(), (64, 96))
    assert layers_by_precision(model)["int8"] == 0
    assert layers_by_precision(insert_qdq(model, QdqPlan(activations=(inputs,))))["int8"] == 0
    assert layers_by_precision(insert_qdq(model, QdqPlan(activations=(inputs,), weights=(weight,))))["int8"] == 1


def test_a_foreign_file_is_named(tmp_path):
    file = tmp_path / "foreign.onnx"
    file.write_bytes(b"%PDF-1.7 not a model" * 50)
    with pytest.raises(VerifyError, match=r"foreign\.onnx"):
        summarise(file)
