"""Windows of a frame: which part of it becomes the crop, and how it is cut out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from edgeseg.core.types import Size
from edgeseg.train.config import AugmentConfig


@dataclass(frozen=True)
class Window:
    """The part of a frame that becomes the crop: pixels from (top, left), which may lie outside the frame."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


def draw_window(rng: np.random.Generator, frame: Size, crop: Size, config: AugmentConfig) -> Window:
    """A random window whose resize to `crop` magnifies by a factor within `config.scale`."""
    scale = math.exp(rng.uniform(math.log(config.scale[0]), math.log(config.scale[1])))
    stretch = math.exp(rng.uniform(-1, 1) * math.log(config.aspect) / 2)
    height = max(1, round(crop[0] / (scale / stretch)))
    width = max(1, round(crop[1] / (scale * stretch)))
    top = _offset(rng, frame[0], height)
    left = _offset(rng, frame[1], width)
    return Window(top, left, height, width, bool(rng.random() < config.flip))


def cut(image_chw: Tensor, label_hw: Tensor, window: Window, crop: Size, ignore_id: int) -> tuple[Tensor, Tensor]:
    """Cut a window from a frame and its label, resize to `crop` and mirror.

    Outside the frame its edge is repeated and unlabelled.

    Args:
        image_chw: uint8 [3, H, W].
        label_hw: uint8 [H, W].
        window: Part of the frame.
        crop: (height, width) of the result.
        ignore_id: Label outside the frame.
    """
    pads = _overhang(window, (label_hw.shape[0], label_hw.shape[1]))
    top, left = max(window.top, 0), max(window.left, 0)
    bottom, right = window.top + window.height - pads[3], window.left + window.width - pads[2]
    image = image_chw[:, top:bottom, left:right]
    label = label_hw[None, top:bottom, left:right]
    if any(pads):
        image = tvf.pad(image, list(pads), padding_mode="edge")
        label = tvf.pad(label, list(pads), fill=ignore_id)
    image = tvf.resize(image, list(crop), InterpolationMode.BILINEAR, antialias=True)
    # the pixel at the centre, where the picture's filter looks too: NEAREST takes the one above and left of it, and
    # labels half a pixel off cost thin things their IoU
    label = tvf.resize(label, list(crop), InterpolationMode.NEAREST_EXACT)
    if window.mirrored:
        image, label = image.flip(-1), label.flip(-1)
    return image, label[0]


def _offset(rng: np.random.Generator, frame: int, window: int) -> int:
    low, high = sorted((0, frame - window))
    return int(rng.integers(low, high + 1))


def _overhang(window: Window, frame: Size) -> tuple[int, int, int, int]:
    """Pixels of the window outside the frame: left, top, right, bottom."""
    return (
        max(0, -window.left),
        max(0, -window.top),
        max(0, window.left + window.width - frame[1]),
        max(0, window.top + window.height - frame[0]),
    )
