"""What results are judged by: latency series whose percentiles the sample supports, mIoU and boundary IoU."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.types import U8, Classes

TAIL_SAMPLES = 10
"""A percentile is given only where at least this many samples are expected beyond it."""

BOUNDARY_RATIO = 0.005
"""Boundary width as a share of the image diagonal: 3 pixels at 360x480, 6 at 540x960."""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """A latency sample in milliseconds, nothing trimmed.

    Percentile q is an observed value: the smallest sample that at least a share q of all samples does not exceed
    (Hyndman and Fan 1996, type 1). It is None where n(1-q) < 10: so few samples say nothing about it.

    Attributes:
        p50: Median.
        p90: 90th percentile.
        p95: 95th percentile.
        p99: 99th percentile.
        p999: 99.9th percentile.
        max: Largest sample; None where there is none.
        mean: Arithmetic mean; None where there is no sample.
        jitter: Standard deviation (n-1); None for fewer than two samples.
        n: Number of samples.
    """

    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    max: float | None
    mean: float | None
    jitter: float | None
    n: int


def quantile(sorted_values: NDArray[np.float64], permille: int) -> float | None:
    """The percentile of `Series` at `permille`/1000, or None where the sample does not support it.

    Args:
        sorted_values: Ascending.
        permille: 500 for the median, 999 for p99.9. An integer, since 100 * (1 - 0.9) < 10 in floating point.
    """
    n = len(sorted_values)
    if n * (1000 - permille) < TAIL_SAMPLES * 1000:
        return None
    rank = -(-n * permille // 1000)
    return float(sorted_values[rank - 1])


def series_ms(samples_ns: ArrayLike) -> Series:
    """The series of samples given in nanoseconds, in any order; an empty sample gives n = 0 and None everywhere."""
    values_ms = np.sort(np.asarray(samples_ns, dtype=np.float64).ravel()) / 1e6
    n = len(values_ms)
    return Series(
        p50=quantile(values_ms, 500),
        p90=quantile(values_ms, 900),
        p95=quantile(values_ms, 950),
        p99=quantile(values_ms, 990),
        p999=quantile(values_ms, 999),
        max=float(values_ms[-1]) if n else None,
        mean=float(values_ms.mean()) if n else None,
        jitter=float(values_ms.std(ddof=1)) if n > 1 else None,
        n=n,
    )


class Confusion:
    """Pixel counts of label against mask, and what follows from them.

    Pixels whose label is the ignore id are left out. A mask pixel that names no class (the ignore id of a frame
    without a mask) is a miss of its label's class.

    Args:
        classes: The vocabulary of labels and masks.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        n = len(classes)
        self._counts: NDArray[np.int64] = np.zeros((n, n + 1), dtype=np.int64)

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Counts [n, n+1], a copy: row = label, column = mask; the last column is "no class"."""
        return np.array(self._counts, dtype=np.int64)

    def add(self, label_hw: U8, mask_hw: U8) -> None:
        """Count one frame.

        Args:
            label_hw: uint8 [H, W] class ids; the ignore id where unlabelled.
            mask_hw: uint8 [H, W] class ids.

        Raises:
            DataError: Two sizes, or a label id that is neither a class nor the ignore id.
        """
        _check_pair(label_hw, mask_hw, self.classes)
        n = len(self.classes)
        labelled = label_hw != self.classes.ignore_id
        cells = label_hw[labelled].astype(np.int32) * (n + 1) + np.minimum(mask_hw[labelled], n)
        self._counts += np.bincount(cells, minlength=n * (n + 1)).reshape(n, n + 1)

    def merge(self, other: Confusion) -> None:
        """Add the counts of another data set or worker of the same vocabulary."""
        if other.classes.names != self.classes.names:
            raise DataError("two vocabularies", value=f"{self.classes.names} and {other.classes.names}")
        self._counts += other._counts

    def iou(self) -> dict[str, float | None]:
        """Intersection over union by class name; None for a class that neither labels nor masks contain."""
        hits: NDArray[np.int64] = np.diagonal(self._counts)
        unions = self._counts.sum(axis=1) + self._counts[:, :-1].sum(axis=0) - hits
        return _ratios(self.classes, hits, unions)

    @property
    def miou(self) -> float | None:
        """Mean of `iou()` over the classes that occur; None before the first labelled pixel."""
        return _mean(self.iou())

    @property
    def pixel_accuracy(self) -> float | None:
        """Share of labelled pixels whose class is right; None before the first labelled pixel."""
        total = int(self._counts.sum())
        return float(np.trace(self._counts)) / total if total else None


class BoundaryIou:
    """Boundary IoU (Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021).

    The IoU of each class counted only over pixels within `width` of the contour of label or mask, on the inside,
    with intersections and unions summed over the data set. As in the authors' code, distance is the chessboard
    distance (erosion by a 3x3 square) and the image's edge counts as contour. Unlabelled pixels become "no class" in
    the mask too, so that a region that the label cuts off is cut off in both.

    Args:
        classes: The vocabulary of labels and masks.
        width_px: Boundary width; None takes `BOUNDARY_RATIO` of each image's diagonal, at least 1.
    """

    def __init__(self, classes: Classes, width_px: int | None = None) -> None:
        self.classes = classes
        self._width_px = width_px
        self._hits = np.zeros(len(classes), dtype=np.int64)
        self._unions = np.zeros(len(classes), dtype=np.int64)

    def add(self, label_hw: U8, mask_hw: U8) -> None:
        """Count one frame; arguments and errors as `Confusion.add`."""
        _check_pair(label_hw, mask_hw, self.classes)
        n = len(self.classes)
        width_px = self._width_px or boundary_width_px(label_hw.shape[0], label_hw.shape[1])
        mask_hw = np.where(label_hw == self.classes.ignore_id, np.uint8(255), mask_hw)
        label_ring = contour_band(label_hw, width_px) & (label_hw < n)
        mask_ring = contour_band(mask_hw, width_px) & (mask_hw < n)
        hits = _count(label_hw[label_ring & mask_ring & (label_hw == mask_hw)], n)
        self._unions += _count(label_hw[label_ring], n) + _count(mask_hw[mask_ring], n) - hits
        self._hits += hits

    def iou(self) -> dict[str, float | None]:
        """Boundary IoU by class name; None for a class without any boundary."""
        return _ratios(self.classes, self._hits, self._unions)

    @property
    def mean(self) -> float | None:
        """Mean over the classes that occur."""
        return _mean(self.iou())


def boundary_width_px(height: int, width: int) -> int:
    """Boundary width of an image: `BOUNDARY_RATIO` of its diagonal, rounded, at least 1 pixel."""
    return max(1, round(BOUNDARY_RATIO * math.hypot(height, width)))


def contour_band(ids_hw: U8, width_px: int) -> NDArray[np.bool_]:
    """Pixels within `width_px` (chessboard distance) of another id or of the image's edge: bool [H, W].

    One erosion for all ids at once: a pixel is inside its region exactly where the smallest and the largest id of
    the (2 width + 1)-square around it are equal.
    """
    band = np.ones(ids_hw.shape, dtype=np.bool_)
    if min(ids_hw.shape) > 2 * width_px:
        inner = slice(width_px, -width_px)
        band[inner, inner] = _sliding(np.minimum, ids_hw, width_px) != _sliding(np.maximum, ids_hw, width_px)
    return band


def _sliding(extreme: np.ufunc, ids_hw: U8, reach: int) -> U8:
    """Extreme over each (2 reach + 1)-square that fits: [H - 2 reach, W - 2 reach], by doubling windows."""
    window = 2 * reach + 1
    out = ids_hw
    for axis in (0, 1):
        line = np.swapaxes(out, 0, axis)
        span = 1
        while span < window:
            step = min(span, window - span)
            line = extreme(line[step:], line[:-step])
            span += step
        out = np.swapaxes(line, 0, axis)
    return out


def _check_pair(label_hw: U8, mask_hw: U8, classes: Classes) -> None:
    if label_hw.shape != mask_hw.shape:
        raise DataError("label and mask have two sizes", value=f"{label_hw.shape} and {mask_hw.shape}")
    present = np.bincount(label_hw.ravel(), minlength=256)
    present[: len(classes)] = 0
    present[classes.ignore_id] = 0
    if present.any():
        raise DataError(
            "a label holds an unknown id",
            value=int(present.argmax()),
            allowed=f"0 to {len(classes) - 1}, and {classes.ignore_id} for unlabelled",
        )


def _count(ids: U8, n: int) -> NDArray[np.int64]:
    return np.bincount(ids, minlength=n).astype(np.int64)


def _ratios(classes: Classes, hits: NDArray[np.int64], unions: NDArray[np.int64]) -> dict[str, float | None]:
    pairs = zip(classes.names, hits.tolist(), unions.tolist(), strict=True)
    return {name: hit / union if union else None for name, hit, union in pairs}


def _mean(values: dict[str, float | None]) -> float | None:
    present = [value for value in values.values() if value is not None]
    return sum(present) / len(present) if present else None
