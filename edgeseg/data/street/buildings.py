"""Houses: a textured front along the street, an end wall towards the camera, a roof."""

from __future__ import annotations

import random
from dataclasses import dataclass

import cv2
import numpy as np

from edgeseg.core.types import U8
from edgeseg.data.street.camera import Camera, World
from edgeseg.data.street.canvas import BGR, Canvas, Mipmap, shaded
from edgeseg.data.street.ids import BUILDING
from edgeseg.data.street.weather import Weather

_PX_PER_M = 18
_CUT_M = 3.5

WALLS: tuple[BGR, ...] = (
    (66, 84, 140),
    (80, 104, 158),
    (62, 76, 116),
    (132, 168, 192),
    (168, 190, 204),
    (186, 198, 206),
    (150, 158, 164),
    (118, 128, 138),
    (120, 148, 176),
    (96, 120, 150),
    (176, 168, 158),
    (140, 176, 186),
)
_ROOFS: tuple[BGR, ...] = ((62, 66, 78), (58, 70, 112), (84, 82, 80), (50, 52, 60))


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """One house on one side of the road.

    Attributes:
        s_m: Where its front begins.
        width_m: Length of the front.
        height_m: Height of the eaves.
        depth_m: How far it reaches back.
        side: -1 left, 1 right.
        wall_m: Distance of the front from the centre line.
        roof_m: Height of the roof above the eaves; 0 where it is flat.
        front: Texture of the front, day and dusk.
        wall: Colour of the end wall.
        roof: Colour of the roof.
    """

    s_m: float
    width_m: float
    height_m: float
    depth_m: float
    side: int
    wall_m: float
    roof_m: float
    front: tuple[Mipmap, Mipmap]
    wall: BGR
    roof: BGR

    @property
    def order_m(self) -> float:
        """Painter's key: houses stand behind all that is within their length."""
        return self.s_m + self.width_m

    def draw(self, canvas: Canvas, camera: Camera, weather: Weather) -> None:
        """Draw roof, end wall and front."""
        start = max(self.s_m, camera.s_m + _CUT_M)
        end = self.s_m + self.width_m
        if end <= start + 0.2:
            return
        haze = weather.haze(start - camera.s_m)
        u, back = self.side * self.wall_m, self.side * (self.wall_m + self.depth_m)
        if self.roof_m > 0:
            ridge, top = self.side * (self.wall_m + 0.5 * self.depth_m), self.height_m + self.roof_m
            eaves: list[World] = [
                (start, u, self.height_m),
                (end, u, self.height_m),
                (end, ridge, top),
                (start, ridge, top),
            ]
            canvas.polygon(camera.polygon(eaves), haze.colour(self.roof, weather.facing(self.side)), BUILDING)
        if self.s_m >= start:
            gable: list[World] = [(self.s_m, u, 0.0), (self.s_m, u, self.height_m)]
            if self.roof_m > 0:
                gable.append((self.s_m, self.side * (self.wall_m + 0.5 * self.depth_m), self.height_m + self.roof_m))
            gable += [(self.s_m, back, self.height_m), (self.s_m, back, 0.0)]
            canvas.polygon(camera.polygon(gable), haze.colour(self.wall, 0.78), BUILDING)
        span = ((start - self.s_m) / self.width_m, 1.0)
        quad = [camera.point(s, u, h) for s, h in ((start, self.height_m), (end, self.height_m), (end, 0), (start, 0))]
        canvas.texture(
            self.front[weather.dusk > 0.5],
            quad,
            span,
            weather.haze(0.5 * (start + end) - camera.s_m),
            weather.facing(self.side),
        )


def make_building(
    rng: random.Random, *, s_m: float, width_m: float, side: int, wall_m: float, storeys: int
) -> Building:
    """A house of its own style, `width_m` along the street."""
    storey_m = rng.uniform(2.9, 3.4)
    height_m = storeys * storey_m + 0.5
    wall = rng.choice(WALLS)
    shop = rng.random() < 0.35
    office = storeys >= 4 and rng.random() < 0.5
    day = _front(random.Random(rng.random()), width_m, height_m, storeys, wall, shop=shop, office=office)
    pitched = not office and rng.random() < 0.65
    return Building(
        s_m=s_m,
        width_m=width_m,
        height_m=height_m,
        depth_m=rng.uniform(8, 11),
        side=side,
        wall_m=wall_m,
        roof_m=rng.uniform(1.6, 3.0) if pitched else 0.0,
        front=(Mipmap(day), Mipmap(_lit(day, rng))),
        wall=wall,
        roof=rng.choice(_ROOFS),
    )


