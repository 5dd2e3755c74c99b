"""Road, pavement, lane marks, crossings and side streets, with a surface that moves with the camera."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from edgeseg.core.types import F32, U8
from edgeseg.data.street.camera import NEAR_M, Camera, World
from edgeseg.data.street.canvas import BGR, Canvas
from edgeseg.data.street.ids import PAVEMENT, ROAD
from edgeseg.data.street.weather import Weather

KERB_M = 4.7
"""Half the width of the road: two lanes and room to park."""
WALL_M = 9.0
"""Where plots begin."""
FAR_M = 170.0
"""Ground beyond this is hidden by the skyline."""

_DASH_M, _DASH_PERIOD_M = 2.2, 6.0
_TILE = 512
_TILE_PX_PER_M = 48.0
_CONTRAST = 11.0


@dataclass(frozen=True, slots=True)
class Crossing:
    """A zebra crossing from kerb to kerb, 3.4 m deep, at `s_m`."""

    s_m: float

    def draw(self, canvas: Canvas, camera: Camera, weather: Weather) -> None:
        """Draw the stripes."""
        white = weather.haze(self.s_m - camera.s_m).colour((205, 210, 210))
        for index in range(10):
            u = -KERB_M + 0.2 + index * 0.93
            _quad(canvas, camera, (self.s_m, self.s_m + 3.4), (u, u + 0.47), white, ROAD)


@dataclass(frozen=True, slots=True)
class SideStreet:
    """A road that crosses at `s_m`, 7.5 m wide."""

    s_m: float
    width_m: float = 7.5

    def draw(self, canvas: Canvas, camera: Camera, weather: Weather) -> None:
        """Draw its surface over the pavement, and the line where it gives way."""
        haze = weather.haze(self.s_m - camera.s_m)
        span = (self.s_m, self.s_m + self.width_m)
        for side in (-1, 1):
            _quad(canvas, camera, span, (side * (KERB_M - 0.1), side * 60.0), haze.colour(_asphalt(weather)), ROAD)
            for index in range(5):
                s = self.s_m + 0.6 + index * 1.4
                _quad(
                    canvas, camera, (s, s + 0.8), (side * KERB_M, side * (KERB_M + 0.3)), haze.colour((215,) * 3), ROAD
                )


class Ground:
    """Draws all that lies flat.

    Args:
        rng: Seeds the grain of the surface.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._fine = _grain(rng, pitch_px=2, patches=3.5)
        self._coarse = _grain(rng, pitch_px=16, patches=5.0)

    def draw(self, canvas: Canvas, camera: Camera, weather: Weather, flats: Iterable[Crossing | SideStreet]) -> None:
        """Fill everything below the horizon."""
        top = max(int(camera.horizon_px) + 1, 0)
        if top >= camera.size[0]:
            return
        canvas.pixels[top:] = (*_paving(weather), PAVEMENT)
        depths = [NEAR_M * 1.3**step for step in range(19)]
        stations = [camera.s_m + z for z in depths if z < FAR_M] + [camera.s_m + FAR_M]
        _ribbon(canvas, camera, stations, (-KERB_M - 0.28, KERB_M + 0.28), (166, 176, 182), PAVEMENT)
        _ribbon(canvas, camera, stations, (-KERB_M, KERB_M), _asphalt(weather), ROAD)
        _ribbon(canvas, camera, stations, (-KERB_M, -KERB_M + 0.25), (72, 76, 80), ROAD)
        _ribbon(canvas, camera, stations, (KERB_M - 0.25, KERB_M), (72, 76, 80), ROAD)
        self._marks(canvas, camera, stations)
        self._slabs(canvas, camera)
        for flat in sorted(flats, key=lambda flat: -flat.s_m):
            flat.draw(canvas, camera, weather)
        self._shadows(canvas, camera, weather)
        self._surface(canvas, camera, top)
        self._air(canvas, camera, weather, top)

    def _marks(self, canvas: Canvas, camera: Camera, stations: list[float]) -> None:
        for side in (-1, 1):
            line = side * (KERB_M - 0.55)
            _ribbon(canvas, camera, stations, (line - 0.06, line + 0.06), (70, 170, 190), ROAD)
        first = int(camera.s_m // _DASH_PERIOD_M)
        for index in range(first, first + 14):
            s = index * _DASH_PERIOD_M
            _quad(canvas, camera, (s, s + _DASH_M), (-0.09, 0.09), (196, 202, 202), ROAD)

    def _slabs(self, canvas: Canvas, camera: Camera) -> None:
        joint = (116, 132, 144)
        first = int(camera.s_m // 1.5)
        for index in range(first, first + 16):
            for side in (-1, 1):
                edges = (side * (KERB_M + 0.3), side * WALL_M)
                _quad(canvas, camera, (index * 1.5, index * 1.5 + 0.05), edges, joint, PAVEMENT)

    def _shadows(self, canvas: Canvas, camera: Camera, weather: Weather) -> None:
        """Houses on the sunny side throw a shadow over the road, with a ragged edge."""
        strength = 0.5 * weather.sun * min(abs(weather.sun_side) * 1.5, 1.0)
        if strength < 0.06:
            return
        side = 1 if weather.sun_side > 0 else -1
        mask = np.zeros(camera.size, np.uint8)
        edge: list[World] = []
        start = int(camera.s_m // 9) - 1
        for index in range(start, start + 18):
            reach = side * (0.6 + 3.6 * ((index * 2654435761 >> 7) % 97) / 97)
            edge += [(index * 9.0, reach, 0.0), (index * 9.0 + 9.0, reach, 0.0)]
        outer: list[World] = [(edge[-1][0], side * 40.0, 0.0), (edge[0][0], side * 40.0, 0.0)]
        points = camera.polygon(edge + outer)
        if len(points) < 3:
            return
        cv2.fillPoly(mask, [np.array(points, np.float64).clip(-20_000, 20_000).astype(np.int32)], 255)
        mask[: int(camera.horizon_px) + 1] = 0
        keep = 1 - strength
        dark = cv2.transform(canvas.pixels, np.diag((keep * 1.06, keep, keep * 0.96, 1)).astype(np.float32))
        cv2.copyTo(np.asarray(dark, np.uint8), mask, canvas.pixels)

    def _surface(self, canvas: Canvas, camera: Camera, top: int) -> None:
        rows = np.arange(top, camera.size[0], dtype=np.float32)
        depth = camera.focal_px * camera.height_m / np.maximum(rows - camera.horizon_px, 0.5)
        bends = np.array([camera.bend(camera.s_m + float(z)) if z < FAR_M else 0.0 for z in depth], np.float32)
        columns = np.arange(camera.size[1], dtype=np.float32) - camera.size[1] / 2
        along = ((camera.s_m + depth) * _TILE_PX_PER_M) % _TILE
        across = (
            columns[None, :] * (depth / camera.focal_px)[:, None] + (camera.u_m - bends)[:, None]
        ) * _TILE_PX_PER_M
        split = int(np.searchsorted(-depth, -9.0))
        for tile, start, stop in ((self._coarse, 0, split), (self._fine, split, len(rows))):
            if stop - start < 1:
                continue
            rows_map = np.repeat(along[start:stop, None], camera.size[1], axis=1)
            grain = cv2.remap(
                tile, np.mod(across[start:stop], _TILE), rows_map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
            )
            region = canvas.pixels[top + start : top + stop]
            offset = np.zeros_like(region)
            offset[:, :, :3] = grain[:, :, None]
            lifted = cv2.add(region, offset)
            offset[:, :, :3] = 128
            region[:] = cv2.subtract(lifted, offset)

    def _air(self, canvas: Canvas, camera: Camera, weather: Weather, top: int) -> None:
        for start in range(top, min(top + 96, camera.size[0]), 8):
            depth = camera.focal_px * camera.height_m / (start + 4 - camera.horizon_px)
            band = canvas.pixels[start : start + 8]
            band[:] = weather.haze(min(depth, FAR_M)).picture(band)


def _asphalt(weather: Weather) -> BGR:
    wet = 1 - 0.25 * weather.rain
    return 86 * wet, 82 * wet, 78 * wet


def _paving(weather: Weather) -> BGR:
    wet = 1 - 0.15 * weather.rain
    return 140 * wet, 158 * wet, 172 * wet


def _quad(
    canvas: Canvas, camera: Camera, s_span: tuple[float, float], u_span: tuple[float, float], colour: BGR, class_id: int
) -> None:
    (s0, s1), (u0, u1) = s_span, u_span
    if s1 <= camera.s_m + NEAR_M or s0 > camera.s_m + 90:
        return
    canvas.polygon(camera.polygon([(s0, u0, 0.0), (s0, u1, 0.0), (s1, u1, 0.0), (s1, u0, 0.0)]), colour, class_id)


def _ribbon(
    canvas: Canvas, camera: Camera, stations: list[float], u_span: tuple[float, float], colour: BGR, class_id: int
) -> None:
    left = [camera.point(s, u_span[0], 0.0) for s in stations]
    right = [camera.point(s, u_span[1], 0.0) for s in reversed(stations)]
    canvas.polygon(left + right, colour, class_id, convex=False)


def _grain(rng: np.random.Generator, *, pitch_px: int, patches: float) -> U8:
    """A tile [512, 512] around 128 that repeats without a seam: grain, and patches of a metre or two."""
    fine, broad = _waves(rng, pitch_px), _waves(rng, 32)
    field = _CONTRAST * 0.5 * fine / fine.std() + patches * broad / broad.std()
    return np.asarray((128 + field).clip(0, 255), np.uint8)


def _waves(rng: np.random.Generator, pitch_px: int) -> F32:
    """Smooth noise [512, 512] that repeats without a seam, one random value every `pitch_px`."""
    cells = _TILE // pitch_px
    noise = np.pad(rng.standard_normal((cells, cells)).astype(np.float32), 2, mode="wrap")
    side = noise.shape[0] * pitch_px
    wide = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(wide[2 * pitch_px : 2 * pitch_px + _TILE, 2 * pitch_px : 2 * pitch_px + _TILE], np.float32)
