"""Where integers go: roles, tensors and scales of each target."""

import msgspec
import numpy as np
import onnxruntime
import pytest

from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.graph import apply_forms, fix_frame_size
from edgeseg.graph.forms import Forms, canonical_name
from edgeseg.graph.ir import from_model
from edgeseg.graph.sample import sample_model
from edgeseg.quant import calibrate, quantize
from edgeseg.quant.frames import ArrayPool
from edgeseg.quant.layers import residuals, weighted_layers
from edgeseg.quant.placement import (
    CPU,
    CPU_WITHOUT_VNNI,
    NVIDIA,
    NVIDIA_FULL,
    NVIDIA_TYPED,
    PLACEMENTS,
    get_placement,
    plan,
)
from edgeseg.quant.thresholds import Method

from .test_calibration import PICTURES, SIZE


def masks_of(proto) -> np.ndarray:
    """Masks of the exact arithmetic of a graph: nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return np.stack([session.run(None, {"frame": frame[None]})[0] for frame in PICTURES[:6]])


@pytest.fixture(scope="module", params=["batch", "layer"])
def model(request):
    return sample_model(norm=request.param)


@pytest.fixture(scope="module")
def ranges(model):
    return calibrate(model, ArrayPool(PICTURES), count=16, prepare=False)


def test_roles_come_from_operators_not_names(model):
    roles = {layer.name: layer.role for layer in weighted_layers(from_model(model))}
    assert roles == {
        "encoder.stem": "stem",
        "encoder.0.0.dw": "depthwise",
        "encoder.0.0.pw1": "pointwise",
        "encoder.0.0.pw2": "pointwise",
        "encoder.1.down": "downsample",
        "encoder.1.0.dw": "depthwise",
        "encoder.1.0.pw1": "pointwise",
        "encoder.1.0.pw2": "pointwise",
        "decoder.0.up": "upsample",
        "decoder.0.fuse": "conv",
        "head.colours": "stem",
        "head.logits": "head",
    }


def test_residual_identity_is_what_came_past_the_branch(model):
    found = {item.name: item.identity for item in residuals(from_model(model))}
    assert found == {"encoder.0.0.add": "encoder.stem", "encoder.1.0.add": "encoder.1.down"}


@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda placement: placement.name)
def test_the_head_stays_in_float_and_masks_agree(model, ranges, placement):
    static = fix_frame_size(model, SIZE)
    quantised = quantize(static, ranges, placement)
    graph = from_model(quantised)
    assert "head.logits.weight" in graph.constants
    assert quantised.graph.output[0].name == "mask"
    assert np.mean(masks_of(static) == masks_of(quantised)) > 0.97


def test_cpu_is_asymmetric_and_leaves_stem_and_transposed_convolutions_in_float(model, ranges):
    made = plan(from_model(model), ranges, CPU)
    items = {item.tensor: item for item in made.activations}
    assert {item.dtype for item in made.activations} == {"uint8"}
    assert {"encoder.0.0.dw", "encoder.0.0.add"} <= set(items["encoder.stem"].consumers)
    branch = next(item.branch for item in residuals(from_model(model)) if item.name == "encoder.0.0.add")
    assert items[branch].consumers == ("encoder.0.0.add",)
    assert not {"encoder.stem", "decoder.0.up", "head.logits", "head.colours"} & {item.node for item in made.weights}
    if not any(node.op == "LayerNormalization" for node in from_model(model).nodes):
        # behind ReLU nothing is negative: all 256 levels are for what is positive
        assert items["encoder.0.0.act"].zero_point == 0


def test_quantised_camera_bytes_stay_what_they_are(model, ranges):
    stem = msgspec.structs.replace(CPU, roles=("stem",))
    (item,) = plan(from_model(model), ranges, stem).activations
    assert (item.tensor, item.scale, item.zero_point) == ("pixels", 1.0, 0)


@pytest.mark.parametrize(
    "forms", [Forms(tail="phases", layer_norm="parts"), Forms(transposed="shuffle"), Forms(pointwise="matmul")]
)
@pytest.mark.parametrize("placement", [CPU, NVIDIA], ids=["cpu", "nvidia"])
def test_exact_forms_take_the_same_ranges(model, ranges, placement, forms):
    static = fix_frame_size(model, SIZE)
    plain, formed = quantize(static, ranges, placement), quantize(apply_forms(static, forms), ranges, placement)
    assert np.mean(masks_of(plain) == masks_of(formed)) > 0.98
    layers = [{layer.name for layer in weighted_layers(from_model(proto))} for proto in (plain, formed)]
    assert {canonical_name(name) for name in layers[1]} == layers[0]


def test_between_convolution_and_layer_norm(model, ranges):
    made = {item.tensor: item for item in plan(from_model(model), ranges, NVIDIA_FULL).activations}
    normalised = any(node.op == "LayerNormalization" for node in from_model(model).nodes)
    readers = made["encoder.0.0.dw"].consumers
    assert any("norm" in name for name in readers) == normalised


@pytest.mark.parametrize("placement", [NVIDIA, NVIDIA_TYPED])
def test_nvidia_is_symmetric_without_depthwise_stem_or_transposed(model, ranges, placement):
    made = plan(from_model(model), ranges, placement)
    assert {item.zero_point for item in made.activations} == {0}
    assert {item.dtype for item in made.activations} == {"int8"}
    layers = {item.node for item in made.weights}
    assert not layers & {"encoder.0.0.dw", "encoder.stem", "decoder.0.up", "head.logits"}
    assert {"encoder.0.0.pw1", "encoder.1.down", "decoder.0.fuse"} <= layers
    assert all(item.axis == 0 for item in made.weights)


def test_without_vnni_weights_use_seven_bits(model, ranges):
    for item in plan(from_model(model), ranges, CPU_WITHOUT_VNNI).weights:
        assert (item.low, item.high) == (-64, 63)


def test_scales_of_a_typed_graph_keep_float16s_precision():
    model = sample_model()
    for tensor in model.graph.initializer:
        if tensor.name == "encoder.0.0.pw2.weight":
            values = np.frombuffer(tensor.raw_data, np.float32).copy() * 1e-6
            values[: len(values) // 8] = 0.0  # the first channel is dead
            tensor.raw_data = values.tobytes()
    ranges = calibrate(model, ArrayPool(PICTURES), count=16, prepare=False)
    made = plan(from_model(model), ranges, NVIDIA_TYPED)
    scales = [scale for item in made.weights for scale in item.scales] + [item.scale for item in made.activations]
    assert min(scales) >= 2.0**-14
    smallest = min(scale for item in plan(from_model(model), ranges, NVIDIA).weights for scale in item.scales)
    assert smallest < 2.0**-14


def test_a_layer_can_be_kept_in_float(model, ranges):
    made = plan(from_model(model), ranges, CPU, keep_float={"encoder.0.0.pw1"})
    assert "encoder.0.0.pw1" not in {item.node for item in made.weights}
    assert "encoder.0.0.pw1" not in {name for item in made.activations for name in item.consumers}


def test_every_method_gives_a_plan(model, ranges):
    for name in ("minmax", "percentile", "entropy", "mse"):
        assert plan(from_model(model), ranges, CPU, method=Method(name=name)).activations


def test_stale_ranges_are_refused(model, ranges):
    with pytest.raises(VerifyError, match="stale"):
        quantize(sample_model(seed=5), ranges, CPU)


def test_ranges_without_a_tensor_are_refused_by_name(model, ranges):
    kept = {name: value for name, value in ranges.tensors.items() if name != "encoder.1.0.act"}
    with pytest.raises(VerifyError, match=r"encoder\.1\.0\.act"):
        quantize(model, msgspec.structs.replace(ranges, tensors=kept), CPU)


def test_an_unknown_placement_names_the_known():
    assert get_placement("cpu") is CPU
    with pytest.raises(RequestError, match="nvidia"):
        get_placement("nvidi")
