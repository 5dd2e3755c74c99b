"""What is minimised: cross-entropy with label smoothing and class weights, soft Dice, Lovász-Softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor

from edgeseg.train.config import LossConfig


@dataclass(frozen=True)
class SegmentationLoss:
    """The loss of a run.

    Attributes:
        config: Weights of the terms.
        ignore_id: Label that no term sees.
        weights: float32 [classes], or None.
        shift: float32 [classes] that is added to the logits, or None (`LossConfig.weight_shift`).
    """

    config: LossConfig
    ignore_id: int
    weights: Tensor | None
    shift: Tensor | None = None

    def __call__(self, outputs: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        """The scalar loss of a batch.

        Args:
            outputs: Logits [N, C, H, W], or the main head's and then the auxiliary heads', of any size.
            labels: int64 [N, H, W].
        """
        heads = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        total = self._head(heads[0], labels)
        for head in heads[1:]:
            sized = nnf.interpolate(labels[:, None].float(), head.shape[2:], mode="nearest-exact")[:, 0].long()
            total = total + self.config.deep_supervision / (len(heads) - 1) * self._head(head, sized)
        return total

    def _head(self, logits: Tensor, labels: Tensor) -> Tensor:
        config = self.config
        # contiguous planes: softmax over a strided axis of a dozen entries is the slow way round on a CPU
        logits = logits.float().contiguous()
        if self.shift is not None:
            logits = logits + self.shift[:, None, None]
        log_p = nnf.log_softmax(logits, dim=1)
        regions = bool(config.dice or config.lovasz)
        found = draw_places(labels, ignore_id=self.ignore_id, count=config.region_pixels) if regions else None
        loss, drawn = _cross_entropy(
            log_p,
            labels,
            self.ignore_id,
            smoothing=config.label_smoothing,
            weights=self.weights,
            hard_share=config.hard_share,
            found=found,
        )
        if found is not None:
            p, truth = drawn.exp(), _labels_at(labels, found, log_p.shape[1])
            labelled = (labels != self.ignore_id).any()  # without a label a GPU draws pixels all the same
            if config.dice:
                loss = loss + labelled * (config.dice * dice_loss(p, truth))
            if config.lovasz:
                loss = loss + labelled * (config.lovasz * lovasz_softmax(p, truth))
        return loss


def class_weights(histogram: Tensor, scheme: str) -> Tensor | None:
    """Weights of the classes with mean 1 over the labelled pixels; None for `none`.

    Args:
        histogram: Pixels of each class, [classes].
        scheme: `none`, `sqrt` or `log`; see `LossConfig.class_weights`.
    """
    if scheme == "none":
        return None
    share = histogram.double() / histogram.sum().clamp(min=1)
    raw = share.clamp(min=1e-4).rsqrt() if scheme == "sqrt" else 1 / torch.log(1.02 + share)
    # a class that never occurs is in the loss by label smoothing alone: with the weight of a rare one, that would ask
    # for it at every pixel, and of three classes as loudly as for the one that is there
    return torch.where(histogram > 0, raw / (raw * share).sum(), 1.0).float()


def logit_shift(weights: Tensor | None, share: float) -> Tensor | None:
    """What is added to the logits before the loss, float32 [classes]; None where that is nothing.

    Args:
        weights: Of the classes.
        share: `LossConfig.weight_shift`.
    """
    return None if weights is None or not share else share * weights.log()


def cross_entropy(
    log_p: Tensor,
    labels: Tensor,
    *,
    ignore_id: int,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
    hard_share: float = 1.0,
) -> Tensor:
    """Cross-entropy from log-probabilities; equals `torch.nn.functional.cross_entropy` of the logits.

    It is written out because the log-probabilities are shared with the other terms.

    Args:
        log_p: [N, C, H, W].
        labels: int64 [N, H, W].
        ignore_id: Label that does not count.
        smoothing: Share of the target spread evenly over the classes.
        weights: [C] or None.
        hard_share: Share of the labelled pixels, those of largest loss, that count.
    """
    loss, _ = _cross_entropy(
        log_p, labels, ignore_id, smoothing=smoothing, weights=weights, hard_share=hard_share, found=None
    )
    return loss


def _cross_entropy(
    log_p: Tensor,
    labels: Tensor,
    ignore_id: int,
    *,
    smoothing: float,
    weights: Tensor | None,
    hard_share: float,
    found: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The scalar of `cross_entropy`, and the rows of `log_p` at the places `found`, [P, C] (none without places)."""
    classes = log_p.shape[1]
    valid = labels != ignore_id
    named = labels.where(valid, 0)
    mass = valid.to(log_p.dtype) if weights is None else weights[named] * valid
    spread = log_p.new_full((classes,), 1 / classes) if weights is None else weights / classes
    loss, rows = _PixelLoss.apply(log_p, named, valid, weights, spread, smoothing, found)
    if hard_share < 1:
        hard = loss.detach() >= _threshold(loss.detach(), valid, 1 - hard_share)
        loss, mass = loss * hard, mass * hard
    return loss.sum() / mass.sum().clamp(min=1e-12), rows


