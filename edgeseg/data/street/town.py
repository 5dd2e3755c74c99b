"""The plan of the town: what stands where, cell by cell along the road, the same on every visit."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from edgeseg.data.street.buildings import make_building
from edgeseg.data.street.camera import Camera
from edgeseg.data.street.canvas import Canvas, Mipmap, Sprite
from edgeseg.data.street.furniture import Fence, Post, SignPost, Tree, make_bush, make_fence_panel, make_tree
from edgeseg.data.street.ground import KERB_M, WALL_M, Crossing, SideStreet
from edgeseg.data.street.vehicles import PAINTS, Vehicle, choose_body
from edgeseg.data.street.weather import Weather

CELL_M = 30.0
_AHEAD_CELLS = 5
_KEPT_CELLS = 24
_SIGNS = ("limit", "limit", "warn", "order", "stop", "board", "board")
_BOARDS = ((140, 80, 24), (60, 110, 40), (60, 60, 60), (30, 120, 190))


class Thing(Protocol):
    """Anything that stands in the street and is painted in order of distance."""

    @property
    def order_m(self) -> float:
        """Painter's key: things with a larger one are painted first."""

    def draw(self, canvas: Canvas, camera: Camera, weather: Weather) -> None:
        """Draw it."""


@dataclass(slots=True)
class Cell:
    """All that stands in one stretch of `CELL_M`."""

    things: list[Thing] = field(default_factory=list)
    flats: list[Crossing | SideStreet] = field(default_factory=list)


