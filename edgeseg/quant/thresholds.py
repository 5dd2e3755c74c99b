"""From what a tensor's values were to the range that its integers cover: minmax, percentile, entropy, MSE.

Thresholds are derived from a stored histogram, never from the frames again, so one calibration serves every method
and every placement. Asymmetric ranges [low, high] are for uint8 activations (x86 VNNI), symmetric ones [-t, t] for
int8 with zero point 0 (TensorRT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeseg.quant.histogram import BINS

MethodName = Literal["minmax", "percentile", "entropy", "mse"]

_F64 = NDArray[np.float64]
_STEPS = np.linspace(0.2, 1.0, 81)  # candidate thresholds as shares of the extreme


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """How thresholds are chosen.

    Attributes:
        name: `minmax` covers every value; `percentile` a share of them; `entropy` minimises the Kullback-Leibler
            divergence between the values and their quantised form (Migacz, "8-bit inference with TensorRT", 2017);
            `mse` minimises the expected squared error of clipping plus rounding.
        percentile: Share of the values inside the range, in percent; only for `percentile`.
    """

    name: MethodName = "mse"
    percentile: float = 99.99

    def __post_init__(self) -> None:
        if not 50.0 <= self.percentile <= 100.0:
            raise ValueError(f"percentile is {self.percentile}; allowed: 50 to 100")

    def __str__(self) -> str:
        return f"{self.name} {self.percentile:g}" if self.name == "percentile" else self.name


@dataclass(frozen=True, slots=True)
class Distribution:
    """A tensor's values: exact extremes, and counts over equal bins from `low` to `high`."""

    minimum: float
    maximum: float
    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def centres(self) -> _F64:
        """Middle of each bin."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return (edges[1:] + edges[:-1]) / 2

    @property
    def dead(self) -> bool:
        """Whether every value was 0."""
        return self.minimum == self.maximum == 0.0

    def magnitude(self) -> Distribution:
        """The distribution of |x|."""
        if self.low >= 0:
            return self
        half = len(self.counts) // 2
        counts = self.counts[half:] + self.counts[:half][::-1]
        largest = max(abs(self.minimum), abs(self.maximum))
        smallest = 0.0 if self.minimum <= 0.0 <= self.maximum else min(abs(self.minimum), abs(self.maximum))
        return Distribution(smallest, largest, 0.0, self.high, counts)

    def clipped_share(self, low: float, high: float) -> float:
        """Share of the values outside [low, high], to a bin's width."""
        centres = self.centres
        outside = self.counts[(centres < low) | (centres > high)].sum()
        return float(outside / max(int(self.counts.sum()), 1))


def asymmetric_range(values: Distribution, method: Method, *, levels: int = 256) -> tuple[float, float]:
    """The range [low, high], containing 0, that `levels` unsigned integers cover; (0, 0) for a dead tensor."""
    low, high = min(values.minimum, 0.0), max(values.maximum, 0.0)
    if values.dead or method.name == "minmax":
        return low, high
    if method.name == "percentile":
        return _percentile_range(values, method.percentile, low, high)
    cost = _SquaredError(values, levels) if method.name == "mse" else _Divergence(values, levels)
    # both sides shrink together first, then each alone: searches of one dimension instead of a grid
    share = _STEPS[np.argmin(cost(_STEPS * low, _STEPS * high))]
    low, high = share * low, share * high
    if low < 0:
        low *= _STEPS[np.argmin(cost(_STEPS * low, np.full_like(_STEPS, high)))]
    if high > 0:
        high *= _STEPS[np.argmin(cost(np.full_like(_STEPS, low), _STEPS * high))]
    return float(low), float(high)


def symmetric_range(values: Distribution, method: Method, *, levels: int = 128) -> float:
    """The t of the range [-t, t] that signed integers cover, `levels` of them on each side; 0 for a dead tensor."""
    return asymmetric_range(values.magnitude(), method, levels=levels)[1]


def _percentile_range(values: Distribution, percentile: float, low: float, high: float) -> tuple[float, float]:
    outside = 1.0 - percentile / 100.0
    total = int(values.counts.sum())
    if low < 0 < high:
        outside /= 2
    edges = np.linspace(values.low, values.high, len(values.counts) + 1)
    below = np.concatenate([[0], np.cumsum(values.counts)]) / total
    if low < 0:
        low = max(low, float(edges[np.searchsorted(below, outside, side="right") - 1]))
    if high > 0:
        high = min(high, float(edges[np.searchsorted(below, 1.0 - outside, side="left")]))
    return min(low, 0.0), max(high, 0.0)


class _SquaredError:
    """Expected squared error of ranges: step**2 / 12 for what is rounded, the squared distance for what is clipped.

    Sums of the counts, of value and of value squared up to each bin give every range's error without another pass.
    """

    def __init__(self, values: Distribution, levels: int) -> None:
        self._levels = levels
        self._centres, counts = values.centres, values.counts.astype(np.float64)
        if values.low >= 0:
            counts[0] = 0  # ReLU's zeros are represented exactly
        powers = np.stack([counts, counts * self._centres, counts * self._centres**2])
        self._sums = np.concatenate([np.zeros((3, 1)), np.cumsum(powers, axis=1)], axis=1)

    def __call__(self, lows: _F64, highs: _F64) -> _F64:
        """The error of each pair; infinite for an empty range."""
        first = np.searchsorted(self._centres, lows, side="left")
        last = np.searchsorted(self._centres, highs, side="right")
        below, above = self._sums[:, first], self._sums[:, -1:] - self._sums[:, last]
        clipped = sum(
            part[2] - 2 * edge * part[1] + edge**2 * part[0] for part, edge in ((below, lows), (above, highs))
        )
        step = (highs - lows) / (self._levels - 1)
        rounded = self._sums[0, last] - self._sums[0, first]
        cost: _F64 = np.where(step > 0, rounded * step**2 / 12 + np.maximum(clipped, 0.0), np.inf)
        return cost


class _Divergence:
    """Kullback-Leibler divergence of ranges."""

    def __init__(self, values: Distribution, levels: int) -> None:
        self._values = values
        self._levels = levels

    def __call__(self, lows: _F64, highs: _F64) -> _F64:
        """The divergence of each pair."""
        return np.array(
            [_divergence(self._values, low, high, self._levels) for low, high in zip(lows, highs, strict=True)]
        )


def _divergence(values: Distribution, low: float, high: float, levels: int) -> float:
    """KL(P || Q): P the values with the clipped ones gathered at the ends, Q the same after rounding to `levels`."""
    width = (values.high - values.low) / len(values.counts)
    first = int(np.clip(np.floor((low - values.low) / width), 0, BINS - 1))
    last = int(np.clip(np.ceil((high - values.low) / width), first + 1, len(values.counts)))
    inside = values.counts[first:last].astype(np.float64)
    if values.low >= 0 and first == 0:
        inside[0] = 0  # ReLU's zeros would drown everything else and lose nothing
    reference = inside.copy()
    reference[0] += values.counts[:first].sum()
    reference[-1] += values.counts[last:].sum()
    if not inside.any():
        return float("inf")
    # each level spreads its mass evenly over its non-empty bins
    level = np.minimum(np.arange(len(inside)) * levels // len(inside), levels - 1)
    mass = np.bincount(level, inside, minlength=levels)
    filled = np.bincount(level, inside > 0, minlength=levels)
    spread = np.where(inside > 0, mass[level] / np.maximum(filled[level], 1), 0.0)
    p = reference / reference.sum()
    q = spread / spread.sum()
    used = p > 0
    return float((p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))).sum())
