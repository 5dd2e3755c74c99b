"""BLACK: a picture in which nothing can be seen, which an engine would segment all the same."""

from __future__ import annotations

import numpy as np

from edgeseg.core.packing import luma_chroma
from edgeseg.core.types import U8, InputFormat, State
from edgeseg.live.detect.verdict import Verdict

_GRID = 64  # about this many samples along each side: 50 microseconds at any resolution
_BRIGHT_PERCENT = 99
_LUMA_BLACK, _LUMA_GAIN = 16, 255 / 219  # of limited range; full range reads a little darker than it is
_FLAT = 1  # levels between darkest and brightest sample of a picture that shows nothing at all


class BlackDetector:
    """Looks at a grid of pixels: a night scene has lights, a covered or dead sensor has none.

    Args:
        level: The 99th percentile of brightness at or under which a picture is black, 0 to 255.
    """

    def __init__(self, level: int) -> None:
        self._level = level

    def check(self, image_hwc: U8, form: InputFormat = "bgr") -> Verdict | None:
        """BLACK for a dark or a one-coloured picture (what decoders show when they have nothing)."""
        if form == "bgr":
            grid = _grid(image_hwc)
            brightness = np.maximum(np.maximum(grid[:, 0], grid[:, 1]), grid[:, 2])
            spreads = [int((grid.max(axis=0) - grid.min(axis=0)).max())]
        else:
            luma, chroma = luma_chroma(image_hwc, form)
            height, width = chroma.shape
            brightness = _grid(luma)[:, 0]
            pairs = _grid(chroma[:, : width // 2 * 2].reshape(height, width // 2, 2))
            spreads = [int(np.ptp(brightness)), int((pairs.max(axis=0) - pairs.min(axis=0)).max())]
        rank = (len(brightness) - 1) * _BRIGHT_PERCENT // 100
        bright = int(np.partition(brightness, rank)[rank])
        if form != "bgr":
            bright = max(0, round((bright - _LUMA_BLACK) * _LUMA_GAIN))
        if bright <= self._level:
            return Verdict(State.BLACK, f"99 % of the picture is at or under {bright} of 255")
        if max(spreads) <= _FLAT:
            return Verdict(State.BLACK, "the picture has one colour only")
        return None


def _grid(image: U8) -> U8:
    """Samples of a picture [H, W] or [H, W, C], uint8 [N, C]."""
    height, width = image.shape[:2]
    channels = image.shape[2] if image.ndim == 3 else 1
    return np.ascontiguousarray(image[:: max(1, height // _GRID), :: max(1, width // _GRID)]).reshape(-1, channels)
