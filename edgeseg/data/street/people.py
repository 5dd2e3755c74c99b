"""People on foot and on bicycles: cut-outs with a few phases of movement."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import cv2
import numpy as np

from edgeseg.core.types import U8
from edgeseg.data.street.camera import Camera
from edgeseg.data.street.canvas import BGR, EMPTY, Canvas, Sprite, shaded
from edgeseg.data.street.ids import BICYCLIST, PEDESTRIAN
from edgeseg.data.street.weather import Weather

PHASES = 6
_SEEN_M = 45.0

_CLOTHES: tuple[BGR, ...] = (
    (40, 36, 34),
    (70, 44, 30),
    (30, 30, 150),
    (140, 90, 40),
    (200, 200, 200),
    (60, 110, 60),
    (40, 140, 210),
    (110, 60, 130),
    (90, 96, 100),
    (30, 60, 110),
    (180, 150, 60),
    (50, 50, 70),
)
_TROUSERS: tuple[BGR, ...] = ((60, 44, 36), (36, 34, 32), (96, 72, 50), (70, 80, 92), (120, 120, 116))
_SKIN: tuple[BGR, ...] = ((150, 180, 224), (110, 145, 195), (64, 92, 140), (140, 165, 210))
_HAIR: tuple[BGR, ...] = ((24, 26, 30), (36, 54, 78), (70, 120, 160), (120, 122, 124))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Someone at one moment.

    Attributes:
        s_m: Where they are.
        u_m: Distance to the right of the centre line.
        height_m: Height, with the bicycle where there is one.
        sprite: Their look in this phase of the movement.
    """

    s_m: float
    u_m: float
    height_m: float
    sprite: Sprite

    @property
    def order_m(self) -> float:
        """Painter's key."""
        return self.s_m

    def draw(self, canvas: Canvas, camera: Camera, weather: Weather) -> None:
        """Draw them, facing the camera."""
        depth = self.s_m - camera.s_m
        if not 2.2 < depth < _SEEN_M:
            return
        k = camera.scale(self.s_m)
        foot = camera.point(self.s_m, self.u_m, 0.0)
        canvas.sprite(self.sprite, foot, k * self.height_m, weather.haze(depth))


def make_walker(rng: random.Random) -> tuple[Sprite, ...]:
    """A person on foot in `PHASES` phases of a step, each 192 pixels high."""
    coat, trousers = rng.choice(_CLOTHES), rng.choice(_TROUSERS)
    skin, hair = rng.choice(_SKIN), rng.choice(_HAIR)
    bag = rng.random() < 0.35
    long_coat = rng.random() < 0.3
    turns = [math.tau * i / PHASES for i in range(PHASES)]
    return tuple(Sprite(_walker(turn, coat, trousers, skin, hair, bag=bag, long_coat=long_coat)) for turn in turns)


def make_rider(rng: random.Random) -> tuple[Sprite, ...]:
    """A person on a bicycle seen along the road in `PHASES` phases of a turn of the cranks, each 192 pixels high."""
    bright: tuple[BGR, ...] = ((40, 220, 220), (50, 140, 245), (60, 60, 220), (190, 110, 40))
    coat = rng.choice(bright) if rng.random() < 0.6 else rng.choice(_CLOTHES)
    trousers, skin = rng.choice(_TROUSERS), rng.choice(_SKIN)
    helmet: BGR = rng.choice(((230, 230, 230), (40, 40, 200), (30, 30, 34), (200, 120, 40)))
    frame = rng.choice(_CLOTHES)
    turns = [math.tau * i / PHASES for i in range(PHASES)]
    return tuple(Sprite(_rider(turn, coat, trousers, skin, helmet, frame)) for turn in turns)


