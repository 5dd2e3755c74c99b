"""All that moves: cars in both lanes, people on the pavements and crossings, bicycles.

Everything is a function of time, so that any frame of the drive can be rendered without those before it.
A stream is an endless row of movers with one speed; mover `k` starts at about `k` times the spacing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from edgeseg.data.street.canvas import Sprite
from edgeseg.data.street.ground import KERB_M, Crossing
from edgeseg.data.street.people import PHASES, Figure, make_rider, make_walker
from edgeseg.data.street.vehicles import CAR_BODY, ESTATE_BODY, PAINTS, VAN_BODY, Vehicle, choose_body

EGO_SPEED_M_S = 8.0
EGO_LANE_M = 1.3
_WALK_M_S = 1.3


@dataclass(frozen=True, slots=True)
class Stream:
    """An endless row of movers.

    Attributes:
        name: Seeds the movers.
        speed_m_s: Along the road; negative towards the camera.
        spacing_m: Mean distance between two.
        jitter_m: How far one may be from its regular place.
        reach_m: How far ahead they are looked for.
    """

    name: str
    speed_m_s: float
    spacing_m: float
    jitter_m: float
    reach_m: float

    def movers(self, seed: int, s_m: float, t_s: float) -> Iterator[tuple[float, random.Random]]:
        """Position of each mover from 8 m behind the camera to the reach ahead, and its own random numbers."""
        shift = self.speed_m_s * t_s
        first = math.floor((s_m - 8.0 - shift - self.jitter_m) / self.spacing_m)
        last = math.ceil((s_m + self.reach_m - shift + self.jitter_m) / self.spacing_m)
        for k in range(first, last + 1):
            rng = random.Random(f"{self.name} {seed} {k}")
            yield k * self.spacing_m + rng.uniform(-self.jitter_m, self.jitter_m) + shift, rng


class Traffic:
    """Who is where at a given time.

    Args:
        seed: Which traffic.
    """

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"traffic {seed}")
        self._seed = seed
        self._walkers: list[tuple[Sprite, ...]] = [make_walker(rng) for _ in range(14)]
        self._riders: list[tuple[Sprite, ...]] = [make_rider(rng) for _ in range(9)]
        self._lead_phase = rng.uniform(0, math.tau)
        self._oncoming = Stream("oncoming", -9.0, 38.0, 12.0, 130.0)
        self._walks = [
            (side, Stream(f"walk {side} {way}", way * _WALK_M_S, 9.0, 4.0, 45.0)) for side in (-1, 1) for way in (-1, 1)
        ]
        self._rides = [(1, Stream("ride 1", 4.5, 19.0, 7.0, 45.0)), (-1, Stream("ride -1", -4.5, 19.0, 7.0, 45.0))]

    def at(self, s_m: float, t_s: float, crossings: list[Crossing]) -> Iterator[Vehicle | Figure]:
        """Everyone near a camera that is at `s_m` at time `t_s`."""
        yield self._lead(s_m, t_s)
        for s, rng in self._oncoming.movers(self._seed, s_m, t_s):
            yield Vehicle(
                s_m=s,
                u_m=-EGO_LANE_M + rng.uniform(-0.2, 0.2),
                oncoming=True,
                body=choose_body(rng),
                paint=rng.choice(PAINTS),
            )
        for side, stream in self._walks:
            for s, rng in stream.movers(self._seed, s_m, t_s):
                u = side * (KERB_M + rng.uniform(0.9, 2.9))
                yield self._walker(rng, s, u, t_s)
                if rng.random() < 0.3:
                    yield self._walker(rng, s + 0.2, u + 0.65, t_s)  # a couple
        for side, stream in self._rides:
            for s, rng in stream.movers(self._seed, s_m, t_s):
                sprite = rng.choice(self._riders)
                phase = int(t_s * 8 + rng.random() * PHASES) % PHASES
                yield Figure(
                    s_m=s, u_m=side * rng.uniform(2.3, 2.55), height_m=rng.uniform(1.8, 2.0), sprite=sprite[phase]
                )
        for crossing in crossings:
            yield from self._crossers(crossing, s_m, t_s)

    def _lead(self, s_m: float, t_s: float) -> Vehicle:
        """The car ahead: it falls back and pulls away, and another takes its place when it is out of sight."""
        turn = t_s / 46.0 + self._lead_phase / math.tau
        gap = 11.0 + 62.0 * math.sin(math.pi * (turn % 1.0)) ** 2
        rng = random.Random(f"lead {self._seed} {math.floor(turn + 0.5)}")
        body = rng.choice((CAR_BODY, CAR_BODY, ESTATE_BODY, VAN_BODY))
        return Vehicle(
            s_m=s_m + gap,
            u_m=EGO_LANE_M + rng.uniform(-0.15, 0.15),
            oncoming=False,
            body=body,
            paint=rng.choice(PAINTS),
            braking=gap < 18,
        )

    def _walker(self, rng: random.Random, s: float, u: float, t_s: float) -> Figure:
        sprite = rng.choice(self._walkers)
        phase = int(t_s * 9 + rng.random() * PHASES) % PHASES
        return Figure(s_m=s, u_m=u, height_m=rng.uniform(1.62, 1.95), sprite=sprite[phase])

    def _crossers(self, crossing: Crossing, s_m: float, t_s: float) -> Iterator[Figure]:
        """People who cross before the camera arrives, and are over in time."""
        arrival_s = t_s + (crossing.s_m - s_m) / EGO_SPEED_M_S
        rng = random.Random(f"cross {self._seed} {crossing.s_m:.0f}")
        for index in range(rng.randint(1, 4)):
            way = rng.choice((-1, 1))
            done_s = rng.uniform(1.2, 6.0) + 0.4 * index
            u = way * (KERB_M + 1.0 - _WALK_M_S * max(arrival_s - t_s - done_s, -0.8))
            if abs(u) < KERB_M + 3.0:
                yield self._walker(rng, crossing.s_m + rng.uniform(0.4, 3.0), u, t_s)
