"""The parts of a run on labelled frames: augmented batches, the segmentation loss, scores by split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeseg.core.errors import DataError
from edgeseg.train.augment import Augmenter
from edgeseg.train.config import RunConfig
from edgeseg.train.corpus import Corpus
from edgeseg.train.loss import SegmentationLoss, class_weights, logit_shift
from edgeseg.train.parts import Outputs, Parts, Pictures
from edgeseg.train.plan import repeat_factors
from edgeseg.train.record import PICTURES, colour_ids, spread
from edgeseg.train.validate import predict, score


def supervised_parts(config: RunConfig, train: Corpus, splits: Sequence[Corpus], device: torch.device) -> Parts:
    """Put together a run on labelled frames.

    Args:
        config: Resolved.
        train: Frames to learn from.
        splits: Frames to score, the deciding split first.
        device: Of the model.

    Raises:
        DataError: Nothing in the training frames is labelled.
    """
    histogram = train.histogram()
    if not histogram.any():
        raise DataError(
            "no pixel of the training frames is labelled",
            value=config.data.train,
            allowed="masks with class ids",
            fix=f"edgeseg data lint {config.data.train}",
        )
    weights = class_weights(histogram, config.loss.class_weights)
    weights = None if weights is None else weights.to(device)
    shift = logit_shift(weights, config.loss.weight_shift)
    loss = SegmentationLoss(config.loss, config.classes.ignore_id, weights, shift)

    def objective(_inputs: Tensor, outputs: Outputs, targets: Tensor) -> Tensor:
        return loss(outputs, targets)

    return Parts(AugmentedFrames(train, config), objective, SplitScores(config, splits))


class AugmentedFrames:
    """The feed of labelled frames.

    Args:
        corpus: Frames.
        config: Strengths, seed and sampling.
    """

    def __init__(self, corpus: Corpus, config: RunConfig) -> None:
        self._corpus = corpus
        self._augmenter = Augmenter(
            corpus, config.augment, config.input, seed=config.train.seed, stride=config.model.stride
        )
        below = config.data.repeat_below
        self._repeats = repeat_factors((corpus.pixels > 0).numpy(), below) if below else None

    def __len__(self) -> int:
        return len(self._corpus)

    @property
    def repeats(self) -> NDArray[np.float64] | None:
        """See `Feed.repeats`."""
        return self._repeats

    def batch(
        self, epoch: int, positions: Sequence[int], frames: Sequence[int], step: int = 0
    ) -> tuple[Tensor, Tensor]:
        """See `Augmenter.batch`."""
        return self._augmenter.batch(epoch, positions, frames, step)


@dataclass(frozen=True)
class SplitScores:
    """The judge of a run on labelled frames.

    Attributes:
        config: Resolved.
        splits: Frames to score; pictures are of the first.
    """

    config: RunConfig
    splits: Sequence[Corpus]

    def metrics(self, model: nn.Module) -> dict[str, object]:
        """mIoU, pixel accuracy and IoU by class of every split."""
        found: dict[str, object] = {}
        for corpus in self.splits:
            result = score(model, corpus, self.config.input, stride=self.config.model.stride)
            found[f"{corpus.name}/miou"] = result.miou
            found[f"{corpus.name}/pixel_accuracy"] = result.pixel_accuracy
            found[f"{corpus.name}/iou"] = result.iou
        return found

    @torch.no_grad()
    def pictures(self, model: nn.Module) -> list[Pictures]:
        """Frame, label and mask side by side."""
        return [Pictures(corpus.name, self._rows(model, corpus)) for corpus in self.splits[:1]]

    def _rows(self, model: nn.Module, corpus: Corpus) -> list[Tensor]:
        rows = []
        for index in spread(len(corpus), PICTURES):
            mask = predict(model, corpus.images[index], self.config.model.stride, self.config.input)
            coloured = [colour_ids(ids, corpus.classes) for ids in (corpus.labels[index], mask)]
            rows.append(torch.cat([corpus.images[index].cpu(), *coloured], dim=2))
        return rows
