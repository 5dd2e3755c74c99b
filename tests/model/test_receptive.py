"""The theoretical receptive field is exactly where the gradient reaches, for every way up and down."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgeseg.model import ModelConfig, build_model, describe, preset
from edgeseg.model.network import SegModel
from edgeseg.model.receptive import measured_field, theoretical_field, theoretical_span
from edgeseg.model.summary import NetworkSummary

# no normalisation and no ReLU: nothing then hides a pixel that can matter
BASE = {"norm": "none", "activation": "gelu", "kernel": 3}


def model_of(**fields: object) -> SegModel:
    return build_model(ModelConfig(**{**BASE, **fields}), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stem": "patch4", "widths": (4,), "depths": (0,), "head": "shuffle"}, 4),
        ({"stem": "pixel", "widths": (4,), "depths": (2,), "kernel": 7}, 3 + 2 * 6),
        ({"stem": "patch2", "widths": (4, 4), "depths": (1, 1), "head": "shuffle"}, 2 + 2 * 2 + 2 + 2 * 4),
        ({"stem": "conv2", "widths": (4,), "depths": (1,), "head": "shuffle"}, 3 + 2 * 2),
    ],
)
def test_small_fields_are_those_of_the_formula(fields: dict[str, object], expected: int) -> None:
    model = model_of(**fields)
    assert theoretical_field(model) == expected
    # the pixel at the centre is one of a cell; theory gives the largest field of the cell
    assert expected - model.stride <= measured_field(model).extent <= expected


def reached(model: SegModel, at: int, side: int) -> tuple[int, int]:
    """First and last row whose gradient is not zero, for the logits of row `at`."""
    x = torch.randn((1, 3, side, side), generator=torch.Generator().manual_seed(0), requires_grad=True)
    (gradient,) = torch.autograd.grad(model.eval()(x)[0, :, at, side // 2].sum(), x)
    rows = gradient[0].abs().amax((0, 2)).nonzero().flatten()
    return int(rows[0]), int(rows[-1])


@pytest.mark.parametrize(
    ("upsample", "skip"),
    [
        ("transposed2", "concat"),
        ("transposed4_sum", "none"),
        ("transposed4_mean", "add"),
        ("nearest", "none"),
        ("bilinear", "concat"),
        ("pixel_shuffle", "none"),
    ],
)
def test_the_gradient_reaches_exactly_as_far_as_theory_says(upsample: str, skip: str) -> None:
    shape = {"stem": "conv2", "widths": (4, 4, 6), "depths": (1, 1, 1), "decoder_widths": (4, 4)}
    model = model_of(**shape, decoder_depths=(1, 1), upsample=upsample, skip=skip)
    for at in (44, 45, 47, 50):
        span = theoretical_span(model, at)
        assert reached(model, at, 96) == (span.first, span.last), at


def test_max_unpooling_reads_the_whole_cell_of_its_reference() -> None:
    shape = {"stem": "pixel", "widths": (4, 4), "depths": (0, 1), "decoder_widths": (4,), "decoder_depths": (1,)}
    model = model_of(**shape, downsample="max", upsample="max_unpool")
    measured = measured_field(model)
    assert 0 < measured.extent <= theoretical_field(model)
    assert 0 < measured.effective <= measured.extent


def test_measuring_leaves_the_network_as_it_was() -> None:
    model = model_of(stem="patch2", widths=(4,), depths=(1,)).train()
    measured_field(model)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["edge-s", "edge-m-ln", "atto", "full-resolution", "patch-classifier"])
def test_counts_are_those_of_torchs_counter(name: str) -> None:
    summary = describe(preset(name), 11, (352, 480))
    with torch.device("meta"):
        model = SegModel(preset(name), 11).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty((1, 3, *summary.size)))
    assert summary.multiply_adds == counter.get_total_flops() // 2
    names = dict(model.named_parameters())  # auxiliary heads are no part of what runs
    assert summary.parameters == sum(names[name].numel() for name in names if not name.startswith("aux."))
    assert summary.multiply_adds == sum(summary.layers.values())


def cost(name: str) -> NetworkSummary:
    return describe(preset(name), 11, (360, 480))


def test_presets_are_the_sizes_they_promise() -> None:
    millions = {name: cost(name).parameters / 1e6 for name in ("edge-s", "edge-m", "edge-l")}
    assert millions["edge-s"] < 0.6
    assert millions["edge-m"] == pytest.approx(1.0, rel=0.05)
    assert millions["edge-l"] <= 2.0


def test_the_size_is_padded_to_the_stride() -> None:
    assert cost("edge-s").size == (384, 480)
    assert cost("full-resolution").size == (360, 480)


def test_the_contrasts_cost_what_edge_s_costs() -> None:
    exact = {name: describe(preset(name), 11, (352, 480)) for name in ("edge-s", "full-resolution", "patch-classifier")}
    for name in ("full-resolution", "patch-classifier"):
        assert exact[name].multiply_adds == pytest.approx(exact["edge-s"].multiply_adds, rel=0.05)
