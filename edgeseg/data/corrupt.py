"""What bad conditions do to a camera's picture, at three strengths: a measure of robustness, not a simulation.

In the manner of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (2019), with the conditions of a vehicle. Labels stay as they are. Depth is not known, so fog takes the
street for a corridor: far at the vanishing point (the middle, 45 % down), near at the edges.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from edgeseg.core.config import unknown_name
from edgeseg.core.errors import RequestError
from edgeseg.core.types import F32, U8, Classes, Dataset, Sample

STRENGTHS = (1, 2, 3)

_HORIZON = 0.45
_REFERENCE_WIDTH = 480


def corrupted(dataset: Dataset, kind: str, strength: int, *, seed: int = 0) -> CorruptedDataset:
    """The same frames under a bad condition.

    Args:
        dataset: Labelled frames.
        kind: One of `KINDS`.
        strength: 1, 2 or 3.
        seed: Which drops, streaks, suns and noise; the frame's index varies all but the dirt on the lens.

    Raises:
        RequestError: An unknown kind or strength.
    """
    _known(kind, strength)
    return CorruptedDataset(dataset, kind, strength, seed)


def corrupt(image_hwc: U8, kind: str, strength: int, *, seed: int = 0, index: int = 0) -> U8:
    """One picture uint8 [H, W, 3] BGR under a bad condition; the input is left as it is.

    Raises:
        RequestError: An unknown kind or strength.
    """
    _known(kind, strength)
    still = kind in _STILL
    rng = np.random.default_rng((seed, zlib.crc32(kind.encode()), 0 if still else index))
    result = _KINDS[kind](image_hwc.astype(np.float32), strength - 1, rng)
    return np.asarray(result.clip(0, 255) + 0.5, np.uint8)


@dataclass(frozen=True, slots=True)
class CorruptedDataset:
    """A data set seen under a bad condition; see `corrupted`.

    Attributes:
        clean: The data set as it is.
        kind: The condition.
        strength: 1, 2 or 3.
        seed: Seeds everything random.
    """

    clean: Dataset
    kind: str
    strength: int
    seed: int

    @property
    def name(self) -> str:
        """Specification of the data set, and the condition."""
        return f"{self.clean.name} ({self.kind} {self.strength})"

    @property
    def split(self) -> str:
        """Of the data set."""
        return self.clean.split

    @property
    def classes(self) -> Classes:
        """Of the data set."""
        return self.clean.classes

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, index: int) -> Sample:
        sample = self.clean[index]
        image = corrupt(sample.image_hwc, self.kind, self.strength, seed=self.seed, index=index)
        return Sample(name=sample.name, image_hwc=image, label_hw=sample.label_hw)


def _night(image: F32, level: int, rng: np.random.Generator) -> F32:
    """Little light, cold, the headlights' pool on the road, and the noise of a camera that turns its gain up."""
    height, width = image.shape[:2]
    y, x = _grid(height, width)
    ambient = min((52.0, 34.0, 22.0)[level] / (float(image.mean()) + 1.0), 0.6)
    pool = np.exp(-(((x - 0.5) / 0.36) ** 2) - ((y - 0.78) / 0.2) ** 2)
    light = ambient * (1 + (0.8, 1.4, 2.2)[level] * pool)
    tint = np.array((1.12, 0.98, 0.88), np.float32)
    dark = np.asarray(255 * (image / 255) ** 1.25 * light[:, :, None] * tint, np.float32)
    return _sensor(dark, (0.35, 0.6, 0.9)[level], (2.0, 4.0, 6.5)[level], rng)


