"""Confidence-gated temporal smoothing: an unsure pixel keeps the class that it had, for a few frames at the most.

Where the engine's confidence is under the gate and the pixel's class would change, the class of the frame before is
kept. Each pixel counts how long it has been holding on; after `hold` frames the new class is taken, sure or not, so
that no pixel is ever older than that. A gap of more than a few frames lets go of everything.
"""

from __future__ import annotations

import numpy as np

from edgeseg.core.types import U8

_GAP = 5  # frames that an engine slower than the camera may skip


class Smoother:
    """One camera's pixels.

    Args:
        gate: Confidence (0 to 255) under which a change is not believed at once.
        hold: Frames that a pixel may hold on to its class.
    """

    def __init__(self, gate: int, hold: int) -> None:
        self._gate = gate
        self._hold = hold
        self._last: U8 | None = None
        self._held: U8 | None = None
        self._frame_id = -2

    def apply(self, frame_id: int, mask_hw: U8, confidence_hw: U8) -> None:
        """Smooth a mask in place.

        Args:
            frame_id: Of the frame; ids that follow closely belong together.
            mask_hw: uint8 [H, W]; changed.
            confidence_hw: uint8 [H, W].
        """
        if self._last is None or self._held is None or self._last.shape != mask_hw.shape:
            self._last, self._held = mask_hw.copy(), np.zeros_like(mask_hw)
        elif not 0 < frame_id - self._frame_id <= _GAP:
            np.copyto(self._last, mask_hw)
            self._held.fill(0)
        else:
            keep = (mask_hw != self._last) & (confidence_hw < self._gate) & (self._held < self._hold)
            np.copyto(mask_hw, self._last, where=keep)
            np.copyto(self._last, mask_hw)
            self._held[keep] += 1
            self._held[~keep] = 0
        self._frame_id = frame_id
