"""Equalisation is exact where it is allowed, and the refused places are refused for a reason."""

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeseg.core.errors import RequestError
from edgeseg.graph import fix_frame_size, read_meta
from edgeseg.graph.geometry import SCORES
from edgeseg.graph.ir import from_model
from edgeseg.graph.sample import sample_model
from edgeseg.quant.equalise import Pair, equalise, exact_pairs

from .test_calibration import PICTURES, SIZE


def uneven(norm: str) -> onnx.ModelProto:
    """A model whose channels differ by a factor of a hundred."""
    model = sample_model(norm=norm)
    factors = np.geomspace(0.1, 10, 32).astype(np.float32)
    for tensor in model.graph.initializer:
        if tensor.name.endswith((".pw1.weight", ".dw.weight")):
            values = onnx.numpy_helper.to_array(tensor).copy()
            values *= np.resize(factors, len(values)).reshape(-1, 1, 1, 1)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def scores(model: onnx.ModelProto) -> np.ndarray:
    exposed = fix_frame_size(model, SIZE)
    exposed.graph.output.append(onnx.helper.make_tensor_value_info(SCORES, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([SCORES], {"frame": frame[None]})[0] for frame in PICTURES[:3]])


def spread(model: onnx.ModelProto, layer: str) -> float:
    weight = from_model(model).constants[f"{layer}.weight"]
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    return float(largest.max() / largest.min())


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_the_same_function_with_more_even_channels(norm):
    model = uneven(norm)
    made = equalise(model)
    reference = scores(model)
    assert np.abs(scores(made) - reference).max() <= 1e-4 * np.abs(reference).max()
    assert read_meta(made).weights_sha256 != read_meta(model).weights_sha256
    if norm == "batch":
        assert spread(made, "encoder.0.0.pw1") < 0.3 * spread(model, "encoder.0.0.pw1")


def test_the_exact_pairs_of_each_family():
    batch = set(exact_pairs(from_model(sample_model(norm="batch"))))
    assert {Pair("encoder.0.0.dw", "encoder.0.0.pw1"), Pair("encoder.0.0.pw1", "encoder.0.0.pw2")} <= batch
    layer = set(exact_pairs(from_model(sample_model(norm="layer"))))
    assert Pair("encoder.0.0.norm", "encoder.0.0.pw1") in layer
    assert not {pair for pair in layer if pair.first.endswith((".dw", ".pw1"))}


@pytest.mark.parametrize(
    ("first", "second"),
    [("encoder.0.0.dw", "encoder.0.0.pw1"), ("encoder.0.0.pw1", "encoder.0.0.pw2")],
    ids=["across LayerNormalization", "across GELU"],
)
def test_refused_because_the_function_would_change(first, second, monkeypatch):
    from edgeseg.quant import equalise as room

    model = uneven("layer")
    with pytest.raises(RequestError, match=f"{first} to {second}"):
        equalise(model, [Pair(first, second)])
    # what would happen: the error is not rounding
    monkeypatch.setattr(room, "exact_pairs", lambda graph: [Pair(first, second)])
    reference = scores(model)
    error = np.abs(scores(equalise(model)) - reference).mean() / np.abs(reference).mean()
    assert error > 1e-3
