"""How much masks of a still scene change from frame to frame: the share of pixels that take another class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.types import U8, Result, SinkContext

_STEP = 4  # every fourth pixel in both directions: a sixteenth of the work, the same share
_GAP = 5  # frames that an engine slower than the camera may skip
_STILL = 12  # levels of 255 that a pixel may differ by, sensor noise and coding included


@dataclass(slots=True)
class _Last:
    image: NDArray[np.int16]
    mask: U8
    frame_id: int


class Flicker:
    """Share of still pixels that changed class between consecutive frames of one camera.

    A pixel is still where no channel differs by more than `_STILL` levels from the frame before; all others are
    left out, so that motion does not count as flicker.
    """

    def __init__(self) -> None:
        self._last: _Last | None = None
        self._still = 0
        self._changed = 0

    def add(self, frame_id: int, image_hwc: U8, mask_hw: U8) -> None:
        """Compare a frame with the one before it; a gap of more than a few frames starts afresh."""
        image = image_hwc[::_STEP, ::_STEP].astype(np.int16)
        mask = mask_hw[::_STEP, ::_STEP].copy()
        last, self._last = self._last, _Last(image, mask, frame_id)
        if last is None or not 0 < frame_id - last.frame_id <= _GAP or last.mask.shape != mask.shape:
            return
        still = np.abs(image - last.image).max(axis=2) <= _STILL
        self._still += int(still.sum())
        self._changed += int((still & (mask != last.mask)).sum())

    def skip(self) -> None:
        """A frame without a mask came between."""
        self._last = None

    @property
    def share(self) -> float | None:
        """Changed of all still pixels; None before there were any."""
        return self._changed / self._still if self._still else None


class FlickerSink:
    """Measures the flicker of every camera."""

    name = "flicker"
    lossless = True

    def open(self, context: SinkContext) -> None:
        """One measure a camera."""
        self._cameras = [Flicker() for _ in context.cameras]

    def write(self, result: Result) -> None:
        """Compare one result with the one before it."""
        camera = self._cameras[result.camera]
        if result.mask_hw is None or result.image_hwc is None:
            camera.skip()
        else:
            camera.add(result.frame_id, result.image_hwc, result.mask_hw)

    def close(self) -> None:
        """Nothing to close."""

    @property
    def shares(self) -> list[float | None]:
        """One share a camera."""
        return [camera.share for camera in self._cameras]
