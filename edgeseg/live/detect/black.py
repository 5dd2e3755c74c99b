"""BLACK: a picture in which nothing can be seen, which an engine would segment all the same."""

from __future__ import annotations

import numpy as np

from edgeseg.core.types import U8, State
from edgeseg.live.detect.verdict import Verdict

_GRID = 64  # about this many samples along each side: 50 microseconds at any resolution
_BRIGHT_PERCENT = 99
_FLAT = 1  # levels between darkest and brightest sample of a picture that shows nothing at all


class BlackDetector:
    """Looks at a grid of pixels: a night scene has lights, a covered or dead sensor has none.

    Args:
        level: The 99th percentile of brightness at or under which a picture is black, 0 to 255.
    """

    def __init__(self, level: int) -> None:
        self._level = level

    def check(self, image_hwc: U8) -> Verdict | None:
        """BLACK for a dark or a one-coloured picture (what decoders show when they have nothing)."""
        height, width = image_hwc.shape[:2]
        grid = np.ascontiguousarray(image_hwc[:: max(1, height // _GRID), :: max(1, width // _GRID)]).reshape(-1, 3)
        brightness = np.maximum(np.maximum(grid[:, 0], grid[:, 1]), grid[:, 2])
        rank = (len(brightness) - 1) * _BRIGHT_PERCENT // 100
        bright = int(np.partition(brightness, rank)[rank])
        if bright <= self._level:
            return Verdict(State.BLACK, f"99 % of the picture is at or under {bright} of 255")
        if int((grid.max(axis=0) - grid.min(axis=0)).max()) <= _FLAT:
            return Verdict(State.BLACK, "the picture has one colour only")
        return None
