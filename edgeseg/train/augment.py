"""Augmentation of a batch: geometry per frame on uint8, colour and normalisation as one affine map over the batch.

Brightness, contrast, saturation, hue, mean and std are all affine in RGB, so each frame's are folded into one 3x4
matrix and the whole batch is coloured and normalised by a single product. It costs a few per cent of a step on a CPU,
runs on the GPU where the frames live there, and gives channels-last memory as it is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from edgeseg.core.types import Size
from edgeseg.model import InputConfig
from edgeseg.train.config import AugmentConfig
from edgeseg.train.corpus import Corpus
from edgeseg.train.effects import apply_effects, draw_effects
from edgeseg.train.plan import Purpose, generator

Affine = NDArray[np.float64]
"""[3, 4]: RGB in 0..255 and 1, to RGB."""

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
# YIQ (NTSC): hue is a turn of the I-Q plane
_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


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


def draw_colour(rng: np.random.Generator, config: AugmentConfig, mean_rgb: Sequence[float]) -> Affine:
    """A random change of colour as one affine map.

    Args:
        rng: Source of the four draws.
        config: Strengths.
        mean_rgb: What contrast turns about, in 0..255.
    """
    brightness, contrast, saturation = (
        1 + rng.uniform(-strength, strength) for strength in (config.brightness, config.contrast, config.saturation)
    )
    turn = rng.uniform(-config.hue, config.hue) * 2 * math.pi
    grey = np.tile(_LUMA, (3, 1))
    linear = saturation * np.eye(3) + (1 - saturation) * grey
    plane = np.array([[1, 0, 0], [0, math.cos(turn), -math.sin(turn)], [0, math.sin(turn), math.cos(turn)]])
    linear = _YIQ_TO_RGB @ plane @ _RGB_TO_YIQ @ linear
    pivot = float(_LUMA @ np.asarray(mean_rgb))
    offset = (1 - contrast) * pivot
    return np.column_stack([brightness * contrast * linear, np.full(3, brightness * offset)])


def apply_colour(images_nchw: Tensor, maps: Sequence[Affine], config: InputConfig) -> Tensor:
    """Colour and normalise a batch.

    Colours are not clamped to 0..255 between the two: values slightly outside are a variation like any other.

    Args:
        images_nchw: uint8 [N, 3, H, W] RGB, channels-last memory.
        maps: One affine map per frame.
        config: Mean and standard deviation to normalise with.

    Returns:
        float32 [N, 3, H, W], channels-last memory.
    """
    folded = np.stack([_normalised(each, config) for each in maps]).astype(np.float32)
    matrix = torch.from_numpy(folded).to(images_nchw.device)
    count, channels, height, width = images_nchw.shape
    pixels = images_nchw.permute(0, 2, 3, 1).reshape(count, height * width, channels).float()
    coloured = torch.baddbmm(matrix[:, None, :, 3], pixels, matrix[:, :, :3].transpose(1, 2))
    return coloured.reshape(count, height, width, channels).permute(0, 3, 1, 2)


def normalise(images_nchw: Tensor, config: InputConfig) -> Tensor:
    """What the network takes of unchanged frames; shapes as in `apply_colour`."""
    same = np.column_stack([np.eye(3), np.zeros(3)])
    return apply_colour(images_nchw, [same] * len(images_nchw), config)


class Augmenter:
    """Batches of augmented frames; the same batch for the same (seed, epoch, position) on any number of processes.

    Args:
        corpus: Frames and labels.
        config: Strengths; `crop` is resolved.
        input_config: Mean and standard deviation.
        seed: Of the run.
        stride: What crops are multiples of.
    """

    def __init__(
        self, corpus: Corpus, config: AugmentConfig, input_config: InputConfig, *, seed: int, stride: int = 1
    ) -> None:
        assert config.crop is not None, "the crop is resolved before a run starts"
        self._corpus = corpus
        self._config = config
        self._crop: Size = config.crop
        self._input = input_config
        self._seed = seed
        self._stride = stride
        self._mixer = ClassMixer(corpus, config) if config.class_mix else None

    def batch(
        self, epoch: int, positions: Sequence[int], frames: Sequence[int], step: int = 0
    ) -> tuple[Tensor, Tensor]:
        """The frames at some positions of an epoch.

        Args:
            epoch: From 0.
            positions: Places within the epoch's order, which seed the draws.
            frames: Index of the frame at each of them.
            step: Step of the epoch, which seeds the size of the crop.

        Returns:
            float32 [N, 3, h, w] normalised RGB, channels-last; int64 [N, h, w] class ids.
        """
        crop = self._crop_at(epoch, step)
        images, labels, maps, effects = [], [], [], []
        for position, frame in zip(positions, frames, strict=True):
            rng = generator(self._seed, Purpose.SAMPLE, epoch, position)
            maps.append(draw_colour(rng, self._config, self._input.mean_rgb))
            effects.append(draw_effects(rng, self._config))
            image, label = self._cut(rng, crop, frame)
            if self._mixer is not None and rng.random() < self._config.class_mix:
                image, label = self._mixer.paste(rng, image, label, functools.partial(self._cut, rng, crop))
            images.append(image)
            labels.append(label)
        stacked = torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
        return apply_colour(apply_effects(stacked, effects), maps, self._input), torch.stack(labels).long()

    def _cut(self, rng: np.random.Generator, crop: Size, frame: int) -> tuple[Tensor, Tensor]:
        image, label = self._corpus.images[frame], self._corpus.labels[frame]
        window = draw_window(rng, (label.shape[0], label.shape[1]), crop, self._config)
        return cut(image, label, window, crop, self._corpus.classes.ignore_id)

    def _crop_at(self, epoch: int, step: int) -> Size:
        low, high = self._config.multi_scale
        if low == high == 1.0:
            return self._crop
        factor = generator(self._seed, Purpose.CROP, epoch, step).uniform(low, high)
        height, width = (max(1, round(side * factor / self._stride)) * self._stride for side in self._crop)
        return height, width


class ClassMixer:
    """Pastes objects of rare classes from one frame into another.

    Args:
        corpus: Frames to take objects from.
        config: `mix_below` says which classes are rare.
    """

    def __init__(self, corpus: Corpus, config: AugmentConfig) -> None:
        share = corpus.histogram().double() / corpus.histogram().sum().clamp(min=1)
        self._rare = (share < config.mix_below) & (share > 0)
        shows = (corpus.pixels > 0) & self._rare
        # a class is drawn evenly among the rare ones, then a frame that shows it
        self._donors = [shows[:, c].nonzero()[:, 0].numpy() for c in self._rare.nonzero()[:, 0].tolist()]

    def paste(
        self,
        rng: np.random.Generator,
        image_chw: Tensor,
        label_hw: Tensor,
        cut_other: Callable[[int], tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        """Lay the rare objects of another frame's crop over a crop.

        Args:
            rng: Draws the other frame.
            image_chw: uint8 [3, h, w].
            label_hw: uint8 [h, w].
            cut_other: Gives a crop of the same size of a frame by its index.
        """
        if not self._donors:
            return image_chw, label_hw
        donors = self._donors[int(rng.integers(len(self._donors)))]
        other, ids = cut_other(int(rng.choice(donors)))
        rare = torch.zeros(256, dtype=torch.bool, device=ids.device)
        rare[: len(self._rare)] = self._rare.to(ids.device)
        taken = rare[ids.int()]
        return torch.where(taken, other, image_chw), torch.where(taken, ids, label_hw)


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


def _normalised(colour: Affine, config: InputConfig) -> Affine:
    mean, std = np.asarray(config.mean_rgb), np.asarray(config.std_rgb)
    shifted = colour.copy()
    shifted[:, 3] -= mean
    return np.asarray(shifted / std[:, None])
