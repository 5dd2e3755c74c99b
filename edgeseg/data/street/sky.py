"""Sky, clouds, and the skyline that closes the street."""

from __future__ import annotations

import math

import cv2
import numpy as np

from edgeseg.core.types import F32
from edgeseg.data.street.camera import Camera
from edgeseg.data.street.canvas import Canvas
from edgeseg.data.street.ids import BUILDING, SKY, TREE
from edgeseg.data.street.weather import Weather

_SKYLINE_M = 165.0


class Sky:
    """Draws everything above the horizon that is far away.

    Args:
        rng: Shapes the clouds and the skyline.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._clouds = _clouds(rng)
        self._roofs = [(float(rng.uniform(4, 15)), bool(rng.random() < 0.55), float(rng.random())) for _ in range(128)]

    def draw(self, canvas: Canvas, camera: Camera, weather: Weather) -> None:
        """Fill everything above the horizon."""
        rows = min(max(int(camera.horizon_px) + 2, 1), camera.size[0])
        top, low = (np.array(colour, np.float32) for colour in (weather.sky_top, weather.sky_low))
        small = (max(rows // 2, 1), max(camera.size[1] // 2, 1))
        t = (np.linspace(0, 1, small[0], dtype=np.float32) ** 1.4)[:, None, None]
        heading_px = int(camera.slope * 400 + camera.s_m * 0.15) % self._clouds.shape[1]
        tile = np.roll(self._clouds, -heading_px, axis=1)[:, : self._clouds.shape[1] // 2]
        cover = cv2.resize(tile, small[::-1], interpolation=cv2.INTER_LINEAR)[:, :, None]
        lift = np.clip((cover - (0.75 - 0.6 * weather.cloud)) * 2.2, 0, 1) * (0.75 - 0.35 * weather.dusk)
        white = 236.0 - 40 * weather.cloud * (1 - cover)
        picture = ((top + (low - top) * t) * (1 - lift) + white * lift).clip(0, 255).astype(np.uint8)
        canvas.pixels[:rows, :, :3] = cv2.resize(picture, (camera.size[1], rows), interpolation=cv2.INTER_LINEAR)
        canvas.pixels[:rows, :, 3] = SKY
        self._skyline(canvas, camera, weather)

    def _skyline(self, canvas: Canvas, camera: Camera, weather: Weather) -> None:
        haze = weather.haze(_SKYLINE_M)
        k = camera.focal_px / _SKYLINE_M
        shift = camera.bend(camera.s_m + _SKYLINE_M) * k
        base = camera.horizon_px + 0.012 * camera.size[0]
        pitch = 9.0 * k
        first = math.floor((-camera.size[1] / 2 - shift) / pitch) - 1
        count = int(camera.size[1] / pitch) + 3
        for index in range(first, first + count):
            height_m, tree, tone = self._roofs[(index + int(camera.s_m // 400) * 31) % len(self._roofs)]
            x = camera.size[1] / 2 + shift + index * pitch
            if tree:
                radius_px = 0.5 * k * (5 + height_m * 0.35)
                crown = [
                    (x + pitch * (0.5 + 0.75 * math.cos(a)), base - radius_px * (1 + math.sin(a)))
                    for a in (math.tau * i / 10 for i in range(10))
                ]
                colour = haze.colour((48 + 20 * tone, 84 + 30 * tone, 72 + 25 * tone))
                canvas.polygon(crown, colour, TREE)
                canvas.box(x - pitch * 0.2, base - radius_px, pitch * 1.4, radius_px, colour, TREE)
            else:
                colour = haze.colour((96 + 50 * tone, 104 + 45 * tone, 116 + 40 * tone))
                canvas.box(x, base - height_m * k, pitch + 1, height_m * k, colour, BUILDING)


def _clouds(rng: np.random.Generator) -> F32:
    """Clouds [192, 1024] from 0 to 1, a sum of octaves, drawn out sideways; the ends join."""
    field = np.zeros((192, 1024), np.float32)
    for octave, (rows, columns) in enumerate(((4, 8), (8, 20), (18, 48), (40, 120))):
        noise = rng.random((rows, columns)).astype(np.float32)
        noise = np.concatenate([noise, noise[:, :1]], axis=1)
        field += cv2.resize(noise, (1024, 192), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    field -= field.min()
    return np.asarray(field / field.max(), np.float32)
