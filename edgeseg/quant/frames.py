"""Calibration frames are chosen, not taken: black, noise-like and repeated frames are left out or refused.

A pool is read twice, so that memory stays constant: once to look at candidates spread evenly over it, once to measure
the chosen ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from edgeseg.core.errors import DataError, RequestError
from edgeseg.core.log import redact
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import F32, U8, Classes, Dataset
from edgeseg.data import SCHEMES, open_dataset
from edgeseg.data.corrupt import corrupt
from edgeseg.quant.ranges import FrameReport
from edgeseg.sources import open_source

MIN_FRAMES = 8
"""Fewer distinct frames than this are refused: a vehicle's world does not fit into them."""
ENOUGH_FRAMES = 32
"""Fewer than this are measured with a warning."""

_LOOK_FACTOR = 3  # candidates looked at, over frames wanted
_MAX_SCAN = 100_000  # frames counted in a source that does not know its length
_NOISE_SHARE = 0.1  # of a frame's variance that 8x8 means keep: white noise 1/64, street scenes above 0.6
_BLANK_STD = 3.0  # grey levels; below it a frame shows nothing
_BLANK_MEAN = 6.0
_SAME = 2.0  # mean absolute difference of two thumbnails, grey levels, below which frames are the same scene
_THUMBNAIL = (24, 32)
_BAD_SHARE = 0.2  # a source with more noise than this is no camera


@dataclass(frozen=True, slots=True)
class PoolFrame:
    """A frame of a pool: `image_hwc` uint8 BGR, `label_hw` uint8 ids where the pool is labelled."""

    index: int
    image_hwc: U8
    label_hw: U8 | None = None


