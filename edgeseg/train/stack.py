"""Frames of one size in one tensor: the windows of a whole batch are cut and resized by a few operators.

`window.cut` works frame by frame, a dozen small operators each: nothing on a CPU, but on a GPU their launches alone
take longer than a training step. Resizing is linear and separable, so a window with its edge padding, its antialiasing
filter and its mirroring is one matrix for the rows and one for the columns; a batch is then two matrix products, and
its labels are one gather.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeseg.core.types import Size
from edgeseg.train.corpus import Corpus, send
from edgeseg.train.window import Window


@dataclass(frozen=True)
class FrameStack:
    """A corpus whose frames have one size, stacked.

    Attributes:
        images: uint8 [F, H, W, 3], RGB.
        labels: uint8 [F, H, W].
        ignore_id: Label outside a frame.
    """

    images: Tensor
    labels: Tensor
    ignore_id: int

    @classmethod
    def of(cls, corpus: Corpus) -> FrameStack | None:
        """The corpus as a stack; None where its frames have several sizes."""
        if len({tuple(label.shape) for label in corpus.labels}) != 1:
            return None
        images = torch.stack([image.permute(1, 2, 0) for image in corpus.images])
        return cls(images, torch.stack(list(corpus.labels)), corpus.classes.ignore_id)

    def cut(self, frames: Sequence[int], windows: Sequence[Window], crop: Size) -> tuple[Tensor, Tensor]:
        """What `window.cut` gives for each frame and window.

        Pictures differ by a grey level at most: here nothing is rounded between the two passes.

        Args:
            frames: Index of each frame.
            windows: Window in each.
            crop: (height, width) of the results.

        Returns:
            uint8 [N, 3, h, w], channels-last memory; uint8 [N, h, w].
        """
        height, width = self.labels.shape[1:]
        device = self.images.device
        picked = send(list(frames), device)
        table = send([(w.top, w.height, w.left, w.width, w.mirrored) for w in windows], device)
        mirrored = table[:, 4].bool()
        rows = _filter(table[:, 0], table[:, 1], crop[0], height, max(w.height for w in windows))
        columns = _filter(table[:, 2], table[:, 3], crop[1], width, max(w.width for w in windows))
        columns = torch.where(mirrored[:, None, None], columns.flip(1), columns)
        pixels = self.images[picked].float().flatten(2)  # [N, H, W * 3]
        count = len(picked)
        tall = torch.bmm(rows, pixels).view(count, crop[0], width, 3)
        # one product a frame for all its rows and colours: [w, W] @ [W, h * 3]
        wide = torch.bmm(columns, tall.permute(0, 2, 1, 3).reshape(count, width, crop[0] * 3))
        image = wide.view(count, crop[1], crop[0], 3).permute(0, 2, 1, 3)  # [N, h, w, 3]
        image = image.round().clamp(0, 255).to(torch.uint8).contiguous().permute(0, 3, 1, 2)
        return image, self._labels(picked, table, mirrored, crop)

    def _labels(self, picked: Tensor, table: Tensor, mirrored: Tensor, crop: Size) -> Tensor:
        height, width = self.labels.shape[1:]
        y = _nearest(table[:, 0], table[:, 1], crop[0])
        x = _nearest(table[:, 2], table[:, 3], crop[1])
        x = torch.where(mirrored[:, None], x.flip(1), x)
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
        found = self.labels[
            picked[:, None, None], y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None, :]
        ]
        return torch.where(inside, found, self.ignore_id)


def _filter(start: Tensor, length: Tensor, out: int, side: int, longest: int) -> Tensor:
    """The matrix that resizes a stretch of an axis with antialiasing, its edge repeated outside the frame.

    The weights are those of torch's bilinear resize with `antialias=True`: a triangle as wide as the reduction.

    Args:
        start: First place of each stretch, may be negative, int64 [N].
        length: Places of each, int64 [N].
        out: Places of the result.
        side: Places of the frame.
        longest: Largest of `length`, known without asking the device.

    Returns:
        float32 [N, out, side].
    """
    scale = (length.float() / out)[:, None]
    support = scale.clamp(min=1.0)
    centre = scale * (torch.arange(out, device=start.device) + 0.5)  # [N, out], in the stretch
    first = (centre - support + 0.5).long().clamp(min=0)
    taps = 2 * math.ceil(max(longest / out, 1.0)) + 1
    place = first[..., None] + torch.arange(taps, device=start.device)  # [N, out, taps]
    weight = (1 - (place - centre[..., None] + 0.5).abs() / support[..., None]).clamp(min=0)
    weight = weight * (place < length[:, None, None])
    weight = weight / weight.sum(dim=2, keepdim=True)
    target = (place + start[:, None, None]).clamp(0, side - 1)
    matrix = torch.zeros((len(start), out, side), device=start.device)
    return matrix.scatter_add_(2, target, weight)


def _nearest(start: Tensor, length: Tensor, out: int) -> Tensor:
    """The place of the frame under the centre of each place of the result, int64 [N, out]; may lie outside."""
    place = (torch.arange(out, device=start.device) + 0.5) * (length.float() / out)[:, None]
    return start[:, None] + place.long().minimum(length[:, None] - 1)
