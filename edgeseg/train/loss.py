"""What is minimised: cross-entropy with label smoothing and class weights, soft Dice, Lovász-Softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    config: LossConfig
    ignore_id: int
    weights: Tensor | None

    def __call__(self, outputs: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        """The scalar loss of a batch.

        Args:
            outputs: Logits [N, C, H, W], or the main head's and then the auxiliary heads', of any size.
            labels: int64 [N, H, W].
        """
        heads = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        total = self._head(heads[0], labels)
        for head in heads[1:]:
            sized = nnf.interpolate(labels[:, None].float(), head.shape[2:], mode="nearest")[:, 0].long()
            total = total + self.config.deep_supervision / (len(heads) - 1) * self._head(head, sized)
        return total

    def _head(self, logits: Tensor, labels: Tensor) -> Tensor:
        config = self.config
        log_p = nnf.log_softmax(logits.float(), dim=1)
        loss = cross_entropy(
            log_p, labels, ignore_id=self.ignore_id, smoothing=config.label_smoothing, weights=self.weights
        )
        if config.dice:
            loss = loss + config.dice * dice_loss(log_p.exp(), labels, ignore_id=self.ignore_id)
        if config.lovasz:
            pixels, truth = draw_pixels(log_p, labels, ignore_id=self.ignore_id, count=config.lovasz_pixels)
            loss = loss + config.lovasz * lovasz_softmax(pixels.exp(), truth)
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
    # a class that never occurs weighs as one of a ten-thousandth: its logits are only ever pushed down
    raw = share.clamp(min=1e-4).rsqrt() if scheme == "sqrt" else 1 / torch.log(1.02 + share)
    return (raw / (raw * share).sum()).float()


def cross_entropy(
    log_p: Tensor, labels: Tensor, *, ignore_id: int, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy from log-probabilities; equals `torch.nn.functional.cross_entropy` of the logits.

    It is written out because the log-probabilities are shared with the other terms.

    Args:
        log_p: [N, C, H, W].
        labels: int64 [N, H, W].
        ignore_id: Label that does not count.
        smoothing: Share of the target spread evenly over the classes.
        weights: [C] or None.
    """
    exact = nnf.nll_loss(log_p, labels, weight=weights, ignore_index=ignore_id, reduction="sum")
    valid = labels != ignore_id
    if weights is None:
        count = valid.sum().clamp(min=1)
        spread = -(log_p.mean(dim=1) * valid).sum() if smoothing else exact.new_zeros(())
    else:
        count = (weights[labels.clamp(max=len(weights) - 1)] * valid).sum().clamp(min=1e-12)
        weighted = torch.einsum("nchw,c->nhw", log_p, weights) / len(weights)
        spread = -(weighted * valid).sum() if smoothing else exact.new_zeros(())
    return ((1 - smoothing) * exact + smoothing * spread) / count


def dice_loss(p: Tensor, labels: Tensor, *, ignore_id: int) -> Tensor:
    """1 - soft Dice over the batch, mean over the classes that occur (Milletari et al., 2016).

    Args:
        p: Probabilities [N, C, H, W].
        labels: int64 [N, H, W].
        ignore_id: Label that does not count.
    """
    classes = p.shape[1]
    valid = labels != ignore_id
    flat = p.permute(0, 2, 3, 1)[valid]
    truth = labels[valid]
    overlap = flat.new_zeros(classes).index_add(0, truth, flat.gather(1, truth[:, None])[:, 0])
    counts = torch.bincount(truth, minlength=classes).to(flat.dtype)
    present = counts > 0
    dice = 2 * overlap / (flat.square().sum(dim=0) + counts).clamp(min=1e-6)
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def draw_pixels(log_p: Tensor, labels: Tensor, *, ignore_id: int, count: int) -> tuple[Tensor, Tensor]:
    """At most `count` labelled pixels, drawn evenly over the batch: [P, C] and int64 [P]."""
    classes = log_p.shape[1]
    flat = labels.flatten()
    valid = (flat != ignore_id).nonzero()[:, 0]
    if len(valid) > count:
        # an even stride with a random phase: an even draw over the frames without the cost of a permutation
        step = len(valid) / count
        phase = torch.rand((), device=flat.device) * step
        picks = (torch.arange(count, device=flat.device) * step + phase).long().clamp(max=len(valid) - 1)
        valid = valid[picks]
    return log_p.permute(0, 2, 3, 1).reshape(-1, classes)[valid], flat[valid]


def lovasz_softmax(p: Tensor, labels: Tensor) -> Tensor:
    """The Lovász extension of 1 - IoU, mean over the classes that occur (Berman et al., CVPR 2018).

    Args:
        p: Probabilities [P, C].
        labels: int64 [P], all valid.
    """
    truth = nnf.one_hot(labels, p.shape[1]).to(p.dtype)
    errors, order = torch.sort((truth - p).abs(), dim=0, descending=True)
    ordered = truth.gather(0, order)
    total = ordered.sum(dim=0)
    intersection = total - ordered.cumsum(dim=0)
    union = total + (1 - ordered).cumsum(dim=0)
    jaccard = 1 - intersection / union
    steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    present = total > 0
    return ((errors * steps).sum(dim=0) * present).sum() / present.sum().clamp(min=1)
