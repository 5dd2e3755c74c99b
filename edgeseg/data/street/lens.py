"""From the canvas to a camera's picture: reflections, rain, exposure, softness, sensor noise."""

from __future__ import annotations

import cv2
import numpy as np

from edgeseg.core.types import U8, Size
from edgeseg.data.street.canvas import Canvas
from edgeseg.data.street.ids import ROAD
from edgeseg.data.street.weather import Weather

_NOISE_MARGIN = 61


class Lens:
    """Finishes pictures of one size.

    Args:
        size: (height, width) in pixels.
        rng: Seeds noise and rain.
    """

    def __init__(self, size: Size, rng: np.random.Generator) -> None:
        height, width = size
        noise = rng.standard_normal((height + _NOISE_MARGIN, width + _NOISE_MARGIN, 3))
        self._noise: U8 = (128 + 20 * noise).clip(0, 255).astype(np.uint8)
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        corner = 1 - 0.16 * (x * x + y * y) / 2
        self._vignette: U8 = np.repeat((255 * corner).astype(np.uint8)[:, :, None], 3, axis=2)
        self._rng_streaks = rng.random((240, 3)).astype(np.float32)
        self._size = size

    def develop(self, canvas: Canvas, weather: Weather, horizon_px: float, index: int) -> U8:
        """The picture uint8 [H, W, 3] BGR that a camera takes of the canvas."""
        picture = np.asarray(cv2.cvtColor(canvas.pixels, cv2.COLOR_BGRA2BGR), np.uint8)
        if weather.rain > 0.05:
            self._wet(picture, canvas.pixels[:, :, 3], weather, int(horizon_px))
            self._streaks(picture, weather, index)
        picture = np.asarray(cv2.GaussianBlur(picture, (3, 3), 0.55 + 0.35 * weather.rain), np.uint8)
        picture = cv2.LUT(picture, _tone(weather))
        picture = cv2.multiply(picture, self._vignette, scale=1 / 255)
        shift_y, shift_x = (index * 37) % _NOISE_MARGIN, (index * 23) % _NOISE_MARGIN
        noise = self._noise[shift_y : shift_y + self._size[0], shift_x : shift_x + self._size[1]]
        strength = 0.1 + 0.16 * (1 - min(weather.brightness, 1.0))
        return np.asarray(cv2.addWeighted(picture, 1.0, noise, strength, -128 * strength), np.uint8)

    def _wet(self, picture: U8, ids: U8, weather: Weather, horizon: int) -> None:
        """A wet road mirrors what stands above it."""
        below = self._size[0] - horizon
        above = min(horizon, below)
        if above < 2:
            return
        mirrored = cv2.GaussianBlur(picture[horizon - above : horizon][::-1], (5, 15), 0)
        road = picture[horizon : horizon + above]
        share = 0.3 * weather.rain
        wet = cv2.addWeighted(road, 1 - share, mirrored, share, 0)
        cv2.copyTo(wet, cv2.compare(ids[horizon : horizon + above], ROAD, cv2.CMP_EQ), road)

    def _streaks(self, picture: U8, weather: Weather, index: int) -> None:
        height, width = self._size
        layer = np.zeros_like(picture)
        for x, y, length in self._rng_streaks[: int(40 + 200 * weather.rain)]:
            fall = (float(y) + index * (0.31 + 0.2 * float(length))) % 1.0
            x0, y0 = int(float(x) * width), int(fall * height * 1.2) - int(0.1 * height)
            reach = int((0.03 + 0.05 * float(length)) * height)
            cv2.line(layer, (x0, y0), (x0 - reach // 6, y0 + reach), (60, 58, 56), 1, cv2.LINE_AA)
        cv2.add(picture, layer, dst=picture)


def _tone(weather: Weather) -> U8:
    """Exposure and white balance as a table [256, 1, 3]: a gentle S over a gain for each channel."""
    x = np.arange(256, dtype=np.float32) / 255
    gains = np.array((1 - 0.07 * weather.warmth, 1.0, 1 + 0.07 * weather.warmth), np.float32) * weather.brightness
    value = np.clip(x[:, None] * gains[None, :], 0, 1.2)
    curve = value + 0.06 * np.sin(2 * np.pi * (value - 0.5)) * (1 - weather.cloud)
    return (255 * np.clip(curve, 0, 1)).astype(np.uint8).reshape(256, 1, 3)
