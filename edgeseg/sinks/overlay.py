"""The picture that people look at: the frame with its mask over it, and the state of the camera in a corner."""

from __future__ import annotations

import cv2
import numpy as np

from edgeseg.core.types import U8, Classes, Result, State

_BADGE_BGR = {
    State.OK: (60, 160, 60),
    State.LATE: (0, 140, 230),
    State.DEGRADED: (0, 140, 230),
}
_ALARM_BGR = (40, 40, 200)


class OverlayPainter:
    """Draws overlays of one camera into memory of its own, allocated once.

    Args:
        classes: Palette; pixels of the ignore id show the frame itself.
        alpha: Weight of the mask's colour, 0 to 1.
    """

    def __init__(self, classes: Classes, *, alpha: float = 0.5) -> None:
        self._lut = np.zeros((256, 1, 3), np.uint8)
        self._lut[: len(classes), 0] = np.array(classes.palette_rgb, np.uint8)[:, ::-1]
        self._ignore_id = classes.ignore_id
        self._alpha = alpha
        self._canvas = np.zeros((0, 0, 3), np.uint8)
        self._colours = self._canvas

    def paint(self, result: Result) -> U8 | None:
        """The overlay, uint8 [H, W, 3] BGR, valid until the next call; None for a result without a picture.

        A result without a mask shows the frame and its state: never an earlier mask.
        """
        image_hwc = result.image_hwc
        if image_hwc is None:
            return None
        if result.mask_hw is None:
            self._fit(image_hwc)
            np.copyto(self._canvas, image_hwc)
        else:
            self.blend(image_hwc, result.mask_hw)
        self._badge(result)
        return self._canvas

    def blend(self, image_hwc: U8, mask_hw: U8) -> U8:
        """Frame and mask alone, uint8 [H, W, 3] BGR, valid until the next call.

        Args:
            image_hwc: uint8 [H, W, 3] BGR.
            mask_hw: uint8 [H, W] class ids.
        """
        self._fit(image_hwc)
        cv2.applyColorMap(mask_hw, self._lut, dst=self._colours)
        cv2.addWeighted(image_hwc, 1 - self._alpha, self._colours, self._alpha, 0, dst=self._canvas)
        cv2.copyTo(image_hwc, (mask_hw == self._ignore_id).view(np.uint8), self._canvas)
        return self._canvas

    def _fit(self, image_hwc: U8) -> None:
        if self._canvas.shape != image_hwc.shape:
            self._canvas, self._colours = np.empty_like(image_hwc), np.empty_like(image_hwc)

    def colours(self, result: Result) -> U8 | None:
        """The mask alone in its colours, uint8 [H, W, 3] BGR; None for a result without a mask."""
        if result.mask_hw is None:
            return None
        if self._colours.shape[:2] != result.mask_hw.shape:
            self._colours = np.empty((*result.mask_hw.shape, 3), np.uint8)
        return cv2.applyColorMap(result.mask_hw, self._lut, dst=self._colours)  # type: ignore[no-any-return]

    def _badge(self, result: Result) -> None:
        height = self._canvas.shape[0]
        scale = max(0.4, height / 1080)
        text = f"{result.state.name} #{result.frame_id}"
        text += f" {result.age_ns / 1e6:.0f} ms" if result.mask_hw is not None else f" {result.reason}"
        (width, tall), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        pad = round(6 * scale)
        colour = _BADGE_BGR.get(result.state, _ALARM_BGR)
        cv2.rectangle(self._canvas, (0, 0), (width + 2 * pad, tall + below + 2 * pad), colour, cv2.FILLED)
        white = (255, 255, 255)
        cv2.putText(self._canvas, text, (pad, pad + tall), cv2.FONT_HERSHEY_SIMPLEX, scale, white, 1, cv2.LINE_AA)
