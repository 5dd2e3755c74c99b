"""Fine-tuning computes what the exported Q/DQ graph computes, and nothing else."""

from __future__ import annotations

import copy

import numpy as np
import onnxruntime
import pytest
import torch

from edgeseg.core.errors import CapabilityError
from edgeseg.graph import fix_frame_size, read_meta, weights_sha256
from edgeseg.graph.ir import from_model
from edgeseg.graph.sample import sample_model
from edgeseg.quant import calibrate
from edgeseg.quant.frames import ArrayPool
from edgeseg.quant.placement import CPU, NVIDIA, learnt_ranges, plan
from edgeseg.quant.quantization import quantize
from edgeseg.train.qat import GraphNet, learnt_quantise

SIZE = (72, 96)


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / max(SIZE)
    waves = [np.sin(7 * (rng.uniform(0.5, 3) * x + rng.uniform(0.5, 3) * y) + rng.uniform(0, 6)) for _ in "bgr"]
    return np.clip(rng.uniform(60, 190) + 60 * np.stack(waves, -1), 0, 255).astype(np.uint8)


PICTURES = [picture(seed) for seed in range(16)]


def onnx_masks(model, frames) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    static = fix_frame_size(model, SIZE) if read_meta(model).frame_size is None else model
    session = onnxruntime.InferenceSession(static.SerializeToString(), options, ["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"frame": frame[None]})[0] for frame in frames])


def torch_masks(net: GraphNet, frames) -> np.ndarray:
    with torch.no_grad():
        return net(pixels(frames)).argmax(dim=1).numpy().astype(np.uint8)


def pixels(frames) -> torch.Tensor:
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module", params=["batch", "layer"])
def model(request):
    return sample_model(norm=request.param)


@pytest.fixture(scope="module")
def ranges(model):
    return calibrate(model, ArrayPool(PICTURES), count=16, prepare=False)


def test_in_float_it_is_the_graph(model):
    assert (torch_masks(GraphNet(model), PICTURES[:4]) == onnx_masks(model, PICTURES[:4])).mean() >= 0.9999


@pytest.mark.parametrize("placement", [CPU, NVIDIA], ids=["cpu", "nvidia"])
def test_fake_quantised_masks_are_those_of_the_qdq_graph(model, ranges, placement):
    net = GraphNet(model, plan(from_model(model), ranges, placement))
    expected = onnx_masks(quantize(fix_frame_size(model, SIZE), ranges, placement, bias_correction=False), PICTURES)
    assert (torch_masks(net, PICTURES) == expected).mean() >= 0.999
    assert (torch_masks(GraphNet(model), PICTURES) != expected).any()


def test_after_training_the_exported_graph_still_agrees(model, ranges):
    import msgspec

    torch.manual_seed(0)
    net = GraphNet(model, plan(from_model(model), ranges, CPU), placement="cpu")
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3)
    for step in range(3):
        loss = torch.nn.functional.cross_entropy(net(pixels(PICTURES[step : step + 2])), torch.zeros(2, *SIZE).long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    trained = net.to_onnx()
    assert read_meta(trained).weights_sha256 == weights_sha256(trained) != read_meta(model).weights_sha256
    moved = msgspec.structs.replace(ranges, weights_sha256=read_meta(trained).weights_sha256)
    expected = onnx_masks(quantize(fix_frame_size(trained, SIZE), moved, CPU), PICTURES)
    assert (torch_masks(net, PICTURES) == expected).mean() >= 0.999


def test_gradients_reach_every_weight_and_stop_outside_the_range(model, ranges):
    net = GraphNet(model, plan(from_model(model), ranges, CPU))
    net(pixels(PICTURES[:1])).square().mean().backward()
    without = [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_switched_off_and_copied(model, ranges):
    net = copy.deepcopy(GraphNet(model, plan(from_model(model), ranges, CPU)))
    net.quantise(False)
    assert (torch_masks(net, PICTURES[:2]) == torch_masks(GraphNet(model), PICTURES[:2])).all()
    assert all(value.dtype == torch.float32 for value in net.state_dict().values())


def test_an_operator_that_it_does_not_know(model):
    odd = copy.deepcopy(model)
    next(node for node in odd.graph.node if node.name == "encoder.0.0.add").op_type = "Mod"
    with pytest.raises(CapabilityError, match=r"Mod.*encoder\.0\.0\.add"):
        GraphNet(odd)


def test_the_gradient_of_a_learnt_scale_is_lsqs():
    scale = torch.tensor(0.5, requires_grad=True)
    x = torch.tensor([0.6, -0.3, 9.0, -9.0], requires_grad=True)
    learnt_quantise(x, scale, -4, 3).sum().backward()
    # inside round(v) - v, outside the limit; scaled by 1 / sqrt(values * high)
    inside = (1 - 1.2) + (-1 + 0.6)
    assert scale.grad.item() == pytest.approx((inside + 3 - 4) / (4 * 3) ** 0.5, abs=1e-6)
    assert x.grad.tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("placement", [CPU, NVIDIA], ids=["cpu", "nvidia"])
def test_learnt_scales_start_as_the_ranges_say_and_are_exported(model, ranges, placement):
    import msgspec

    chosen = plan(from_model(model), ranges, placement)
    fixed = GraphNet(model, chosen)
    net = GraphNet(model, chosen, placement=placement.name, learn_scales=True)
    assert fixed.learnt_scales() == {}
    assert (torch_masks(net, PICTURES[:4]) == torch_masks(fixed, PICTURES[:4])).mean() >= 0.999
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(4):
        loss = torch.nn.functional.cross_entropy(net(pixels(PICTURES[step : step + 2])), torch.zeros(2, *SIZE).long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    scales = net.learnt_scales()
    assert scales.keys() == {item.tensor for item in chosen.activations}
    before = {item.tensor: item.scale for item in chosen.activations}
    moved = [name for name, item in scales.items() if abs(item.scale / before[name] - 1) > 1e-3]
    assert len(moved) > len(scales) / 2
    trained = net.to_onnx()
    sealed = learnt_ranges(ranges, from_model(trained), scales)
    sealed = msgspec.structs.replace(sealed, weights_sha256=read_meta(trained).weights_sha256)
    exported = {item.tensor: item.scale for item in plan(from_model(trained), sealed, placement).activations}
    assert exported == pytest.approx({name: item.scale for name, item in scales.items()}, rel=1e-6)
    expected = onnx_masks(quantize(fix_frame_size(trained, SIZE), sealed, placement), PICTURES)
    assert (torch_masks(net, PICTURES) == expected).mean() >= 0.999
    # the other arithmetic keeps what was measured
    other = NVIDIA if placement is CPU else CPU
    kept = [[item.scale for item in plan(from_model(model), r, other).activations] for r in (ranges, sealed)]
    assert kept[0] == kept[1]
