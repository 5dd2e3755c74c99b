"""What one tensor's values were over all frames, in constant memory: exact extremes and a 2048-bin histogram.

The histogram never needs to know the range in advance. It covers [0, R) while no negative value was seen and
[-R, R) afterwards, R a power of two; when a value lies outside, pairs of neighbouring bins are merged and the range
doubles, which is exact: no value is ever counted in a bin that does not contain it (up to float32 rounding at a
bin's edge). Between a quarter and all of the bins lie inside the extremes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.types import F32

BINS = 2048
_SMALLEST_EXPONENT = -60  # a tensor of zeros gets the range [0, 2**-60)
_CHUNK = 1 << 18  # values binned at once: temporaries stay in the cache


class Histogram:
    """Exact minimum and maximum and a range-doubling histogram of a stream of values.

    Args:
        name: Tensor that the values belong to, for errors.

    Attributes:
        counts: int64 [2048].
        minimum, maximum: Exact extremes; +inf and -inf before the first value.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.minimum = math.inf
        self.maximum = -math.inf
        self._exponent = _SMALLEST_EXPONENT
        self._signed = False

    @property
    def low(self) -> float:
        """Lower edge of the first bin."""
        return -self.high if self._signed else 0.0

    @property
    def high(self) -> float:
        """Upper edge of the last bin, a power of two."""
        return math.ldexp(1.0, self._exponent)

    def add(self, values: F32) -> None:
        """Count every value of an array of any shape.

        Raises:
            DataError: A value is NaN or infinite; names the tensor.
        """
        flat = values.reshape(-1)
        if flat.size == 0:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DataError("a tensor is not finite on a calibration frame", value=self.name or "unnamed")
        self.minimum = min(self.minimum, low)
        self.maximum = max(self.maximum, high)
        self._widen(low, high)
        origin, factor = np.float32(self.low), np.float32(BINS / (self.high - self.low))
        for start in range(0, flat.size, _CHUNK):
            index = ((flat[start : start + _CHUNK] - origin) * factor).astype(np.int32)
            np.minimum(index, BINS - 1, out=index)  # a value equal to `high`
            self.counts += np.bincount(index, minlength=BINS)

    def _widen(self, low: float, high: float) -> None:
        if low < 0 and not self._signed:
            merged = _pairs(self.counts)
            self.counts = np.concatenate([np.zeros_like(merged), merged])
            self._signed = True
        needed = max(abs(low), abs(high))
        if needed <= self.high:
            return
        exponent = math.frexp(needed)[1]  # needed < 2**exponent
        if not self.counts.any():
            self._exponent = exponent
        while self._exponent < exponent:
            merged = _pairs(self.counts)
            before = BINS // 4 if self._signed else 0
            self.counts = np.pad(merged, (before, BINS // 2 - before))
            self._exponent += 1


def _pairs(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return counts[0::2] + counts[1::2]
