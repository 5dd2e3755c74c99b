"""Scores of the averaged weights on whole frames, with the geometry that the exported graph has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from edgeseg.core.metrics import BoundaryIou, Confusion
from edgeseg.core.types import U8
from edgeseg.model import InputConfig
from edgeseg.train.augment import normalise
from edgeseg.train.corpus import Corpus


@dataclass(frozen=True)
class Score:
    """What one split scored.

    Attributes:
        miou: Mean intersection over union of the classes that occur, at label size.
        pixel_accuracy: Share of labelled pixels that are right.
        iou: By class name; None for a class that does not occur.
        boundary_iou: Mean boundary IoU; None where it was not measured.
    """

    miou: float
    pixel_accuracy: float
    iou: dict[str, float | None]
    boundary_iou: float | None = None


def predict(model: nn.Module, image_chw: Tensor, stride: int, input_config: InputConfig) -> Tensor:
    """The mask of one frame: padded by its edge to the stride as in the graph, cut back, argmax.

    Args:
        model: In eval mode.
        image_chw: uint8 [3, H, W] RGB at network size.
        stride: What height and width must be multiples of.
        input_config: Mean and standard deviation.

    Returns:
        uint8 [H, W] class ids.
    """
    height, width = image_chw.shape[1:]
    # replicate pads float tensors only; the values are whole numbers, so nothing is rounded
    padded = nnf.pad(image_chw[None].float(), (0, -width % stride, 0, -height % stride), mode="replicate")
    logits = model(normalise(padded.to(memory_format=torch.channels_last), input_config))
    mask: Tensor = logits[0, :, :height, :width].argmax(dim=0).to(torch.uint8)
    return mask


@torch.no_grad()
def score(
    model: nn.Module,
    corpus: Corpus,
    input_config: InputConfig,
    *,
    stride: int,
    boundary: bool = False,
) -> Score:
    """Score a model (in eval mode) in float32 on every frame of a corpus, at the size of the labels."""
    confusion = Confusion(corpus.classes)
    contours = BoundaryIou(corpus.classes) if boundary else None
    for image, original in zip(corpus.images, corpus.originals, strict=True):
        mask = predict(model, image, stride, input_config)
        label = _numpy(original)
        found = _numpy(_at_size(mask, (label.shape[0], label.shape[1])))
        confusion.add(label, found)
        if contours is not None:
            contours.add(label, found)
    return Score(
        confusion.miou or 0.0,
        confusion.pixel_accuracy or 0.0,
        confusion.iou(),
        contours.mean if contours is not None else None,
    )


def _at_size(mask_hw: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(mask_hw.shape) == size:
        return mask_hw
    return nnf.interpolate(mask_hw[None, None], size, mode="nearest-exact")[0, 0]


def _numpy(plane: Tensor) -> U8:
    return np.asarray(plane.cpu().numpy(), dtype=np.uint8)
