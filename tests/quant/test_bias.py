"""Bias correction brings the mean output of a layer back, and needs no frame."""

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeseg.graph import fix_frame_size
from edgeseg.graph.ir import from_model
from edgeseg.graph.sample import sample_model
from edgeseg.quant import calibrate
from edgeseg.quant.bias import mean_shift
from edgeseg.quant.frames import ArrayPool
from edgeseg.quant.placement import CPU, plan
from edgeseg.quant.quantization import quantize

from .test_calibration import PICTURES, SIZE

COARSE = CPU.__class__(name="coarse", activations="uint8", roles=CPU.roles, residual="none", weight_limit=7)


def mean_output(model, layer: str) -> np.ndarray:
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.append(onnx.helper.make_tensor_value_info(layer, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = [session.run([layer], {"frame": frame[None]})[0] for frame in PICTURES[:16]]
    return np.mean(outputs, axis=(0, 1, 3, 4))


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_means_come_closer_to_those_in_float(norm):
    model = fix_frame_size(sample_model(norm=norm), SIZE)
    ranges = calibrate(sample_model(norm=norm), ArrayPool(PICTURES[:16]), count=16, network_size=SIZE, prepare=False)
    target = mean_output(model, "encoder.0.0.dw")
    errors = [
        np.abs(mean_output(quantize(model, ranges, COARSE, bias_correction=on), "encoder.0.0.dw") - target).mean()
        for on in (False, True)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_the_shift_is_the_formula():
    model = sample_model()
    ranges = calibrate(model, ArrayPool(PICTURES), count=16, prepare=False)
    graph = from_model(model)
    item = next(item for item in plan(graph, ranges, COARSE).weights if item.node == "encoder.0.0.pw1")
    node = next(node for node in graph.nodes if node.name == "encoder.0.0.pw1")
    weight = graph.constants[node.inputs[1]]
    means = np.arange(weight.shape[1], dtype=np.float64)
    scale = np.array(item.scales)[:, None]
    rounded = np.clip(np.rint(weight[:, :, 0, 0] / scale), -8, 7) * scale
    assert mean_shift(node, weight, item, means) == pytest.approx((rounded - weight[:, :, 0, 0]) @ means, abs=1e-5)


def test_exact_weights_shift_nothing():
    graph = from_model(sample_model())
    node = next(node for node in graph.nodes if node.name == "encoder.0.0.dw")
    weight = np.round(graph.constants[node.inputs[1]] * 10)
    ranges = calibrate(sample_model(), ArrayPool(PICTURES), count=16, prepare=False)
    item = next(item for item in plan(graph, ranges, CPU).weights if item.node == node.name)
    import msgspec

    item = msgspec.structs.replace(item, scales=(1.0,) * len(weight))
    assert not mean_shift(node, weight, item, np.ones(len(weight))).any()