class _PixelLoss(torch.autograd.Function):
    """The negative log-likelihood of each pixel, and the log-probabilities of some of them.

    A share of the likelihood is spread over the classes; where a pixel is not valid its loss is 0:

        loss = -(1 - smoothing) w[y] log_p[y] - smoothing sum_c spread[c] log_p[c]

    The gradient is written down: each term's own, those of the drawn pixels too, is a pass over all classes, their sums
    are as many again, and with them the loss took twice as long.
    """

    @staticmethod
    def forward(
        ctx: Any,
        log_p: Tensor,
        labels: Tensor,
        valid: Tensor,
        weights: Tensor | None,
        spread: Tensor,
        smoothing: float,
        found: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """From [N, C, H, W], int64 and bool [N, H, W], [C], [C] and places int64 [P] to [N, H, W] and [P, C]."""
        ctx.save_for_backward(labels, valid, weights, spread, found)
        ctx.smoothing = smoothing
        loss = nnf.nll_loss(log_p, labels, weight=weights, reduction="none")
        if smoothing:
            # a product over the classes, not a sum over a strided axis: half the time of a mean on a CPU
            even = -torch.matmul(spread, log_p.flatten(2)).view_as(loss)
            loss = (1 - smoothing) * loss + smoothing * even
        return loss * valid, log_p.new_zeros((0, log_p.shape[1])) if found is None else _rows_at(log_p, found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of `log_p`; nothing else has one."""
        labels, valid, weights, spread, found = ctx.saved_tensors
        scale = gradients[0] * valid
        slope = (scale * -ctx.smoothing)[:, None] * spread[:, None, None]
        picked = scale * (ctx.smoothing - 1)
        if weights is not None:
            picked = picked * weights[labels]
        slope.scatter_add_(1, labels[:, None], picked[:, None])
        if found is not None:
            area = labels.shape[1] * labels.shape[2]
            at = (found // area)[:, None], torch.arange(len(spread), device=found.device), (found % area)[:, None]
            slope.flatten(2).index_put_(at, gradients[1], accumulate=True)
        return slope, None, None, None, None, None, None


def _threshold(loss: Tensor, valid: Tensor, share: float, *, looked_at: int = 16384) -> Tensor:
    """A quantile of the valid from evenly spaced values: close enough for a threshold, and no sort of a million."""
    if loss.device.type == "cpu":
        values = loss[valid]
        if not len(values):
            return values.new_zeros(())
        step = max(1, len(values) // looked_at)
        return torch.quantile(values[::step].float(), share).to(loss.dtype)
    # the same without asking the GPU how many are valid; where none of those looked at is, it is not a number
    step = max(1, loss.numel() // looked_at)
    looked = torch.where(valid, loss, torch.nan).flatten()[::step].float()
    return torch.nanquantile(looked, share).nan_to_num(0.0).to(loss.dtype)


def draw_pixels(log_p: Tensor, labels: Tensor, *, ignore_id: int, count: int) -> tuple[Tensor, Tensor]:
    """At most `count` labelled pixels, drawn evenly over the batch.

    Args:
        log_p: [N, C, H, W].
        labels: int64 [N, H, W].
        ignore_id: Label that is never drawn.
        count: Largest number.

    Returns:
        Their rows of `log_p`, [P, C], and their labels, int64 [P].
    """
    found = draw_places(labels, ignore_id=ignore_id, count=count)
    return _rows_at(log_p, found), _labels_at(labels, found, log_p.shape[1])


def draw_places(labels: Tensor, *, ignore_id: int, count: int) -> Tensor:
    """Places in `labels.flatten()` of at most `count` labelled pixels, drawn evenly over the batch, int64 [P]."""
    labelled = labels.flatten() != ignore_id
    return _labelled_on_cpu(labelled, count) if labels.device.type == "cpu" else _labelled_on_gpu(labelled, count)


def _rows_at(planes: Tensor, found: Tensor) -> Tensor:
    """Of [N, C, H, W] the C values at each place, [P, C]."""
    area = planes.shape[2] * planes.shape[3]
    return planes.flatten(2)[found // area, :, found % area]


def _labels_at(labels: Tensor, found: Tensor, classes: int) -> Tensor:
    # a batch without a label still needs a class on a GPU, which cannot be asked how many places were found
    return labels.flatten()[found].clamp(max=classes - 1)


def _labelled_on_cpu(labelled: Tensor, count: int) -> Tensor:
    """Places of at most `count` labelled pixels: an even stride with a random phase, without a permutation."""
    places = labelled.nonzero()[:, 0]
    if len(places) <= count:
        return places
    step = len(places) / count
    phase = torch.rand((), device=places.device) * step
    picks = (torch.arange(count, device=places.device) * step + phase).long().clamp(max=len(places) - 1)
    return places[picks]


def _labelled_on_gpu(labelled: Tensor, count: int) -> Tensor:
    """The same draw without waiting for the GPU to say how many there are; where they are fewer, some come up again."""
    ranks = labelled.cumsum(0)
    step = ranks[-1].float() / count
    picks = ((torch.arange(count, device=ranks.device) + torch.rand((), device=ranks.device)) * step).long()
    return torch.searchsorted(ranks, picks + 1).clamp(max=len(ranks) - 1)


def dice_loss(p: Tensor, labels: Tensor) -> Tensor:
    """1 - soft Dice, mean over the classes that occur (Milletari et al., "V-Net", 2016).

    Args:
        p: Probabilities [P, C].
        labels: int64 [P], all valid.
    """
    truth = nnf.one_hot(labels, p.shape[1]).to(p.dtype)
    counts = truth.sum(dim=0)
    present = counts > 0
    # without the bound a batch that has no label at all is 0 / 0
    dice = 2 * (p * truth).sum(dim=0) / (p.square().sum(dim=0) + counts).clamp(min=1e-12)
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def lovasz_softmax(p: Tensor, labels: Tensor) -> Tensor:
    """The Lovász extension of 1 - IoU, mean over the classes that occur (Berman et al., CVPR 2018).

    Args:
        p: Probabilities [P, C].
        labels: int64 [P], all valid.
    """
    # a class a row: a GPU sums along the last axis, and takes forty times as long along the first
    truth = nnf.one_hot(labels, p.shape[1]).to(p.dtype).T.contiguous()
    errors, order = torch.sort((truth - p.T).abs(), dim=1, descending=True)
    ordered = truth.gather(1, order)
    total = truth.sum(dim=1, keepdim=True)
    intersection = total - ordered.cumsum(dim=1)
    union = total + (1 - ordered).cumsum(dim=1)
    jaccard = 1 - intersection / union
    steps = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    present = total[:, 0] > 0
    return ((errors * steps).sum(dim=1) * present).sum() / present.sum().clamp(min=1)