def _front(
    rng: random.Random, width_m: float, height_m: float, storeys: int, wall: BGR, *, shop: bool, office: bool
) -> U8:
    """The front of a house as uint8 [h, w, 4]."""
    height, width = round(height_m * _PX_PER_M), round(width_m * _PX_PER_M)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 1, (height // 3 + 1, width // 6 + 1, 1))
    grain = cv2.resize(noise.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
    texture = np.empty((height, width, 4), np.uint8)
    texture[:, :, :3] = (np.array(wall) + 6 * grain[:, :, None]).clip(0, 255)
    texture[:, :, 3] = BUILDING
    if rng.random() < 0.5:
        texture[::4, :, :3] = (texture[::4, :, :3] * 0.93).astype(np.uint8)  # courses of brick
    storey = height / (storeys + 0.15)
    bays = max(round(width_m / rng.uniform(1.7, 2.6)), 2)
    for floor in range(storeys):
        bottom = height - floor * storey
        if floor == 0 and shop:
            _shop(texture, rng, bottom, storey)
            continue
        if office:
            _band(texture, rng, bottom, storey)
            continue
        _windows(texture, rng, bottom, storey, bays, door=floor == 0)
    cv2.rectangle(texture, (0, 0), (width, 5), (*shaded(wall, 0.75), BUILDING), -1)  # cornice
    cv2.rectangle(texture, (0, 0), (2, height), (*shaded(wall, 0.8), BUILDING), -1)  # joint to the neighbour
    return texture


def _windows(texture: U8, rng: random.Random, bottom: float, storey: float, bays: int, *, door: bool) -> None:
    width = texture.shape[1] / bays
    tone = rng.uniform(0.8, 1.1)
    glass: BGR = (92 * tone, 80 * tone, 66 * tone)
    frame: BGR = rng.choice(((228, 230, 230), (222, 226, 228), (96, 104, 112), (60, 72, 90)))
    way_in = rng.randrange(bays) if door else -1
    for bay in range(bays):
        x0, x1 = int((bay + 0.24) * width), int((bay + 0.76) * width)
        y0, y1 = int(bottom - 0.78 * storey), int(bottom - 0.26 * storey)
        if bay == way_in:
            colour: BGR = rng.choice(((40, 40, 110), (90, 60, 40), (50, 80, 50), (40, 40, 44)))
            cv2.rectangle(texture, (x0, y0), (x1, int(bottom)), (*frame, BUILDING), -1)
            cv2.rectangle(texture, (x0 + 2, y0 + 6), (x1 - 2, int(bottom)), (*colour, BUILDING), -1)
            continue
        cv2.rectangle(texture, (x0 - 2, y0 - 2), (x1 + 2, y1 + 3), (*frame, BUILDING), -1)
        cv2.rectangle(texture, (x0, y0), (x1, y1), (*glass, BUILDING), -1)
        cv2.line(texture, (x0, y1 - 2), (x1, y0 + (y1 - y0) // 2), (*shaded(glass, 1.5), BUILDING), 2)
        cv2.line(texture, ((x0 + x1) // 2, y0), ((x0 + x1) // 2, y1), (*frame, BUILDING), 1)
        cv2.line(texture, (x0, (y0 + y1) // 2), (x1, (y0 + y1) // 2), (*frame, BUILDING), 1)


def _shop(texture: U8, rng: random.Random, bottom: float, storey: float) -> None:
    width = texture.shape[1]
    top = int(bottom - 0.95 * storey)
    board: BGR = (rng.uniform(30, 190), rng.uniform(30, 170), rng.uniform(40, 190))
    cv2.rectangle(texture, (0, top), (width, int(bottom)), (58, 62, 70, BUILDING), -1)
    cv2.rectangle(texture, (0, top), (width, top + int(0.2 * storey)), (*board, BUILDING), -1)
    for x in range(int(0.3 * width), int(0.7 * width), 7):
        y = top + int(0.1 * storey)
        cv2.rectangle(texture, (x, y - 3), (x + 4, y + 3), (225, 228, 230, BUILDING), -1)  # lettering
    panes = max(width // 44, 1)
    for pane in range(panes):
        x0, x1 = int((pane + 0.06) * width / panes), int((pane + 0.94) * width / panes)
        y0 = int(bottom - 0.7 * storey)
        cv2.rectangle(texture, (x0, y0), (x1, int(bottom - 0.08 * storey)), (104, 96, 84, BUILDING), -1)
        goods: BGR = (rng.uniform(60, 150), rng.uniform(60, 150), rng.uniform(60, 170))
        cv2.rectangle(
            texture, (x0 + 5, int(bottom - 0.4 * storey)), (x1 - 5, int(bottom - 0.1 * storey)), (*goods, BUILDING), -1
        )


def _band(texture: U8, rng: random.Random, bottom: float, storey: float) -> None:
    """A row of glass from end to end, as offices have it."""
    width, tone = texture.shape[1], rng.uniform(0.85, 1.15)
    y0, y1 = int(bottom - 0.8 * storey), int(bottom - 0.25 * storey)
    cv2.rectangle(texture, (3, y0), (width - 3, y1), (128 * tone, 108 * tone, 88 * tone, BUILDING), -1)
    for x in range(4, width, 24):
        cv2.line(texture, (x, y0), (x, y1), (70, 70, 70, BUILDING), 2)


def _lit(day: U8, rng: random.Random) -> U8:
    """The same front in the evening: some of its dark panes are lit."""
    lit: U8 = day.copy()
    cell = 26
    for y in range(0, day.shape[0] - cell, cell):
        for x in range(0, day.shape[1] - cell, cell):
            if rng.random() < 0.35:
                block = lit[y : y + cell, x : x + cell]
                glass = (block[:, :, :3].max(axis=2) < 135) & (block[:, :, 0] > block[:, :, 2])
                block[glass, :3] = (120, 200, 250)
    return lit
