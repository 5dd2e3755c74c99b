"""Equalisation is exact where it is allowed, and the refused places are refused for a reason."""

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest

from edgeseg.core.errors import RequestError
from edgeseg.graph import apply_forms, fix_frame_size, read_meta
from edgeseg.graph.forms import Forms
from edgeseg.graph.geometry import SCORES
from edgeseg.graph.ir import from_model
from edgeseg.graph.sample import sample_model
from edgeseg.quant import calibrate
from edgeseg.quant.equalise import (
    EQUALISED_NOTE,
    ChannelGroup,
    channel_groups,
    equalised,
    factors_for,
    rescale,
    scale_group,
    with_factors,
)
from edgeseg.quant.frames import ArrayPool
from edgeseg.quant.placement import CPU, NVIDIA
from edgeseg.quant.quantization import quantize
from edgeseg.quant.ranges import pack_floats

from .test_calibration import PICTURES, SIZE


def uneven(norm: str) -> onnx.ModelProto:
    """A model whose channels differ by a factor of a hundred."""
    model = sample_model(norm=norm)
    factors = np.geomspace(0.1, 10, 32).astype(np.float32)
    for tensor in model.graph.initializer:
        if tensor.name.endswith((".pw1.weight", ".dw.weight", "down.weight", "stem.weight")):
            values = onnx.numpy_helper.to_array(tensor).copy()
            values *= np.resize(factors, len(values)).reshape(-1, 1, 1, 1)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    from edgeseg.graph import weights_sha256, write_meta

    write_meta(model, msgspec.structs.replace(read_meta(model), weights_sha256=weights_sha256(model)))
    return model


def scores(model: onnx.ModelProto) -> np.ndarray:
    exposed = fix_frame_size(model, SIZE)
    exposed.graph.output.append(onnx.helper.make_tensor_value_info(SCORES, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([SCORES], {"frame": frame[None]})[0] for frame in PICTURES[:3]])


def groups_of(model: onnx.ModelProto) -> dict[str, ChannelGroup]:
    return {name: group for group in channel_groups(from_model(model)) for name in group.tensors}


def some_factors(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Factors between 1/8 and 1 for every group."""
    graph = from_model(model)
    rng = np.random.default_rng(0)
    found = {}
    for group in channel_groups(graph):
        maker = group.makers[0]
        channels = graph.constants[maker.inputs[1]].shape[1 if maker.op == "ConvTranspose" else 0]
        found[group.tensors[0]] = np.exp2(-3 * rng.random(channels)).astype(np.float32)
    return found


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_the_same_function_with_other_weights(norm):
    model = uneven(norm)
    made = with_factors(model, some_factors(model))
    reference = scores(model)
    assert np.abs(scores(made) - reference).max() <= 1e-4 * np.abs(reference).max()
    assert read_meta(made).weights_sha256 != read_meta(model).weights_sha256


def test_a_residual_stream_is_one_group():
    groups = groups_of(sample_model(norm="batch"))
    group = groups["encoder.1.0.add"]
    assert {"encoder.1.down", "encoder.1.0.add"} <= set(group.tensors)
    assert {node.name for node in group.makers} == {"encoder.1.down", "encoder.1.0.pw2"}
    assert {node.name for node in group.readers} == {"encoder.1.0.dw", "decoder.0.up"}
    assert "encoder.0.0.add" not in groups  # a Concat reads it


def test_the_groups_of_each_family():
    batch, layer = groups_of(sample_model(norm="batch")), groups_of(sample_model(norm="layer"))
    assert [node.name for node in batch["encoder.0.0.dw"].readers] == ["encoder.0.0.pw1"]
    assert [node.name for node in batch["encoder.0.0.pw1"].readers] == ["encoder.0.0.pw2"]
    assert [node.op for node in layer["encoder.0.0.norm"].makers] == ["LayerNormalization"]
    assert not {"encoder.0.0.dw", "encoder.0.0.pw1", "encoder.0.0.act"} & layer.keys()
    assert not {"frame", "pixels", "mask", SCORES} & {*batch, *layer}


@pytest.mark.parametrize(
    ("first", "second"),
    [("encoder.0.0.dw", "encoder.0.0.pw1"), ("encoder.0.0.pw1", "encoder.0.0.pw2")],
    ids=["across LayerNormalization", "across GELU"],
)
def test_refused_because_the_function_would_change(first, second):
    model = uneven("layer")
    graph = from_model(model)
    nodes = {node.name: node for node in graph.nodes}
    factor = np.resize(np.geomspace(1 / 64, 1, 8), len(graph.constants[nodes[first].inputs[1]])).astype(np.float32)
    with pytest.raises(RequestError, match=f"channels of {first}"):
        rescale(graph, {first: factor})
    # what would happen: the error is not rounding
    reference = scores(model)
    scale_group(graph, ChannelGroup([first], [nodes[first]], [nodes[second]]), factor)
    error = np.abs(scores(graph.to_model()) - reference).mean() / np.abs(reference).mean()
    assert error > 3e-4  # a rounding would be 1e-6


def test_factors_follow_the_extents():
    assert factors_for(np.array([8.0, 2.0, 0.0]), 1.0).tolist() == [1.0, 0.25, 1.0]
    assert factors_for(np.array([8.0, 2.0, 0.0]), 0.5).tolist() == [1.0, 0.5, 1.0]
    assert factors_for(np.array([1.0, 1e-9]), 1.0).tolist() == [1.0, 1 / 64]


def test_factors_of_another_width_are_refused():
    with pytest.raises(RequestError, match="do not fit"):
        rescale(from_model(sample_model()), {"encoder.0.0.dw": np.ones(3, np.float32)})


@pytest.mark.parametrize("placement", [CPU, NVIDIA], ids=["cpu", "nvidia"])
def test_uneven_channels_lose_less_and_every_form_takes_the_factors(placement):
    model = uneven("batch")
    plain = calibrate(model, ArrayPool(PICTURES), count=16, network_size=SIZE, prepare=False)
    even = calibrate(model, ArrayPool(PICTURES), count=16, network_size=SIZE)
    assert even.equalisation
    assert not plain.equalisation
    reference = scores(model)
    static = fix_frame_size(model, SIZE)
    errors = [
        np.square(scores_fixed(quantize(static, item, placement)) - reference).mean()
        for item in (plain, msgspec.structs.replace(even, in_float={}))
    ]
    assert errors[1] < 0.9 * errors[0]
    formed = quantize(apply_forms(equalised(static, even), Forms(tail="phases")), even, placement)
    assert read_meta(formed).notes[EQUALISED_NOTE] == even.id


def scores_fixed(model: onnx.ModelProto) -> np.ndarray:
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.append(onnx.helper.make_tensor_value_info(SCORES, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([SCORES], {"frame": frame[None]})[0] for frame in PICTURES[:3]])


def test_a_form_without_the_group_is_refused():
    model = uneven("layer")
    ranges = calibrate(model, ArrayPool(PICTURES), count=16, network_size=SIZE, prepare=False)
    width = len(from_model(model).constants["encoder.0.0.norm.weight"])
    ranges = msgspec.structs.replace(ranges, equalisation={"encoder.0.0.norm": pack_floats(np.ones(width))})
    parts = apply_forms(fix_frame_size(model, SIZE), Forms(layer_norm="parts"))
    with pytest.raises(RequestError, match=r"encoder\.0\.0\.norm"):
        quantize(parts, ranges, CPU)
