"""Losses against torch's own, a brute-force Lovász extension and known values."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.nn.functional import log_softmax, nll_loss

from edgeseg.train.config import LossConfig
from edgeseg.train.loss import (
    SegmentationLoss,
    _labelled_on_cpu,
    _labelled_on_gpu,
    class_weights,
    cross_entropy,
    dice_loss,
    draw_pixels,
    logit_shift,
    lovasz_softmax,
)

IGNORE = 4


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 4, 6, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 5, (2, 6, 5), generator=generator)
    return logits, labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_equals_torch(batch: tuple[torch.Tensor, torch.Tensor], smoothing: float, weighted: bool) -> None:
    logits, labels = batch
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64) if weighted else None
    logits.requires_grad_()
    ours = cross_entropy(log_softmax(logits, 1), labels, ignore_id=IGNORE, smoothing=smoothing, weights=weights)
    theirs = torch_cross_entropy(logits, labels, weight=weights, ignore_index=IGNORE, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)
    (ours_grad,) = torch.autograd.grad(ours, logits, retain_graph=True)
    (theirs_grad,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(ours_grad, theirs_grad)


def test_cross_entropy_of_an_unlabelled_batch_is_zero() -> None:
    log_p = log_softmax(torch.randn(1, 4, 2, 2), 1)
    assert cross_entropy(log_p, torch.full((1, 2, 2), IGNORE), ignore_id=IGNORE) == 0


@pytest.mark.parametrize("draw", [_labelled_on_cpu, _labelled_on_gpu])
def test_a_batch_without_a_label_teaches_nothing(draw: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeseg.train.loss._labelled_on_cpu", draw)
    logits = [torch.randn(1, 4, size, size).requires_grad_() for size in (4, 2)]
    loss = SegmentationLoss(LossConfig(dice=1.0, lovasz=1.0), IGNORE, None)(logits, torch.full((1, 4, 4), IGNORE))
    assert loss == 0
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(loss, logits))


def test_a_label_that_is_no_class_is_refused() -> None:
    log_p = log_softmax(torch.randn(1, 3, 2, 2), 1)
    with pytest.raises(IndexError, match="out of bounds"):
        cross_entropy(log_p, torch.full((1, 2, 2), 3), ignore_id=IGNORE)


def test_hard_pixels_are_the_labelled_ones_of_largest_loss(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    log_p = log_softmax(logits, 1)
    every = nll_loss(log_p, labels, ignore_index=IGNORE, reduction="none")[labels != IGNORE]
    hardest = every.sort().values[len(every) // 2 :]
    found = cross_entropy(log_p, labels, ignore_id=IGNORE, hard_share=0.5)
    torch.testing.assert_close(found, hardest.mean())


def test_lovasz_of_hard_masks_is_one_minus_mean_iou() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    masks = torch.tensor([0, 1, 1, 1, 2, 2])
    p = torch.nn.functional.one_hot(masks, 3).double()
    ious = [1 / 2, 2 / 4, 1 / 2]
    assert lovasz_softmax(p, labels).item() == pytest.approx(1 - sum(ious) / 3)


def test_lovasz_is_the_extension_of_the_jaccard_loss() -> None:
    """Against the definition: the integral of the Jaccard loss over the level sets of the errors."""
    generator = torch.Generator().manual_seed(1)
    p = torch.softmax(torch.randn(7, 3, generator=generator, dtype=torch.float64), 1)
    labels = torch.tensor([0, 1, 2, 2, 1, 0, 0])
    total = 0.0
    for c in range(3):
        truth = labels == c
        errors = (truth.double() - p[:, c]).abs()
        levels = sorted({0.0, *errors.tolist()})
        for low, high in itertools.pairwise(levels):
            wrong = errors > low
            total += (high - low) * wrong.sum().item() / (truth | wrong).sum().item()
    assert lovasz_softmax(p, labels).item() == pytest.approx(total / 3)


def test_classes_that_do_not_occur_do_not_count() -> None:
    labels = torch.zeros(5, dtype=torch.int64)
    p = torch.tensor([[0.7, 0.1, 0.2]] * 5)
    assert dice_loss(p, labels).item() == pytest.approx(1 - 2 * 0.7 / (0.49 + 1))
    assert lovasz_softmax(p, labels).item() == pytest.approx(0.3)


def test_drawn_pixels_are_labelled_and_aligned(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    rows, truth = draw_pixels(logits, labels, ignore_id=IGNORE, count=20)
    assert rows.shape == (20, 4)
    assert truth.shape == (20,)
    assert (truth != IGNORE).all()
    pool = {
        (*row.tolist(), int(label))
        for row, label in zip(logits.permute(0, 2, 3, 1).reshape(-1, 4), labels.flatten(), strict=True)
    }
    assert all((*row.tolist(), int(label)) in pool for row, label in zip(rows, truth, strict=True))
    everything, _ = draw_pixels(logits, labels, ignore_id=IGNORE, count=10_000)
    assert len(everything) == int((labels != IGNORE).sum())


def test_a_gpu_draws_the_same_pixels_without_counting_them_first() -> None:
    labelled = torch.rand(5000, generator=torch.Generator().manual_seed(1)) < 0.3
    drawn = []
    for draw in (_labelled_on_cpu, _labelled_on_gpu):
        torch.manual_seed(4)
        drawn.append(draw(labelled, 200))
    assert (drawn[0] == drawn[1]).float().mean() > 0.99  # float rounding may move a pick to its neighbour
    assert labelled[drawn[1]].all()
    few = torch.zeros(100, dtype=torch.bool)
    few[[3, 50]] = True
    assert sorted(set(_labelled_on_gpu(few, 10).tolist())) == [3, 50]
    assert _labelled_on_gpu(torch.zeros(7, dtype=torch.bool), 3).max() < 7


@pytest.mark.parametrize("scheme", ["sqrt", "log"])
def test_class_weights_favour_rare_classes_and_average_to_one(scheme: str) -> None:
    histogram = torch.tensor([900, 90, 10])
    weights = class_weights(histogram, scheme)
    assert weights is not None
    assert weights[0] < weights[1] < weights[2]
    assert (weights * histogram / 1000).sum().item() == pytest.approx(1)
    assert class_weights(histogram, "none") is None


def test_what_the_loss_shows_beforehand_is_added_to_the_logits_alone() -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    labels = torch.randint(3, (2, 4, 4), generator=torch.Generator().manual_seed(3))
    weights = torch.tensor([0.5, 1.0, 4.0])
    shift = logit_shift(weights, 0.4)
    assert shift is not None
    plain = SegmentationLoss(LossConfig(), IGNORE, weights)
    shown = SegmentationLoss(LossConfig(), IGNORE, weights, shift)
    torch.testing.assert_close(shown(logits, labels), plain(logits + 0.4 * weights.log()[:, None, None], labels))
    assert shown(logits, labels) != plain(logits, labels)
    assert logit_shift(weights, 0.0) is None
    assert logit_shift(None, 0.4) is None


@pytest.mark.parametrize("scheme", ["sqrt", "log"])
def test_a_class_that_no_frame_shows_is_not_asked_for(scheme: str) -> None:
    """Its weight would give it most of what label smoothing spreads: here as much as the class that is there has."""
    weights = class_weights(torch.tensor([500, 500, 0]), scheme)
    assert weights is not None
    assert weights.tolist() == pytest.approx([1, 1, 1])
    nothing = class_weights(torch.zeros(3, dtype=torch.int64), scheme)
    assert nothing is not None
    assert nothing.tolist() == [1, 1, 1]


@pytest.mark.parametrize("count", [20, 10**6])
def test_terms_of_drawn_pixels_have_torchs_gradient(batch: tuple[torch.Tensor, torch.Tensor], count: int) -> None:
    logits, labels = batch[0].float().requires_grad_(), batch[1]
    config = LossConfig(label_smoothing=0.1, dice=0.5, lovasz=0.25, region_pixels=count)
    torch.manual_seed(5)
    ours = SegmentationLoss(config, IGNORE, None)(logits, labels)
    torch.manual_seed(5)
    drawn, truth = draw_pixels(log_softmax(logits, 1), labels, ignore_id=IGNORE, count=count)
    plain = torch_cross_entropy(logits, labels, ignore_index=IGNORE, label_smoothing=0.1)
    theirs = plain + 0.5 * dice_loss(drawn.exp(), truth) + 0.25 * lovasz_softmax(drawn.exp(), truth)
    torch.testing.assert_close(ours, theirs)
    (ours_grad,) = torch.autograd.grad(ours, logits)
    (theirs_grad,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(ours_grad, theirs_grad)


def test_auxiliary_heads_share_their_weight() -> None:
    config = LossConfig(label_smoothing=0.0, lovasz=0.0, deep_supervision=0.4)
    loss = SegmentationLoss(config, IGNORE, None)
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    even = [torch.zeros(1, 4, size, size) for size in (4, 2, 1)]
    assert loss(even, labels).item() == pytest.approx(1.4 * torch.log(torch.tensor(4.0)).item())


def test_an_auxiliary_head_is_judged_by_the_pixel_at_the_centre_of_its_cell() -> None:
    labels = torch.zeros(1, 6, 6, dtype=torch.int64)
    labels[0, 1, 1] = labels[0, 4, 4] = 1  # centres of two of the four cells
    sure = torch.zeros(1, 2, 2, 2)
    sure[0, 0] = 20.0 * torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    sure[0, 1] = 20.0 * torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    main = torch.nn.functional.one_hot(labels, 2).permute(0, 3, 1, 2) * 20.0
    loss = SegmentationLoss(LossConfig(label_smoothing=0.0), IGNORE, None)
    assert loss([main, sure], labels).item() == pytest.approx(0.0, abs=1e-6)
