"""The road's geometry and the pinhole camera that drives along it.

World coordinates in metres: `s` along the centre line, `u` to the right of it, `h` above the ground. A point is seen at
depth Z = s - s_camera; the bend of the road shifts it sideways by what the centre line does between there and here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.core.types import Size

World = tuple[float, float, float]
"""(s, u, h) in metres."""
Pixel = tuple[float, float]
"""(x, y) in pixels."""

NEAR_M = 1.2
_BENDS = 200


@dataclass(frozen=True, slots=True)
class Road:
    """The centre line: how far it has swung sideways at `s`, as a sum of long sines.

    Attributes:
        waves: (amplitude in m, wavelength in m, phase in rad).
    """

    waves: tuple[tuple[float, float, float], ...]

    def swing(self, s_m: float) -> float:
        """Sideways position of the centre line, in metres."""
        return sum(a * math.sin(math.tau * s_m / length + phase) for a, length, phase in self.waves)

    def slope(self, s_m: float) -> float:
        """Derivative of `swing`."""
        return sum(a * math.tau / length * math.cos(math.tau * s_m / length + phase) for a, length, phase in self.waves)


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera at `s_m`, looking along the road's tangent.

    Attributes:
        road: The centre line.
        s_m: Position along it.
        u_m: Position to the right of it.
        height_m: Above the ground.
        size: (height, width) of the picture.
        focal_px: Focal length.
        horizon_px: Row of the horizon.
        slope: `road.slope(s_m)`, the direction of sight.
        bends_m: How far the road lies to the right of the line of sight, at each whole metre of depth.
    """

    road: Road
    s_m: float
    u_m: float
    height_m: float
    size: Size
    focal_px: float
    horizon_px: float
    slope: float
    bends_m: tuple[float, ...]

    @classmethod
    def on(cls, road: Road, s_m: float, u_m: float, *, size: Size, focal_px: float, horizon_px: float) -> Camera:
        """A camera of a car's height at a place of the road."""
        swing, slope = road.swing(s_m), road.slope(s_m)
        bends = tuple(road.swing(s_m + z) - swing - slope * z for z in range(_BENDS))
        return cls(road, s_m, u_m, 1.45, size, focal_px, horizon_px, slope, bends)

    def bend(self, s_m: float) -> float:
        """How far the road at `s_m` lies to the right of the camera's line of sight, in metres."""
        depth = min(max(s_m - self.s_m, 0.0), _BENDS - 2.0)
        whole = int(depth)
        return self.bends_m[whole] + (depth - whole) * (self.bends_m[whole + 1] - self.bends_m[whole])

    def scale(self, s_m: float) -> float:
        """Pixels a metre at `s_m`."""
        return self.focal_px / max(s_m - self.s_m, NEAR_M)

    def point(self, s_m: float, u_m: float, h_m: float) -> Pixel:
        """Where a point in front of the camera is seen."""
        k = self.focal_px / max(s_m - self.s_m, NEAR_M)
        return self.size[1] / 2 + k * (u_m - self.u_m + self.bend(s_m)), self.horizon_px + k * (self.height_m - h_m)

    def polygon(self, points: Sequence[World]) -> list[Pixel]:
        """Where a polygon is seen, cut at the near plane; empty where it is behind the camera."""
        limit = self.s_m + NEAR_M
        if all(point[0] >= limit for point in points):
            return [self.point(*point) for point in points]
        return [self.point(*point) for point in _cut(points, limit)]

    def sees(self, points: Sequence[Pixel]) -> bool:
        """Whether the bounding box of `points` touches the picture."""
        if not points:
            return False
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        return max(xs) >= 0 and min(xs) < self.size[1] and max(ys) >= 0 and min(ys) < self.size[0]


def _cut(points: Sequence[World], limit_m: float) -> list[World]:
    """The part of a polygon with s >= limit (Sutherland and Hodgman 1974, one plane)."""
    kept: list[World] = []
    for index, end in enumerate(points):
        start = points[index - 1]
        if (start[0] >= limit_m) != (end[0] >= limit_m):
            t = (limit_m - start[0]) / (end[0] - start[0])
            kept.append((limit_m, start[1] + t * (end[1] - start[1]), start[2] + t * (end[2] - start[2])))
        if end[0] >= limit_m:
            kept.append(end)
    return kept
