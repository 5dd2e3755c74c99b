"""One pass over a data set: what lint checks and stats shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeseg.core.errors import DataError
from edgeseg.core.progress import Progress
from edgeseg.core.types import F32, U8, Classes, Dataset, Size

HASH_SIDE = 16
"""A perceptual hash has this many bits squared."""
PLACE_SIZE: Size = (18, 24)
"""Cells of the map that says where in the picture a class lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFacts:
    """What one frame shows.

    Attributes:
        index: Position in the data set.
        name: Name in the data set.
        size: (height, width).
        pixels: int64 [classes]: labelled pixels of each class.
        ignored: Pixels without a class.
        mean_rgb: Mean of each channel, 0 to 255.
        square_rgb: Mean square of each channel.
        brightness: Mean grey level, 0 to 255.
        bits: bool [256]: its perceptual hash.
    """

    index: int
    name: str
    size: Size
    pixels: NDArray[np.int64]
    ignored: int
    mean_rgb: tuple[float, float, float]
    square_rgb: tuple[float, float, float]
    brightness: float
    bits: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one split holds.

    Attributes:
        split: Its name.
        classes: Its vocabulary.
        frames: The frames that can be read.
        problems: The frames and files that cannot.
        orphans: Labels without a picture.
        places: float32 [classes, 18, 24]: share of the frames whose cell shows the class.
    """

    split: str
    classes: Classes
    frames: Sequence[FrameFacts]
    problems: Sequence[DataError]
    orphans: Sequence[Path] = ()
    places: F32 = field(repr=False)

    @property
    def pixels(self) -> NDArray[np.int64]:
        """int64 [classes]: labelled pixels of each class."""
        total = np.zeros(len(self.classes), np.int64)
        for frame in self.frames:
            total += frame.pixels
        return total

    @property
    def ignored(self) -> int:
        """Pixels without a class."""
        return sum(frame.ignored for frame in self.frames)


def survey(
    dataset: Dataset, problems: Sequence[DataError] = (), orphans: Sequence[Path] = (), *, progress: Progress
) -> Survey:
    """Read every frame of a split; one that cannot be read joins the `problems` known so far, and reading goes on."""
    count = len(dataset.classes)
    frames: list[FrameFacts] = []
    found = list(problems)
    places = np.zeros((count, *PLACE_SIZE), np.float32)
    with progress.task(f"read {dataset.split}", len(dataset)) as task:
        for index in range(len(dataset)):
            try:
                sample = dataset[index]
            except DataError as error:
                found.append(error)
                continue
            finally:
                task.advance()
            cells = _grid(sample.label_hw)
            places += cells[None] == np.arange(count, dtype=np.uint8)[:, None, None]
            frames.append(_facts(index, sample.name, sample.image_hwc, sample.label_hw, count))
    places /= max(len(frames), 1)
    return Survey(
        split=dataset.split, classes=dataset.classes, frames=frames, problems=found, orphans=orphans, places=places
    )


def perceptual_hash(image_hwc: U8) -> NDArray[np.bool_]:
    """The difference hash of a picture, bool [256]: whether brightness rises from cell to cell.

    It survives scaling, recompression and a change of exposure (N. Krawetz, "Kind of Like That", 2013).
    """
    grey = Image.fromarray(image_hwc[:, :, 1]).resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    cells = np.asarray(grey, np.int16)
    return np.asarray(cells[:, 1:] > cells[:, :-1]).ravel()


def _facts(index: int, name: str, image_hwc: U8, label_hw: U8, count: int) -> FrameFacts:
    counts = np.bincount(label_hw.ravel(), minlength=256)
    sparse = image_hwc[::2, ::2, ::-1].reshape(-1, 3).astype(np.float32)
    mean, square = sparse.mean(axis=0), np.square(sparse).mean(axis=0)
    return FrameFacts(
        index=index,
        name=name,
        size=(label_hw.shape[0], label_hw.shape[1]),
        pixels=counts[:count].astype(np.int64),
        ignored=int(counts[count:].sum()),
        mean_rgb=(float(mean[0]), float(mean[1]), float(mean[2])),
        square_rgb=(float(square[0]), float(square[1]), float(square[2])),
        brightness=float(mean @ np.array((0.299, 0.587, 0.114))),
        bits=perceptual_hash(image_hwc),
    )


def _grid(label_hw: U8) -> U8:
    rows = ((np.arange(PLACE_SIZE[0]) + 0.5) * label_hw.shape[0] / PLACE_SIZE[0]).astype(int)
    columns = ((np.arange(PLACE_SIZE[1]) + 0.5) * label_hw.shape[1] / PLACE_SIZE[1]).astype(int)
    return label_hw[np.ix_(rows, columns)]
