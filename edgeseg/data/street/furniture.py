"""What stands on the pavement: lamps, signs, traffic lights, bollards, fences and trees."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import cv2
import numpy as np

from edgeseg.core.types import U8
from edgeseg.data.street.camera import Camera, Pixel
from edgeseg.data.street.canvas import BGR, EMPTY, Canvas, Mipmap, Sprite, shaded
from edgeseg.data.street.ids import FENCE, POLE, SIGN, TREE
from edgeseg.data.street.weather import Weather

_SEEN_M = 55.0
"""Beyond this a post is thinner than a pixel and is not drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A lamp, a bollard, or the post of a sign.

    Attributes:
        s_m: Where it stands.
        u_m: Distance to the right of the centre line.
        height_m: Its height.
        width_m: Its thickness at the foot.
        colour: Its paint.
        arm_m: Length of a lamp's arm towards the road; 0 for none.
    """

    s_m: float
    u_m: float
    height_m: float
    width_m: float = 0.2
    colour: BGR = (90, 94, 96)
    arm_m: float = 0.0

    @property
    def order_m(self) -> float:
        """Painter's key."""
        return self.s_m

    def draw(self, canvas: Canvas, camera: Camera, weather: Weather) -> None:
        """Draw the post with a lit and a shaded edge, and the arm with its lamp."""
        depth = self.s_m - camera.s_m
        if not 2.0 < depth < _SEEN_M:
            return
        haze, k = weather.haze(depth), camera.scale(self.s_m)
        x, foot = camera.point(self.s_m, self.u_m, 0.0)
        top, half = foot - k * self.height_m, max(0.5 * k * self.width_m, 0.8)
        canvas.polygon(
            [(x - half, foot), (x - 0.8 * half, top), (x + 0.8 * half, top), (x + half, foot)],
            haze.colour(self.colour),
            POLE,
        )
        if half > 1.5:
            canvas.polygon(
                [(x, foot), (x, top), (x + 0.5 * half, top), (x + 0.6 * half, foot)],
                haze.colour(self.colour, 1.35),
                POLE,
            )
        if self.arm_m > 0:
            reach = -math.copysign(k * self.arm_m, self.u_m)
            canvas.polygon(
                [
                    (x, top),
                    (x + reach, top - 0.25 * abs(reach)),
                    (x + reach, top - 0.25 * abs(reach) + half),
                    (x, top + 1.6 * half),
                ],
                haze.colour(self.colour),
                POLE,
            )
            lamp: BGR = (190, 235, 255) if weather.dusk > 0.4 else (150, 152, 150)
            canvas.box(
                x + reach - 0.3 * k, top - 0.25 * abs(reach) - 0.05 * k, 0.6 * k, 0.2 * k, haze.colour(lamp), POLE
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignPost:
    """A sign on a post.

    Attributes:
        s_m: Where it stands.
        u_m: Distance to the right of the centre line.
        kind: `stop`, `limit`, `order`, `warn`, `board` or `light`.
        size_m: Height of the plate.
        bottom_m: Height of the plate's lower edge.
        colour: Ground of a board.
    """

    s_m: float
    u_m: float
    kind: str
    size_m: float
    bottom_m: float
    colour: BGR = (130, 70, 20)

    @property
    def order_m(self) -> float:
        """Painter's key."""
        return self.s_m

    def draw(self, canvas: Canvas, camera: Camera, weather: Weather) -> None:
        """Draw post and plate."""
        depth = self.s_m - camera.s_m
        if not 2.0 < depth < _SEEN_M:
            return
        Post(s_m=self.s_m, u_m=self.u_m, height_m=self.bottom_m + 0.5 * self.size_m, width_m=0.2).draw(
            canvas, camera, weather
        )
        haze, k = weather.haze(depth), camera.scale(self.s_m)
        x, y = camera.point(self.s_m, self.u_m, self.bottom_m + 0.5 * self.size_m)
        radius = max(0.5 * k * self.size_m, 1.5)

        def shape(corners: int, r: float, turn: float, colour: BGR) -> None:
            points = [
                (x + r * math.sin(turn + math.tau * i / corners), y - r * math.cos(turn + math.tau * i / corners))
                for i in range(corners)
            ]
            canvas.polygon(points, haze.colour(colour), SIGN)

        def bar(left: float, top: float, width: float, height: float, colour: BGR) -> None:
            canvas.box(x + left * radius, y + top * radius, width * radius, height * radius, haze.colour(colour), SIGN)

        if self.kind == "stop":
            shape(8, radius, math.pi / 8, (40, 36, 200))
            bar(-0.6, -0.15, 1.2, 0.3, (230, 230, 230))
        elif self.kind == "limit":
            shape(14, radius, 0, (44, 40, 205))
            shape(14, 0.7 * radius, 0, (235, 236, 236))
            bar(-0.35, -0.3, 0.25, 0.6, (30, 30, 30))
            bar(0.1, -0.3, 0.25, 0.6, (30, 30, 30))
        elif self.kind == "order":
            shape(14, radius, 0, (190, 90, 20))
            shape(3, 0.55 * radius, 0, (235, 235, 235))
        elif self.kind == "warn":
            shape(3, 1.25 * radius, 0, (44, 40, 205))
            shape(3, 0.75 * radius, 0, (235, 236, 236))
        elif self.kind == "board":
            bar(-1.8, -1, 3.6, 2, (232, 232, 232))
            bar(-1.7, -0.9, 3.4, 1.8, self.colour)
            bar(-1.4, -0.55, 2.2, 0.3, (232, 232, 232))
            bar(-1.4, 0.1, 2.7, 0.3, (232, 232, 232))
        else:
            bar(-0.55, -1, 1.1, 2, (235, 235, 235))
            bar(-0.47, -0.95, 0.94, 1.9, (22, 22, 24))
            lit = int(self.s_m) % 3
            for index, colour in enumerate(((40, 40, 230), (40, 170, 240), (90, 220, 60))):
                bar(-0.25, -0.78 + 0.58 * index, 0.5, 0.42, shaded(colour, 1.0 if index == lit else 0.25))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A panel of fence along the street.

    Attributes:
        s_m: Where it begins.
        length_m: Its length.
        u_m: Distance to the right of the centre line.
        height_m: Its height.
        panel: Its texture.
    """

    s_m: float
    length_m: float
    u_m: float
    height_m: float
    panel: Mipmap

    @property
    def order_m(self) -> float:
        """Painter's key."""
        return self.s_m + 0.5 * self.length_m

    def draw(self, canvas: Canvas, camera: Camera, weather: Weather) -> None:
        """Draw the panel."""
        start, end = max(self.s_m, camera.s_m + 2.5), self.s_m + self.length_m
        if end <= start + 0.1 or start - camera.s_m > _SEEN_M:
            return
        span = ((start - self.s_m) / self.length_m, 1.0)
        quad = [
            camera.point(s, self.u_m, h)
            for s, h in ((start, self.height_m), (end, self.height_m), (end, 0), (start, 0))
        ]
        side = 1 if self.u_m > 0 else -1
        canvas.texture(self.panel, quad, span, weather.haze(start - camera.s_m), weather.facing(side))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A tree or bush.

    Attributes:
        s_m: Where it stands.
        u_m: Distance to the right of the centre line.
        height_m: Its height.
        sprite: Its look.
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
        """Draw it, facing the camera."""
        depth = self.s_m - camera.s_m
        if depth < 2.5:
            return
        k = camera.scale(self.s_m)
        foot = camera.point(self.s_m, self.u_m, 0.0)
        gain = weather.facing(1 if self.u_m > 0 else -1)
        canvas.sprite(self.sprite, foot, k * self.height_m, weather.haze(depth), gain)


def make_fence_panel(rng: random.Random) -> Mipmap:
    """Two metres of boards, bars before a dark hedge, or a guard rail, as a texture."""
    height, width = 48, 80
    kind = rng.choice(("boards", "bars", "rail"))
    panel = np.empty((height, width, 4), np.uint8)
    panel[:, :, 3] = FENCE
    tone = rng.uniform(0.8, 1.15)
    if kind == "boards":
        panel[:, :, :3] = np.array((52, 84, 118)) * tone
        for x in range(0, width, 8):
            shade = rng.uniform(0.82, 1.1) * tone
            cv2.rectangle(panel, (x, 0), (x + 6, height), (52 * shade, 84 * shade, 118 * shade, FENCE), -1)
            cv2.line(panel, (x + 7, 0), (x + 7, height), (24, 38, 52, FENCE), 1)
    elif kind == "bars":
        panel[:, :, :3] = np.array((44, 52, 46)) * tone
        for x in range(2, width, 8):
            cv2.rectangle(panel, (x, 0), (x + 2, height), (22, 24, 22, FENCE), -1)
        for y in (3, height - 8):
            cv2.rectangle(panel, (0, y), (width, y + 3), (20, 22, 20, FENCE), -1)
    else:
        panel[:, :, :3] = np.array((120, 122, 118)) * tone
        for y in (0, 16, 32):
            cv2.rectangle(panel, (0, y), (width, y + 7), (178 * tone, 180 * tone, 178 * tone, FENCE), -1)
        for x in (0, width // 2):
            cv2.rectangle(panel, (x, 0), (x + 4, height), (90, 92, 92, FENCE), -1)
    return Mipmap(panel)


def make_tree(rng: random.Random) -> Sprite:
    """A tree of its own shape as a sprite, 256 pixels high."""
    height, width = 256, 208
    kind = rng.choice(("round", "round", "tall", "conifer"))
    leaf = _leaf_colour(rng)
    sprite = np.zeros((height, width, 4), np.uint8)
    sprite[:, :, :3] = leaf
    sprite[:, :, 3] = EMPTY
    centre = width // 2
    trunk = [(centre - 8, height), (centre - 5, 120), (centre + 5, 120), (centre + 8, height)]
    cv2.fillConvexPoly(sprite, np.array(trunk, np.int32), (44, 62, 84, TREE))
    if kind == "conifer":
        for step in range(7):
            y, half = 20 + step * 28, 14 + step * 11
            tier = [(centre, y - 22), (centre - half, y + 34), (centre + half, y + 34)]
            shade = 0.75 + 0.06 * step
            cv2.fillConvexPoly(sprite, np.array(tier, np.int32), (*shaded(leaf, 0.7 * shade), TREE))
    else:
        spread = (0.40, 0.26) if kind == "round" else (0.28, 0.28)
        _crown(sprite, rng, leaf, (centre, int(0.36 * height)), (spread[0] * width, spread[1] * height))
    return Sprite(sprite)


def make_bush(rng: random.Random) -> Sprite:
    """A hedge or bush as a sprite, 96 pixels high."""
    sprite = np.zeros((96, 192, 4), np.uint8)
    leaf = _leaf_colour(rng)
    sprite[:, :, :3] = leaf
    sprite[:, :, 3] = EMPTY
    cv2.rectangle(sprite, (24, 50), (168, 96), (*shaded(leaf, 0.6), TREE), -1)
    _crown(sprite, rng, leaf, (96, 52), (84, 40))
    return Sprite(sprite)


def _leaf_colour(rng: random.Random) -> BGR:
    base: BGR = rng.choice(((40, 92, 66), (46, 108, 84), (38, 78, 58), (52, 118, 104), (44, 104, 128), (56, 96, 74)))
    tone = rng.uniform(0.75, 1.15)
    return base[0] * tone, base[1] * tone, base[2] * tone


def _crown(sprite: U8, rng: random.Random, leaf: BGR, centre: Pixel, half: tuple[float, float]) -> None:
    """Leaves: clusters from dark at the bottom to light at the top."""
    clusters: list[tuple[float, float, float]] = []
    for _ in range(150):
        angle, radius = rng.uniform(0, math.tau), math.sqrt(rng.random())
        clusters.append(
            (
                centre[0] + half[0] * radius * math.cos(angle),
                centre[1] + half[1] * radius * math.sin(angle),
                rng.uniform(0.07, 0.16),
            )
        )
    for x, y, size in sorted(clusters, key=lambda cluster: -cluster[1]):
        shade = 0.62 + 0.45 * (1 - (y - centre[1] + half[1]) / (2 * half[1])) + rng.uniform(-0.1, 0.1)
        radii = (int(size * half[0] * 1.6) + 2, int(size * half[1] * 1.6) + 2)
        cv2.ellipse(sprite, (int(x), int(y)), radii, rng.uniform(0, 180), 0, 360, (*shaded(leaf, shade), TREE), -1)