def _glare(image: F32, level: int, rng: np.random.Generator) -> F32:
    """A low sun in the picture: a burnt-out disc, a halo, ghosts along the line through the centre, a veil over all."""
    height, width = image.shape[:2]
    y, x = _grid(height, width)
    sun = rng.uniform(0.25, 0.75), rng.uniform(0.08, 0.36)
    aspect = width / height
    distance = np.hypot((x - sun[0]) * aspect, y - sun[1])
    power = (0.55, 0.85, 1.25)[level]
    light = 1.5 * np.exp(-((distance / 0.06) ** 2)) + power * np.exp(-distance / 0.28) + 0.14 * power
    for place in (0.45, 1.3, 1.7):
        ghost = np.hypot((x - sun[0] - place * (0.5 - sun[0])) * aspect, y - sun[1] - place * (0.5 - sun[1]))
        light += 0.12 * power * (ghost < 0.035 + 0.03 * place)
    veil = light[:, :, None] * np.array((190, 225, 250), np.float32)
    return np.asarray(image * (1 - 0.12 * power) + veil, np.float32)


def _rain(image: F32, level: int, rng: np.random.Generator) -> F32:
    """Grey light, streaks at several distances, and drops on the glass that show the scene blurred."""
    height, width = image.shape[:2]
    grey = image.mean(axis=2, keepdims=True)
    flat = 0.75 * image + 0.25 * grey
    veiled = flat * (0.86, 0.76, 0.66)[level] + (14, 24, 36)[level]
    scale = width / _REFERENCE_WIDTH
    slant = rng.uniform(-0.25, 0.25)
    bright = min(float(image.mean()) / 110 + 0.2, 1.0)
    for length, share, light in ((9, 0.004, 40), (18, 0.0022, 60), (34, 0.001, 80)):
        seeds = (rng.random((height, width)) < share * (0.6, 1.2, 2.0)[level]).astype(np.float32)
        reach = max(round(length * scale), 3)
        streaks = cv2.filter2D(seeds, -1, _line_kernel(reach, np.pi / 2 + slant) * reach)
        veiled += bright * light * np.minimum(streaks, 1.0)[:, :, None]
    blurred = cv2.GaussianBlur(veiled, (0, 0), 6 * scale)[::-1, ::-1]
    drops = 0.7 * _blobs(height, width, (10, 24, 45)[level], (0.005, 0.016), rng)[:, :, None]
    return np.asarray(veiled * (1 - drops) + drops * (0.7 * blurred + 60), np.float32)


def _fog(image: F32, level: int, rng: np.random.Generator) -> F32:
    """Koschmieder's law in a corridor: depth goes with the inverse of the distance to the vanishing point."""
    height, width = image.shape[:2]
    y, x = _grid(height, width)
    from_vanishing = np.hypot(0.7 * (x - 0.5) * width / height, y - _HORIZON)
    depth = 0.5 / (from_vanishing + 0.02)
    density = (0.13, 0.27, 0.5)[level] * (0.8 + 0.4 * _clouds(height, width, 6, rng))
    keep = np.exp(-density * depth)[:, :, None]
    air = np.array((226, 224, 220), np.float32) * np.float32(rng.uniform(0.82, 1.0))
    return np.asarray(image * keep + air * (1 - keep), np.float32)


def _motion_blur(image: F32, level: int, rng: np.random.Generator) -> F32:
    """A long exposure on a shaking vehicle: a straight smear, more across than up."""
    reach = max(round((6, 12, 22)[level] * image.shape[1] / _REFERENCE_WIDTH), 2)
    kernel = _line_kernel(reach, rng.uniform(-0.45, 0.45))
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE), np.float32)


def _lens_dirt(image: F32, level: int, rng: np.random.Generator) -> F32:
    """Mud and dried drops close to the lens: soft, brown, the same in every frame; and a greasy film."""
    height, width = image.shape[:2]
    spots = _blobs(height, width, (14, 30, 60)[level], (0.012, 0.05), rng)
    cover = np.asarray(cv2.GaussianBlur(spots, (0, 0), 0.006 * width), np.float32)[:, :, None] * 0.85
    film = 0.5 * (0.15, 0.3, 0.5)[level] * _clouds(height, width, 5, rng)[:, :, None]
    soft = cv2.GaussianBlur(image, (0, 0), 0.008 * width)
    smeared = image * (1 - film) + (0.85 * soft + 22) * film
    mud = np.array((46, 62, 78), np.float32) + 0.25 * soft
    return np.asarray(smeared * (1 - cover) + mud * cover, np.float32)


