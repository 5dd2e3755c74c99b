"""Parity of the vocabulary with torchvision, with torch's own operators, and with the formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from torchvision.models.convnext import CNBlock
from torchvision.models.convnext import LayerNorm2d as TorchvisionLayerNorm
from torchvision.models.resnet import BasicBlock
from torchvision.ops import stochastic_depth

from edgeseg.model.blocks import DepthwiseConv2d, LayerNorm2d, StochasticDepth, make_activation, make_block
from edgeseg.model.config import ModelConfig, Upsample
from edgeseg.model.sampling import EnlargedLogits, MaxUnpool2d, MeanTransposed2d, make_down, make_up

PUBLISHED = ModelConfig(widths=(12,), depths=(1,), norm="layer", activation="gelu", layer_scale=1e-6)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def config(**changes: object) -> ModelConfig:
    tables = {"widths": (6, 8), "depths": (1, 1), "decoder_widths": (6,), "decoder_depths": (1,), **changes}
    return ModelConfig(**tables)  # type: ignore[arg-type]


def randomise(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(2)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)


@torch.no_grad()
def test_convnext_block_is_torchvisions() -> None:
    theirs = CNBlock(12, layer_scale=1e-6, stochastic_depth_prob=0.0).eval()
    randomise(theirs)
    ours = make_block("convnext", 12, PUBLISHED, 0.0).eval()
    names = {
        "dw": "block.0",
        "norm": "block.2",
        "pw1": "block.3",
        "pw2": "block.5",
    }
    state = {
        f"{name}.{leaf}": theirs.state_dict()[f"{path}.{leaf}"]
        for name, path in names.items()
        for leaf in ("weight", "bias")
    }
    state = {
        name: tensor[..., None, None] if name in ("pw1.weight", "pw2.weight") else tensor
        for name, tensor in state.items()
    }
    ours.load_state_dict({**state, "scale.weight": theirs.layer_scale.detach().flatten()})
    x = noise(2, 12, 9, 11)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_basic_block_is_torchvisions_where_nothing_is_added() -> None:
    theirs = BasicBlock(6, 6).eval()
    ours = make_block("basic", 6, config(layer_scale=0.0), 0.0).eval()
    randomise(theirs)
    state = {name.replace("bn", "norm"): tensor for name, tensor in theirs.state_dict().items()}
    state |= {f"conv{index}.bias": torch.zeros(6) for index in (1, 2)}
    ours.load_state_dict(state)
    x = noise(2, 6, 7, 8)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_layer_norm_is_torchvisions_and_the_formula() -> None:
    theirs = TorchvisionLayerNorm(5, eps=1e-6)
    ours = LayerNorm2d(5)
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict())
    x = noise(2, 5, 3, 4)
    mean, variance = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
    formula = (x - mean) / (variance + 1e-6).sqrt() * ours.weight[:, None, None] + ours.bias[:, None, None]
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours(x), formula, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.9])
def test_stochastic_depth_is_torchvisions(p: float) -> None:
    x = noise(16, 3, 2, 2)
    ours = StochasticDepth(p).train()
    torch.manual_seed(4)
    expected = stochastic_depth(x, p, mode="row", training=True)
    torch.manual_seed(4)
    torch.testing.assert_close(ours(x), expected)
    assert torch.equal(ours.eval()(x), x)


def test_gelu_forms_are_their_formulas() -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    erf, tanh = make_activation("gelu"), make_activation("gelu_tanh")
    assert erf is not None
    assert tanh is not None
    torch.testing.assert_close(erf(x), x * 0.5 * (1 + torch.erf(x / math.sqrt(2))))
    cubic = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    torch.testing.assert_close(tanh(x), 0.5 * x * (1 + torch.tanh(cubic)))
    assert float((erf(x) - tanh(x)).abs().max()) < 5e-4


def test_hard_swish_is_its_formula() -> None:
    x = torch.linspace(-6, 6, 101)
    act = make_activation("hardswish")
    assert act is not None
    torch.testing.assert_close(act(x.clone()), x * (x + 3).clamp(0, 6) / 6)


# ---------------------------------------------------------------- sampling


def scatter(x: Tensor, weight: Tensor, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    """A transposed convolution by its definition: every input adds its kernel; also how many met at each output."""
    _, _, height, width = x.shape
    outputs, kernel = weight.shape[1], weight.shape[2]
    side = [(extent - 1) * stride + kernel for extent in (height, width)]
    total, count = torch.zeros(x.shape[0], outputs, *side), torch.zeros(side)
    for row in range(height):
        for column in range(width):
            place = (slice(row * stride, row * stride + kernel), slice(column * stride, column * stride + kernel))
            total[..., place[0], place[1]] += torch.einsum("nc,cokl->nokl", x[:, :, row, column], weight)
            count[place] += 1
    inner = (..., slice(padding, side[0] - padding), slice(padding, side[1] - padding))
    return total[inner], count[inner]


@pytest.mark.parametrize(("kind", "padding"), [("transposed2", 0), ("transposed4_sum", 1), ("transposed4_mean", 1)])
@torch.no_grad()
def test_transposed_convolutions_are_their_definition(kind: Upsample, padding: int) -> None:
    conv = make_up(8, 6, config(upsample=kind)).get_submodule("conv")
    assert isinstance(conv, nn.ConvTranspose2d)
    assert isinstance(conv, MeanTransposed2d) == (kind == "transposed4_mean")
    x = noise(2, 8, 3, 5)
    total, count = scatter(x, conv.weight, 2, padding)
    assert conv.bias is not None
    expected = (total / count if kind == "transposed4_mean" else total) + conv.bias[:, None, None]
    assert expected.shape == (2, 6, 6, 10)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


def test_max_unpool_is_torchs_with_the_indices_of_the_way_down() -> None:
    reference = noise(2, 3, 6, 8)
    pooled, indices = nnf.max_pool2d(reference, 2, return_indices=True)
    down = make_down(3, 4, config(downsample="max"))
    assert torch.equal(down.get_submodule("pool")(reference), pooled)
    x = noise(2, 3, 3, 4, seed=1)
    assert torch.equal(MaxUnpool2d()(x, reference), nnf.max_unpool2d(x, indices, [2, 2]))


def test_of_equal_maxima_the_first_in_row_order_wins() -> None:
    reference = torch.tensor([[1.0, 5.0], [5.0, 5.0]])[None, None]
    assert MaxUnpool2d()(torch.tensor([[[[7.0]]]]), reference).tolist() == [[[[0.0, 7.0], [0.0, 0.0]]]]


def test_nearest_is_the_unpooling_of_average_pooling() -> None:
    enlarge = make_up(8, 6, config(upsample="nearest")).get_submodule("enlarge")
    x = noise(2, 3, 4, 5)
    torch.testing.assert_close(nnf.avg_pool2d(enlarge(x), 2), x)


def test_bilinear_has_half_pixel_centres() -> None:
    enlarge = make_up(8, 6, config(upsample="bilinear")).get_submodule("enlarge")
    row = torch.tensor([0.0, 4.0]).expand(1, 1, 2, 2)
    assert enlarge(row)[0, 0, 0].tolist() == [0.0, 1.0, 3.0, 4.0]


@torch.no_grad()
def test_pixel_shuffle_is_a_transposed_convolution_without_overlap() -> None:
    up = make_up(8, 6, config(upsample="pixel_shuffle"))
    conv = up.get_submodule("conv")
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    weight = conv.weight.view(6, 2, 2, 8).permute(3, 0, 1, 2)
    conv.bias.zero_()
    x = noise(2, 8, 3, 5)
    torch.testing.assert_close(up(x), nnf.conv_transpose2d(x, weight, stride=2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["conv", "max", "avg"])
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_downsampling_halves(kind: str, norm: str) -> None:
    down = make_down(6, 8, config(downsample=kind, norm=norm))
    assert down(noise(2, 6, 8, 12)).shape == (2, 8, 4, 6)
    names = [name for name, _ in down.named_children()]
    pool = [] if kind == "conv" else ["pool"]
    order = {"layer": ["norm", "conv"], "batch": ["conv", "norm"], "none": ["conv"]}[norm]
    assert names == pool + order


def test_depthwise_is_torchs_own_and_keeps_full_precision_inside_autocast_on_a_cpu() -> None:
    torch.manual_seed(0)
    ours = DepthwiseConv2d(8, 7)
    torchs = nn.Conv2d(8, 8, 7, padding=3, groups=8)
    torchs.load_state_dict(ours.state_dict())
    x = noise(2, 8, 9, 10)
    assert torch.equal(ours(x), torchs(x))
    half = x.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = ours(half)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, torchs(half.float()).bfloat16())
    y.float().sum().backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("factor", [2, 4])
def test_enlarged_logits_are_torchs_bilinear_with_its_gradient(factor: int) -> None:
    x = noise(2, 3, 5, 4).requires_grad_()
    reference = noise(2, 3, 5, 4).requires_grad_()
    weight = noise(2, 3, 5 * factor, 4 * factor, seed=1)
    y = EnlargedLogits(factor)(x)
    expected = nnf.interpolate(reference, scale_factor=factor, mode="bilinear")
    torch.testing.assert_close(y, expected)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, reference.grad)


def test_enlarged_logits_are_float32_inside_autocast_in_training() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        y = EnlargedLogits(2)(noise(1, 3, 4, 4).bfloat16().requires_grad_())
    assert y.dtype == torch.float32
    assert y.is_contiguous()