class Town:
    """Plans cells when the camera comes near and keeps the last few; may be asked from several threads.

    Args:
        seed: Which town.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        rng = random.Random(f"town {seed}")
        self._trees: list[Sprite] = [make_tree(rng) for _ in range(10)]
        self._bushes: list[Sprite] = [make_bush(rng) for _ in range(5)]
        self._panels: list[Mipmap] = [make_fence_panel(rng) for _ in range(6)]
        self._cells: OrderedDict[int, Cell] = OrderedDict()
        self._lock = threading.Lock()

    def around(self, s_m: float) -> list[Cell]:
        """The cells that a camera at `s_m` can see."""
        first = int(s_m // CELL_M) - 1
        return [self._cell(index) for index in range(first, first + _AHEAD_CELLS + 1)]

    def _cell(self, index: int) -> Cell:
        with self._lock:  # loaders read a data set from several threads
            if index not in self._cells:
                self._cells[index] = self._plan(index)
                while len(self._cells) > _KEPT_CELLS:
                    self._cells.popitem(last=False)
            self._cells.move_to_end(index)
            return self._cells[index]

    def _plan(self, index: int) -> Cell:
        rng = random.Random(f"cell {self._seed} {index}")
        cell, start = Cell(), index * CELL_M
        district = random.Random(f"district {self._seed} {index // 5}")
        storeys, green = district.choice((2, 2, 3, 4)), district.uniform(0.25, 0.55)
        if index % 4 == 2:
            self._junction(cell, rng, start)
        for side in (-1, 1):
            begin = start + (8.0 if index % 4 == 2 else 0.0)
            self._plots(cell, rng, begin, start + CELL_M, side, storeys, green)
            self._pavement(cell, rng, start, side, green)
            self._parking(cell, rng, begin + 2, start + CELL_M, side)
        return cell

    def _junction(self, cell: Cell, rng: random.Random, start: float) -> None:
        """A side street, a zebra crossing before it, lights or signs at the corners, guard rails and bollards."""
        cell.flats.append(SideStreet(start))
        cell.flats.append(Crossing(start - 5.0))
        lights = rng.random() < 0.6
        for side in (-1, 1):
            u = side * (KERB_M + 0.55)
            kind = "light" if lights else rng.choice(("warn", "stop", "order"))
            size = 1.35 if lights else 1.1
            cell.things.append(SignPost(s_m=start - 5.6, u_m=u, kind=kind, size_m=size, bottom_m=2.3))
            if rng.random() < 0.85:
                panel = rng.choice(self._panels)
                cell.things += [
                    Fence(s_m=start - 18 + 2 * i, length_m=2.0, u_m=side * (KERB_M + 0.4), height_m=1.3, panel=panel)
                    for i in range(6)
                ]
            else:
                cell.things += [
                    Post(s_m=start - 8 - 1.8 * i, u_m=u, height_m=1.05, width_m=0.3, colour=(60, 62, 66))
                    for i in range(5)
                ]

    def _plots(
        self, cell: Cell, rng: random.Random, start: float, end: float, side: int, storeys: int, green: float
    ) -> None:
        """Fill one side with houses, gardens behind fences, and greenery."""
        s = start
        while s < end - 3.0:
            width = min(rng.uniform(6.5, 14.0), end - s)
            if rng.random() < green:
                self._garden(cell, rng, s, width, side)
            else:
                wall = WALL_M + rng.choice((0.0, 0.0, 0.0, 0.6))
                floors = max(storeys + rng.choice((-1, 0, 0, 1)), 1)
                cell.things.append(make_building(rng, s_m=s, width_m=width, side=side, wall_m=wall, storeys=floors))
            s += width

    def _garden(self, cell: Cell, rng: random.Random, start: float, width: float, side: int) -> None:
        """A plot without a house at the street: fence or hedge, trees, sometimes a house set back."""
        if rng.random() < 0.5:
            back = WALL_M + rng.uniform(7, 10)
            cell.things.append(make_building(rng, s_m=start, width_m=width, side=side, wall_m=back, storeys=2))
        if rng.random() < 0.85:
            panel, height = rng.choice(self._panels), rng.uniform(1.2, 1.9)
            count = max(int(width // 2.5), 1)
            cell.things += [
                Fence(
                    s_m=start + i * width / count,
                    length_m=width / count,
                    u_m=side * WALL_M,
                    height_m=height,
                    panel=panel,
                )
                for i in range(count)
            ]
        else:
            count = max(int(width // 2), 1)
            cell.things += [
                Tree(
                    s_m=start + (i + 0.5) * width / count,
                    u_m=side * (WALL_M + 0.4),
                    height_m=rng.uniform(1.4, 2.2),
                    sprite=rng.choice(self._bushes),
                )
                for i in range(count)
            ]
        for _ in range(rng.randint(1, 3)):
            cell.things.append(
                Tree(
                    s_m=start + rng.uniform(0, width),
                    u_m=side * (WALL_M + rng.uniform(2, 5)),
                    height_m=rng.uniform(5, 9),
                    sprite=rng.choice(self._trees),
                )
            )

    def _pavement(self, cell: Cell, rng: random.Random, start: float, side: int, green: float) -> None:
        """Lamps, street trees and signs at the kerb."""
        kerb = side * (KERB_M + 0.55)
        cell.things.append(
            Post(
                s_m=start + (12.0 if side > 0 else 24.0),
                u_m=kerb,
                height_m=6.5,
                width_m=0.3,
                arm_m=1.6,
                colour=(84, 90, 92),
            )
        )
        if rng.random() < 0.6:
            paint = rng.choice(((60, 66, 70), (60, 84, 110), (120, 124, 126)))
            cell.things.append(
                Post(s_m=start + rng.uniform(16, 19), u_m=kerb, height_m=rng.uniform(3, 7), width_m=0.3, colour=paint)
            )
        if rng.random() < 0.9:
            kind = rng.choice(_SIGNS)
            cell.things.append(
                SignPost(
                    s_m=start + rng.uniform(4, 10),
                    u_m=kerb,
                    kind=kind,
                    size_m=rng.uniform(1.1, 1.5),
                    bottom_m=rng.uniform(1.9, 2.5),
                    colour=rng.choice(_BOARDS),
                )
            )
        if rng.random() < green + 0.25:
            cell.things.append(
                Tree(
                    s_m=start + rng.uniform(14, 16),
                    u_m=side * (KERB_M + 1.0),
                    height_m=rng.uniform(5.5, 8.5),
                    sprite=rng.choice(self._trees),
                )
            )

    def _parking(self, cell: Cell, rng: random.Random, start: float, end: float, side: int) -> None:
        """Parked cars at the kerb, nose to tail in some stretches and none in others."""
        density = rng.choice((0.0, 0.2, 0.5))
        s = start
        while s < end - 6.0:
            body = choose_body(rng)
            if rng.random() < density and body.length_m < 6 and s + body.length_m < end - 1.0:
                cell.things.append(
                    Vehicle(s_m=s, u_m=side * (KERB_M - 1.0), oncoming=side < 0, body=body, paint=rng.choice(PAINTS))
                )
            s += 5.6


def visible(cells: list[Cell], camera: Camera) -> list[Thing]:
    """The things of `cells` that are not wholly behind the camera."""
    return [thing for cell in cells for thing in cell.things if thing.order_m > camera.s_m - 6.0]
