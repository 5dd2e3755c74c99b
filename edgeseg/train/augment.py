"""Augmentation of a batch: windows of frames as uint8, colour and normalisation as one affine map over the batch.

Brightness, contrast, saturation, hue, mean and std are all affine in RGB, so each frame's are folded into one 3x4
matrix and the whole batch is coloured and normalised by a single product. It costs a few per cent of a step on a CPU,
runs on the GPU where the frames live there, and gives channels-last memory as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeseg.core.types import Size
from edgeseg.model import InputConfig
from edgeseg.train.config import AugmentConfig
from edgeseg.train.corpus import Corpus, send
from edgeseg.train.effects import Effects, apply_effects, draw_effects
from edgeseg.train.plan import Purpose, generator
from edgeseg.train.stack import FrameStack
from edgeseg.train.window import Window, cut, draw_window

Affine = NDArray[np.float64]
"""[3, 4]: RGB in 0..255 and 1, to RGB."""

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
# YIQ (NTSC): hue is a turn of the I-Q plane
_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


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
    matrix = send(folded, images_nchw.device)
    count, channels, height, width = images_nchw.shape
    pixels = images_nchw.permute(0, 2, 3, 1).reshape(count, height * width, channels).float()
    coloured = torch.baddbmm(matrix[:, None, :, 3], pixels, matrix[:, :, :3].transpose(1, 2))
    return coloured.reshape(count, height, width, channels).permute(0, 3, 1, 2)


def normalise(images_nchw: Tensor, config: InputConfig) -> Tensor:
    """What the network takes of unchanged frames; shapes as in `apply_colour`."""
    same = np.column_stack([np.eye(3), np.zeros(3)])
    return apply_colour(images_nchw, [same] * len(images_nchw), config)


@dataclass(frozen=True)
class Draw:
    """What was drawn for one position of an epoch.

    Attributes:
        frame: Index.
        window: Part of it.
        colour: Affine map.
        effects: Weather, lens and sensor.
        donor: Frame and window whose rare objects are laid over it; None for none.
    """

    frame: int
    window: Window
    colour: Affine
    effects: Effects
    donor: tuple[int, Window] | None


class Augmenter:
    """Batches of augmented frames; the same batch for the same (seed, epoch, position) on any number of processes.

    On a CPU each frame is cut by itself; on a GPU, where launching those small operators would take longer than the
    training step, the frames of a batch are cut together (`FrameStack`).

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
        self._stack = FrameStack.of(corpus) if corpus.labels[0].device.type != "cpu" else None

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
            float32 [N, 3, h, w] normalised RGB, channels-last memory; int64 [N, h, w] class ids.
        """
        crop = self._crop_at(epoch, step)
        draws = [self._draw(epoch, place, frame, crop) for place, frame in zip(positions, frames, strict=True)]
        images, labels = self._cut([draw.frame for draw in draws], [draw.window for draw in draws], crop)
        mixed = [(index, *draw.donor) for index, draw in enumerate(draws) if draw.donor is not None]
        if mixed and self._mixer is not None:
            places, donors, windows = zip(*mixed, strict=True)
            others, ids = self._cut(donors, windows, crop)
            at = send(places, images.device)
            images[at], labels[at] = self._mixer.lay(others, ids, images[at], labels[at])
        changed = apply_effects(images, [draw.effects for draw in draws])
        return apply_colour(changed, [draw.colour for draw in draws], self._input), labels.long()

    def _draw(self, epoch: int, position: int, frame: int, crop: Size) -> Draw:
        rng = generator(self._seed, Purpose.SAMPLE, epoch, position)
        colour = draw_colour(rng, self._config, self._input.mean_rgb)
        effects = draw_effects(rng, self._config)
        window = self._window(rng, frame, crop)
        donor = None
        if self._mixer is not None and rng.random() < self._config.class_mix:
            other = self._mixer.draw_donor(rng)
            donor = None if other is None else (other, self._window(rng, other, crop))
        return Draw(frame, window, colour, effects, donor)

    def _window(self, rng: np.random.Generator, frame: int, crop: Size) -> Window:
        height, width = self._corpus.labels[frame].shape
        return draw_window(rng, (height, width), crop, self._config)

    def _cut(self, frames: Sequence[int], windows: Sequence[Window], crop: Size) -> tuple[Tensor, Tensor]:
        if self._stack is not None:
            return self._stack.cut(frames, windows, crop)
        corpus = self._corpus
        pairs = [
            cut(corpus.images[frame], corpus.labels[frame], window, crop, corpus.classes.ignore_id)
            for frame, window in zip(frames, windows, strict=True)
        ]
        images = torch.stack([image.permute(1, 2, 0) for image, _ in pairs]).permute(0, 3, 1, 2)
        return images, torch.stack([label for _, label in pairs])

    def _crop_at(self, epoch: int, step: int) -> Size:
        low, high = self._config.multi_scale
        if low == high == 1.0:
            return self._crop
        factor = generator(self._seed, Purpose.CROP, epoch, step).uniform(low, high)
        height, width = (max(1, round(side * factor / self._stride)) * self._stride for side in self._crop)
        return height, width


class ClassMixer:
    """Lays objects of rare classes from one frame over another.

    Args:
        corpus: Frames to take objects from.
        config: `mix_below` says which classes are rare.
    """

    def __init__(self, corpus: Corpus, config: AugmentConfig) -> None:
        share = corpus.histogram().double() / corpus.histogram().sum().clamp(min=1)
        rare = (share < config.mix_below) & (share > 0)
        shows = (corpus.pixels > 0) & rare
        # a class is drawn evenly among the rare ones, then a frame that shows it
        self._donors = [shows[:, c].nonzero()[:, 0].numpy() for c in rare.nonzero()[:, 0].tolist()]
        is_rare = torch.zeros(256, dtype=torch.bool)
        is_rare[: len(rare)] = rare
        self._is_rare = is_rare.to(corpus.labels[0].device)

    def draw_donor(self, rng: np.random.Generator) -> int | None:
        """A frame that shows a rare class; None where none does."""
        if not self._donors:
            return None
        return int(rng.choice(self._donors[int(rng.integers(len(self._donors)))]))

    def lay(self, others: Tensor, ids: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The rare objects of other crops over crops of the same size.

        Args:
            others: uint8 [N, 3, h, w], what objects are taken from.
            ids: uint8 [N, h, w], its labels.
            images: uint8 [N, 3, h, w].
            labels: uint8 [N, h, w].
        """
        taken = self._is_rare[ids.int()]
        return torch.where(taken[:, None], others, images), torch.where(taken, ids, labels)


def _normalised(colour: Affine, config: InputConfig) -> Affine:
    mean, std = np.asarray(config.mean_rgb), np.asarray(config.std_rgb)
    shifted = colour.copy()
    shifted[:, 3] -= mean
    return np.asarray(shifted / std[:, None])