class FramePool(Protocol):
    """Frames that can be read more than once."""

    @property
    def name(self) -> str:
        """Where they come from."""

    @property
    def classes(self) -> Classes | None:
        """The vocabulary of the labels, where there are labels."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> Iterator[PoolFrame]:
        """The frames of ascending indices; an array may be overwritten by the next frame."""


@dataclass(frozen=True, slots=True)
class DatasetPool:
    """The frames of a labelled data set."""

    dataset: Dataset

    @property
    def name(self) -> str:
        """Data specification and split, without the folder of this machine."""
        return f"{_portable(self.dataset.name)} ({self.dataset.split})"

    @property
    def classes(self) -> Classes | None:
        """Of the data set."""
        return self.dataset.classes

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, indices: Sequence[int]) -> Iterator[PoolFrame]:
        """By random access."""
        for index in indices:
            sample = self.dataset[index]
            yield PoolFrame(index, sample.image_hwc, sample.label_hw)


class ArrayPool:
    """Frames in memory.

    Args:
        frames: uint8 [H, W, 3] BGR each.
        name: What they are.
    """

    classes: Classes | None = None

    def __init__(self, frames: Sequence[U8], name: str = "frames in memory") -> None:
        self.frames = frames
        self.name = name

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, indices: Sequence[int]) -> Iterator[PoolFrame]:
        """By index."""
        return (PoolFrame(index, self.frames[index]) for index in indices)


class SourcePool:
    """The frames of a video file, picture folder or glob.

    Args:
        uri: As `open_source` takes it.

    Raises:
        RequestError: The source cannot be, or is live: its frames cannot be read again.
    """

    classes: Classes | None = None

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.name = _portable(redact(uri))
        source = open_source(uri)
        try:
            info = source.open()
            if info.live:
                raise RequestError(
                    "calibration needs frames that can be read again",
                    value=self.name,
                    allowed="a video file, a folder or glob of pictures, or a data set",
                )
            self._length = info.frames if info.frames is not None else _count(source.grab)
        finally:
            source.close()

    def __len__(self) -> int:
        return self._length

    def read(self, indices: Sequence[int]) -> Iterator[PoolFrame]:
        """In order, from the start; a container that ends before its stated length ends the frames."""
        source = open_source(self.uri)
        try:
            source.open()
            position = -1
            for index in indices:
                while position < index:
                    if not source.grab():
                        return
                    position += 1
                yield PoolFrame(index, source.retrieve().image_hwc)
        finally:
            source.close()


class CorruptedPool:
    """A pool of which some frames are seen under bad conditions, in turn: as it is, then under each condition.

    Args:
        pool: The frames.
        conditions: Kind and strength, as `edgeseg.data.corrupt` has them.
    """

    def __init__(self, pool: FramePool, conditions: Sequence[tuple[str, int]]) -> None:
        self._pool = pool
        self._conditions = tuple(conditions)
        self.classes = pool.classes
        self.name = f"{pool.name}, also under {', '.join(f'{kind}:{strength}' for kind, strength in conditions)}"

    def __len__(self) -> int:
        return len(self._pool)

    def read(self, indices: Sequence[int]) -> Iterator[PoolFrame]:
        """The same frame is always seen under the same condition."""
        for frame in self._pool.read(indices):
            turn = frame.index % (len(self._conditions) + 1)
            if turn:
                kind, strength = self._conditions[turn - 1]
                frame = replace(frame, image_hwc=corrupt(frame.image_hwc, kind, strength, index=frame.index))
            yield frame


def open_pool(spec: str) -> FramePool:
    """A pool from a data specification (its split `train`), or from whatever `open_source` takes.

    The folder of a data set is taken as that data set, so that its masks are never mistaken for pictures.

    Raises:
        RequestError: It cannot be, or does not exist.
    """
    if spec.partition(":")[0] in SCHEMES:
        return DatasetPool(open_dataset(spec, "train"))
    folder = Path(spec)
    if (folder / "train" / "images").is_dir():
        return DatasetPool(open_dataset(f"folder:{spec}", "train"))
    if (folder / "trainannot").is_dir():
        return DatasetPool(open_dataset(f"camvid:{spec}", "train"))
    return SourcePool(spec)


@dataclass(frozen=True, slots=True)
class Choice:
    """The indices to measure, and what is known of the pool; `report.sha256` is still empty."""

    indices: tuple[int, ...]
    report: FrameReport


def choose_frames(pool: FramePool, count: int, *, progress: Progress | None = None) -> Choice:
    """Choose up to `count` distinct, usable frames, spread evenly over a pool.

    Raises:
        RequestError: `count` asks for fewer than 8.
        DataError: Too many frames are noise, or fewer than 8 distinct frames that show something are left.
    """
    progress = progress or Silent()
    if count < MIN_FRAMES:
        raise RequestError("too few calibration frames", value=count, allowed=f"--count of at least {MIN_FRAMES}")
    looked = np.unique(np.linspace(0, len(pool) - 1, min(len(pool), _LOOK_FACTOR * count)).round().astype(int))
    found: list[_Look] = []
    with progress.task("look at frames", len(looked)) as task:
        for frame in pool.read(looked.tolist()):
            found.append(_look(frame, pool.classes))
            task.advance()
    noise = sum(look.noise for look in found)
    if noise > _BAD_SHARE * len(found):
        raise DataError(
            "the calibration frames are noise, not pictures",
            value=f"{noise} of {len(found)} of {pool.name}",
            allowed="frames of the camera, as the vehicle sees them",
        )
    usable = [look for look in found if not (look.noise or look.blank)]
    distinct = _distinct(usable)
    if len(distinct) < MIN_FRAMES:
        blank = sum(look.blank for look in found)
        repeated = len(usable) - len(distinct)
        raise DataError(
            "too few calibration frames",
            value=f"{pool.name}: {len(distinct)} usable of {len(found)}, {blank} black or blank, {repeated} repeated",
            allowed=f"at least {MIN_FRAMES} distinct frames that show something",
        )
    picked = [distinct[i] for i in np.unique(np.linspace(0, len(distinct) - 1, count).round().astype(int))]
    return Choice(tuple(look.index for look in picked), _report(pool, count, found, usable, distinct, picked))


@dataclass(frozen=True, slots=True)
class _Look:
    index: int
    thumbnail: F32
    brightness: float
    noise: bool
    blank: bool
    class_pixels: tuple[int, ...] | None


def _look(frame: PoolFrame, classes: Classes | None) -> _Look:
    grey = cv2.cvtColor(frame.image_hwc, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    means = cv2.resize(grey.astype(np.float32), (max(width // 8, 1), max(height // 8, 1)), interpolation=cv2.INTER_AREA)
    std = float(grey.std())
    brightness = float(grey.mean())
    blank = std < _BLANK_STD or brightness < _BLANK_MEAN
    noise = not blank and float(means.var()) < _NOISE_SHARE * std**2
    thumbnail = cv2.resize(means, _THUMBNAIL[::-1], interpolation=cv2.INTER_AREA)
    pixels = None
    if classes is not None and frame.label_hw is not None:
        pixels = tuple(np.bincount(frame.label_hw.reshape(-1), minlength=256)[: len(classes)].tolist())
    return _Look(frame.index, thumbnail, brightness, noise, blank, pixels)


def _distinct(looks: Sequence[_Look]) -> list[_Look]:
    kept: list[_Look] = []
    seen = np.empty((len(looks), *_THUMBNAIL), np.float32)
    for look in looks:
        known = seen[: len(kept)]
        if kept and float(np.abs(known - look.thumbnail).mean(axis=(1, 2)).min()) < _SAME:
            continue
        seen[len(kept)] = look.thumbnail
        kept.append(look)
    return kept


def _report(
    pool: FramePool,
    count: int,
    found: Sequence[_Look],
    usable: Sequence[_Look],
    distinct: Sequence[_Look],
    picked: Sequence[_Look],
) -> FrameReport:
    low, middle, high = np.percentile([look.brightness for look in picked], (5, 50, 95)).round(1).tolist()
    shares = _class_shares(pool.classes, picked)
    warnings = []
    if len(picked) < count:
        warnings.append(f"{len(picked)} distinct frames found, {count} asked for")
    if len(picked) < ENOUGH_FRAMES:
        warnings.append(f"ranges of {len(picked)} frames are thin; better are {ENOUGH_FRAMES} or more")
    if high < 50:
        warnings.append(f"every frame is dark (95 % are below {high:g} of 255)")
    never = [name for name, share in (shares or {}).items() if share == 0]
    if never:
        warnings.append(f"no frame shows: {', '.join(never)}")
    return FrameReport(
        source=pool.name,
        sha256="",
        count=len(picked),
        offered=len(found),
        duplicates=len(usable) - len(distinct),
        blank=sum(look.blank for look in found),
        brightness=(low, middle, high),
        class_shares=shares,
        warnings=tuple(warnings),
    )


def _class_shares(classes: Classes | None, picked: Sequence[_Look]) -> dict[str, float] | None:
    counted = [look.class_pixels for look in picked if look.class_pixels is not None]
    if classes is None or not counted:
        return None
    pixels = np.sum(counted, axis=0)
    return {name: round(float(n / max(pixels.sum(), 1)), 6) for name, n in zip(classes.names, pixels, strict=True)}


def _portable(name: str) -> str:
    """A name without where it lies on this machine: a range file travels with its model."""
    scheme, colon, place = name.rpartition(":")
    return name if "://" in name else f"{scheme}{colon}{Path(place).name}" if place.startswith(("/", ".")) else name


def _count(grab: object) -> int:
    assert callable(grab)
    return next((n for n in range(_MAX_SCAN) if not grab()), _MAX_SCAN)
