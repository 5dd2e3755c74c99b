"""Light and weather along the drive: smooth functions of the distance driven, so that a video changes slowly."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from edgeseg.data.street.canvas import BGR, Haze


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Light and air at one place of the drive.

    Attributes:
        brightness: Overall light, 1 at a bright noon.
        warmth: -1 cold to 1 warm.
        sun: Strength of direct sun, 0 to 1.
        sun_side: -1 where the sun stands on the left, 1 on the right, 0 ahead.
        cloud: Cover of the sky, 0 to 1.
        haze_per_m: Extinction coefficient of the air.
        rain: 0 to 1.
        dusk: 0 to 1: lit windows and lamps.
    """

    brightness: float
    warmth: float
    sun: float
    sun_side: float
    cloud: float
    haze_per_m: float
    rain: float
    dusk: float

    @property
    def sky_top(self) -> BGR:
        """Colour of the sky overhead."""
        return _mix(_mix((226, 166, 96), (206, 200, 196), self.cloud), (120, 84, 70), 0.7 * self.dusk)

    @property
    def sky_low(self) -> BGR:
        """Colour of the sky at the horizon, and of the haze."""
        return _mix(_mix((246, 232, 212), (228, 226, 224), self.cloud), (140, 160, 215), 0.6 * self.dusk)

    def haze(self, depth_m: float) -> Haze:
        """What the air does over `depth_m` (Koschmieder 1924)."""
        keep = math.exp(-self.haze_per_m * max(depth_m, 0.0))
        veil = self.sky_low
        return Haze(keep, (veil[0] * (1 - keep), veil[1] * (1 - keep), veil[2] * (1 - keep)))

    def facing(self, side: int) -> float:
        """Light on a wall that stands on `side` of the road: the sun lights the wall across from it."""
        return 1.0 + 0.22 * self.sun * (-side * self.sun_side) - 0.05 * self.cloud


@dataclass(frozen=True, slots=True)
class Climate:
    """The weather of a whole drive.

    Attributes:
        waves: For each quantity, (wavelength in m, phase in rad) of two waves.
    """

    waves: tuple[tuple[tuple[float, float], tuple[float, float]], ...]

    @classmethod
    def of(cls, rng: random.Random) -> Climate:
        """A climate with quantities that repeat at unrelated distances."""
        return cls(
            tuple(
                ((rng.uniform(170, 260), rng.uniform(0, math.tau)), (rng.uniform(450, 800), rng.uniform(0, math.tau)))
                for _ in range(6)
            )
        )

    def at(self, s_m: float) -> Weather:
        """The weather at `s_m`."""
        cloud, light, warmth, haze, rain, dusk = (self._wave(index, s_m) for index in range(6))
        wet = _ramp(rain, 0.66, 0.88)
        cover = max(_ramp(cloud, 0.25, 0.75), _ramp(rain, 0.5, 0.7))  # it clouds over before it rains
        evening = _ramp(dusk, 0.7, 0.95)
        return Weather(
            brightness=(0.72 + 0.33 * light) * (1 - 0.45 * evening) * (1 - 0.12 * wet),
            warmth=(warmth * 2 - 1) * 0.8,
            sun=(1 - cover) * (1 - evening),
            sun_side=2 * _ramp(self._wave(2, s_m * 0.13), 0.4, 0.6) - 1,
            cloud=cover,
            haze_per_m=0.0012 + 0.012 * _ramp(haze, 0.55, 1.0) ** 2 + 0.004 * wet,
            rain=wet,
            dusk=evening,
        )

    def _wave(self, index: int, s_m: float) -> float:
        (first, phase), (second, shift) = self.waves[index]
        wave = 0.6 * math.sin(math.tau * s_m / first + phase) + 0.4 * math.sin(math.tau * s_m / second + shift)
        return 0.5 + 0.5 * wave


def _ramp(value: float, low: float, high: float) -> float:
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def _mix(a: BGR, b: BGR, t: float) -> BGR:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t
