"""What a data set holds: sizes, classes, light."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np

from edgeseg.core.types import format_size
from edgeseg.data.survey import Survey


class ClassStats(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a class a split holds.

    Attributes:
        share: Of the labelled pixels, 0 to 1.
        frames: Frames that show it.
        share_where_shown: Median share in the frames that show it; None where none does.
    """

    share: float
    frames: int
    share_where_shown: float | None


class SplitStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a split holds.

    Attributes:
        frames: Frames that can be read.
        unreadable: Frames that cannot.
        sizes: Frames by size HEIGHTxWIDTH.
        classes: By class name.
        ignored: Share of the pixels without a class.
        mean_rgb: Mean of each channel over all frames, 0 to 255.
        std_rgb: Standard deviation of each channel over all pixels of all frames, 0 to 255.
        brightness: 5th, 50th and 95th percentile of the frames' mean grey level, 0 to 255.
    """

    frames: int
    unreadable: int
    sizes: dict[str, int]
    classes: dict[str, ClassStats]
    ignored: float
    mean_rgb: tuple[float, float, float]
    std_rgb: tuple[float, float, float]
    brightness: tuple[float, float, float]


def stats(survey: Survey) -> SplitStats:
    """Sum up a survey; all zeros where no frame can be read."""
    frames = survey.frames
    pixels, labelled = survey.pixels, max(int(survey.pixels.sum()), 1)
    classes = {}
    for index, name in enumerate(survey.classes.names):
        shares = [frame.pixels[index] / max(int(frame.pixels.sum()), 1) for frame in frames if frame.pixels[index]]
        classes[name] = ClassStats(
            share=round(float(pixels[index]) / labelled, 6),
            frames=len(shares),
            share_where_shown=round(float(np.median(shares)), 6) if shares else None,
        )
    mean = np.mean([frame.mean_rgb for frame in frames] or [(0.0, 0.0, 0.0)], axis=0)
    square = np.mean([frame.square_rgb for frame in frames] or [(0.0, 0.0, 0.0)], axis=0)
    bright = np.percentile([frame.brightness for frame in frames] or [0.0], (5, 50, 95))
    return SplitStats(
        frames=len(frames),
        unreadable=len(survey.problems),
        sizes={format_size(size): count for size, count in Counter(frame.size for frame in frames).most_common()},
        classes=classes,
        ignored=round(survey.ignored / max(survey.ignored + int(survey.pixels.sum()), 1), 6),
        mean_rgb=_three(mean),
        std_rgb=_three(np.sqrt(np.maximum(square - mean**2, 0))),
        brightness=_three(bright),
    )


def _three(values: np.typing.NDArray[np.float64]) -> tuple[float, float, float]:
    a, b, c = (round(float(value), 2) for value in values)
    return a, b, c