class _Pen:
    """Draws one class into a sprite."""

    def __init__(self, width: int, height: int, class_id: int, ground: BGR) -> None:
        self.sprite: U8 = np.zeros((height, width, 4), np.uint8)
        self.sprite[:, :, :3] = ground
        self.sprite[:, :, 3] = EMPTY
        self._class_id = class_id

    def limb(self, start: tuple[float, float], end: tuple[float, float], thickness: int, colour: BGR) -> None:
        cv2.line(self.sprite, _at(start), _at(end), (*colour, self._class_id), thickness)

    def oval(self, centre: tuple[float, float], radii: tuple[float, float], colour: BGR, thickness: int = -1) -> None:
        cv2.ellipse(self.sprite, _at(centre), _at(radii), 0, 0, 360, (*colour, self._class_id), thickness)

    def patch(self, points: list[tuple[float, float]], colour: BGR) -> None:
        cv2.fillPoly(self.sprite, [np.array(points, np.int32)], (*colour, self._class_id))


def _at(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0]), round(point[1])


def _walker(phase: float, coat: BGR, trousers: BGR, skin: BGR, hair: BGR, *, bag: bool, long_coat: bool) -> U8:
    pen = _Pen(88, 192, PEDESTRIAN, coat)
    step, dark = math.sin(phase), shaded(trousers, 0.75)
    hip, middle = 98, 44
    for side, colour in ((-1, dark), (1, trousers)):
        foot = (middle + side * 8 + 13 * side * step, 184 - 5 * max(side * math.cos(phase), 0))
        pen.limb((middle + side * 7, hip), foot, 15, colour)
        pen.limb(foot, (foot[0] + 5, foot[1] + 1), 10, (28, 28, 30))
    hem = 128 if long_coat else 104
    pen.patch([(middle - 19, 40), (middle + 19, 40), (middle + 17, hem), (middle - 17, hem)], coat)
    pen.patch([(middle + 4, 40), (middle + 19, 40), (middle + 17, hem), (middle + 6, hem)], shaded(coat, 1.2))
    for side in (-1, 1):
        hand = (middle + side * 24 - 9 * side * step, 98)
        pen.limb((middle + side * 20, 48), hand, 10, shaded(coat, 0.85))
        pen.oval(hand, (5, 5), skin)
    if bag:
        pen.patch([(middle + 18, 92), (middle + 36, 92), (middle + 34, 122), (middle + 20, 122)], (40, 50, 80))
    pen.oval((middle, 22), (12, 15), skin)
    pen.oval((middle, 15), (13, 11), hair)
    return pen.sprite


def _rider(phase: float, coat: BGR, trousers: BGR, skin: BGR, helmet: BGR, frame: BGR) -> U8:
    pen = _Pen(104, 192, BICYCLIST, coat)
    middle = 52
    pen.oval((middle, 152), (8, 38), (26, 26, 28))
    pen.oval((middle, 152), (3, 30), (90, 92, 94))
    pen.limb((middle, 92), (middle, 140), 6, frame)
    for side, colour in ((-1, shaded(trousers, 0.8)), (1, trousers)):
        lift = 16 * math.sin(phase + (0 if side > 0 else math.pi))
        knee, foot = (middle + side * 19, 116 - lift), (middle + side * 15, 158 - lift)
        pen.limb((middle + side * 10, 90), knee, 15, colour)
        pen.limb(knee, foot, 13, colour)
        pen.limb((foot[0] - 4, foot[1]), (foot[0] + 4, foot[1]), 9, (26, 26, 28))
    pen.limb((middle - 34, 84), (middle + 34, 84), 6, (30, 30, 32))
    pen.patch([(middle - 22, 36), (middle + 22, 36), (middle + 16, 98), (middle - 16, 98)], coat)
    pen.patch([(middle - 22, 58), (middle + 22, 58), (middle + 21, 66), (middle - 21, 66)], shaded(coat, 1.35))
    for side in (-1, 1):
        pen.limb((middle + side * 21, 42), (middle + side * 32, 80), 11, shaded(coat, 0.85))
        pen.oval((middle + side * 33, 82), (5, 5), skin)
    pen.oval((middle, 20), (12, 14), skin)
    pen.oval((middle, 14), (15, 12), helmet)
    return pen.sprite