def _sensor_gain(image: F32, level: int, rng: np.random.Generator) -> F32:
    """A sensor at high gain: shot and read noise, uneven rows, hot pixels, pale colours."""
    height, width = image.shape[:2]
    pale = (0.1, 0.2, 0.35)[level]
    grey = image.mean(axis=2, keepdims=True)
    noisy = _sensor(image * (1 - pale) + grey * pale, (0.9, 2.2, 4.5)[level], (4.0, 9.0, 16.0)[level], rng)
    noisy += rng.normal(0, (0.8, 2.0, 4.0)[level], (height, 1, 1)).astype(np.float32)
    hot = rng.random((height, width)) < (0.0002, 0.0006, 0.0015)[level]
    noisy[hot] = rng.uniform(120, 255, (int(hot.sum()), 3)).astype(np.float32)
    return noisy


_Corruption = Callable[[F32, int, np.random.Generator], F32]

_KINDS: Mapping[str, _Corruption] = {
    "night": _night,
    "glare": _glare,
    "rain": _rain,
    "fog": _fog,
    "motion_blur": _motion_blur,
    "lens_dirt": _lens_dirt,
    "sensor_gain": _sensor_gain,
}
_STILL = ("lens_dirt",)
KINDS = tuple(_KINDS)
"""Every condition."""


def _known(kind: str, strength: int) -> None:
    if kind not in _KINDS:
        raise unknown_name("corruption", kind, list(KINDS))
    if strength not in STRENGTHS:
        raise RequestError("no strength of a corruption", value=strength, allowed="1, 2 or 3")


def _sensor(image: F32, shot: float, read: float, rng: np.random.Generator) -> F32:
    """Noise whose variance is `shot` times the signal plus `read` squared."""
    noise = rng.standard_normal(image.shape, np.float32)
    return np.asarray(image + noise * np.sqrt(np.maximum(image, 0) * shot + read * read), np.float32)


def _grid(height: int, width: int) -> tuple[F32, F32]:
    """Row and column of each pixel, 0 to 1."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
    return y, x


def _line_kernel(reach: int, angle: float) -> F32:
    """A straight line through the middle of a kernel that sums to 1."""
    side = reach | 1
    kernel = np.zeros((side, side), np.float32)
    dx, dy = 0.5 * (side - 1) * np.cos(angle), 0.5 * (side - 1) * np.sin(angle)
    middle = 0.5 * (side - 1)
    ends = [(round((middle + sign * dx) * 16), round((middle + sign * dy) * 16)) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)
    kernel[side // 2, side // 2] = max(kernel[side // 2, side // 2], 1.0)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _blobs(height: int, width: int, count: int, radii: tuple[float, float], rng: np.random.Generator) -> F32:
    """Soft spots, 0 to 1, of radii given as shares of the width."""
    layer = np.zeros((height, width), np.float32)
    for _ in range(count):
        centre = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        radius = rng.uniform(*radii) * width
        axes = max(int(radius * rng.uniform(0.7, 1.0)), 1), max(int(radius), 1)
        cv2.ellipse(layer, centre, axes, rng.uniform(0, 180), 0, 360, rng.uniform(0.6, 1.0), -1, cv2.LINE_8)
    return np.asarray(cv2.GaussianBlur(layer, (0, 0), max(0.003 * width, 0.6)), np.float32)


def _clouds(height: int, width: int, cells: int, rng: np.random.Generator) -> F32:
    """Smooth patches from 0 to 1."""
    coarse = rng.random((cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1), np.float32)
