"""Cars, vans and buses: a side profile drawn out to a width, seen from behind or from ahead."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass

from edgeseg.data.street.camera import Camera, World
from edgeseg.data.street.canvas import BGR, Canvas, Haze, shaded
from edgeseg.data.street.ids import CAR, ROAD
from edgeseg.data.street.weather import Weather

_GLASS: BGR = (84, 72, 62)
_TYRE: BGR = (26, 26, 28)
_SEEN_M = 130.0

PAINTS: tuple[BGR, ...] = (
    (52, 50, 48),
    (128, 130, 130),
    (196, 198, 198),
    (226, 228, 228),
    (44, 40, 150),
    (140, 76, 34),
    (90, 60, 40),
    (60, 92, 50),
    (30, 110, 190),
    (60, 180, 215),
    (150, 120, 60),
    (70, 64, 100),
)


@dataclass(frozen=True, slots=True)
class Body:
    """The shape of a kind of vehicle.

    Attributes:
        length_m: Length.
        width_m: Width.
        profile: (distance from the rear, height, glass) corners from the rear bumper over the roof to the front; the
            flag says that the face from this corner to the next is a window.
        side_glass: Windows on the side, as (from, to) shares of the length at (bottom, top) heights.
        wheels: Positions of the axles from the rear.
        wheel_m: Radius of a wheel.
    """

    length_m: float
    width_m: float
    profile: tuple[tuple[float, float, bool], ...]
    side_glass: tuple[tuple[tuple[float, float], ...], ...]
    wheels: tuple[float, float]
    wheel_m: float = 0.33


CAR_BODY = Body(
    4.2,
    1.78,
    (
        (0.0, 0.3, False),
        (0.0, 0.88, False),
        (0.22, 0.98, True),
        (0.75, 1.44, False),
        (2.2, 1.46, True),
        (3.05, 0.98, False),
        (4.12, 0.8, False),
        (4.2, 0.3, False),
    ),
    (((0.5, 0.98), (0.9, 1.34), (1.5, 1.36), (1.5, 0.98)), ((1.6, 0.98), (1.6, 1.36), (2.15, 1.36), (2.75, 0.98))),
    (0.8, 3.35),
)
ESTATE_BODY = Body(
    4.5,
    1.85,
    (
        (0.0, 0.32, False),
        (0.0, 0.95, True),
        (0.25, 1.62, False),
        (2.7, 1.66, True),
        (3.4, 1.08, False),
        (4.4, 0.95, False),
        (4.5, 0.35, False),
    ),
    (((0.35, 1.05), (0.5, 1.5), (1.5, 1.54), (1.5, 1.05)), ((1.6, 1.05), (1.6, 1.54), (2.6, 1.54), (3.1, 1.05))),
    (0.85, 3.6),
    0.36,
)
VAN_BODY = Body(
    5.2,
    2.0,
    (
        (0.0, 0.35, False),
        (0.0, 1.2, True),
        (0.05, 2.2, False),
        (3.6, 2.25, True),
        (4.4, 1.3, False),
        (5.1, 1.05, False),
        (5.2, 0.35, False),
    ),
    (((3.0, 1.25), (3.0, 1.95), (3.6, 1.95), (4.1, 1.25)),),
    (0.9, 4.1),
    0.36,
)
BUS_BODY = Body(
    9.5,
    2.5,
    (
        (0.0, 0.4, False),
        (0.0, 1.5, True),
        (0.05, 2.6, False),
        (0.1, 3.1, False),
        (9.4, 3.1, True),
        (9.5, 1.2, False),
        (9.5, 0.4, False),
    ),
    tuple(((x, 1.4), (x, 2.5), (x + 1.3, 2.5), (x + 1.3, 1.4)) for x in (0.4, 1.9, 3.4, 4.9, 6.4, 7.9)),
    (2.2, 7.4),
    0.46,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vehicle:
    """A vehicle at one moment.

    Attributes:
        s_m: Its end nearer to the camera.
        u_m: Its middle, to the right of the centre line.
        oncoming: Whether it shows its front.
        body: Its shape.
        paint: Its colour.
        braking: Whether its brake lights are on.
    """

    s_m: float
    u_m: float
    oncoming: bool
    body: Body
    paint: BGR
    braking: bool = False

    @property
    def order_m(self) -> float:
        """Painter's key: a vehicle is drawn when its near end is due."""
        return self.s_m

    def draw(self, canvas: Canvas, camera: Camera, weather: Weather) -> None:
        """Draw shadow, wheels, the faces across from far to near, the side, and the lights."""
        depth = self.s_m - camera.s_m
        if depth > _SEEN_M or depth + self.body.length_m < 1.6:
            return
        haze, half = weather.haze(max(depth, 1.0)), 0.5 * self.body.width_m
        right_side = self.u_m + camera.bend(self.s_m) < camera.u_m
        flank = self.u_m + (half if right_side else -half)
        self._shadow(canvas, camera, haze, half)
        lit = weather.facing(-1 if right_side else 1)
        corners = [(self._along(x), h, glass) for x, h, glass in self.body.profile]
        faces = [((a[0], a[1]), (b[0], b[1]), a[2]) for a, b in itertools.pairwise(corners)]
        for start, end, glass in sorted(faces, key=lambda face: -(face[0][0] + face[1][0])):
            across: list[World] = [
                (start[0], self.u_m - half, start[1]),
                (start[0], self.u_m + half, start[1]),
                (end[0], self.u_m + half, end[1]),
                (end[0], self.u_m - half, end[1]),
            ]
            rise = abs(end[1] - start[1]) / (abs(end[0] - start[0]) + abs(end[1] - start[1]) + 1e-6)
            colour = _GLASS if glass else self.paint
            canvas.polygon(camera.polygon(across), haze.colour(colour, 1.15 - 0.3 * rise), CAR)
        outline: list[World] = [(s, flank, h) for s, h, _ in corners]
        canvas.polygon(camera.polygon(outline), haze.colour(self.paint, 0.82 * lit), CAR, convex=False)
        for window in self.body.side_glass:
            canvas.polygon(
                camera.polygon([(self._along(x), flank, h) for x, h in window]), haze.colour(_GLASS, 0.9), CAR
            )
        self._wheels(canvas, camera, haze, flank)
        if depth > 1.6:
            self._near_end(canvas, camera, haze, half, weather.dusk)

    def _along(self, x_m: float) -> float:
        return self.s_m + (self.body.length_m - x_m if self.oncoming else x_m)

    def _shadow(self, canvas: Canvas, camera: Camera, haze: Haze, half: float) -> None:
        reach: list[World] = [
            (self.s_m - 0.15, self.u_m - half - 0.1, 0.0),
            (self.s_m - 0.15, self.u_m + half + 0.1, 0.0),
            (self.s_m + self.body.length_m, self.u_m + half + 0.1, 0.0),
            (self.s_m + self.body.length_m, self.u_m - half - 0.1, 0.0),
        ]
        canvas.polygon(camera.polygon(reach), haze.colour((38, 38, 40)), ROAD)

    def _wheels(self, canvas: Canvas, camera: Camera, haze: Haze, flank: float) -> None:
        for axle in self.body.wheels:
            s = self._along(axle)
            for radius, colour in ((self.body.wheel_m, _TYRE), (0.6 * self.body.wheel_m, (130, 132, 134))):
                rim: list[World] = [
                    (s + radius * math.cos(a), flank, self.body.wheel_m + radius * math.sin(a))
                    for a in (math.tau * i / 12 for i in range(12))
                ]
                canvas.polygon(camera.polygon(rim), haze.colour(colour), CAR)

    def _near_end(self, canvas: Canvas, camera: Camera, haze: Haze, half: float, dusk: float) -> None:
        """Tyres, bumper, plate and lights of the end that faces the camera."""
        s, height = self.s_m, max(h for _, h, _ in self.body.profile)

        def plate(u0: float, u1: float, h0: float, h1: float, colour: BGR) -> None:
            face: list[World] = [
                (s, self.u_m + u0, h0),
                (s, self.u_m + u1, h0),
                (s, self.u_m + u1, h1),
                (s, self.u_m + u0, h1),
            ]
            canvas.polygon(camera.polygon(face), haze.colour(colour), CAR)

        for side in (-1, 1):
            plate(side * half, side * (half - 0.24), 0.0, 0.34, _TYRE)
        plate(-half, half, 0.28, 0.46, shaded(self.paint, 0.6))
        plate(-0.27, 0.27, 0.48, 0.6, (235, 236, 236) if self.oncoming else (70, 205, 230))
        lamp: BGR = (200 + 55 * dusk,) * 3 if self.oncoming else ((30, 30, 245) if self.braking else (36, 36, 175))
        low = 0.62 if height < 2 else 0.8
        for side in (-1, 1):
            plate(side * (half - 0.05), side * (half - 0.38), low, low + (0.17 if self.oncoming else 0.24), lamp)
        if self.oncoming:
            plate(-0.45, 0.45, 0.62, 0.76, (40, 40, 42))


def choose_body(rng: random.Random) -> Body:
    """A kind of vehicle, as often as streets have it."""
    draw = rng.random()
    return CAR_BODY if draw < 0.5 else ESTATE_BODY if draw < 0.78 else VAN_BODY if draw < 0.95 else BUS_BODY
