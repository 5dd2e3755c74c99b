"""Intervals for percentiles and ratios of latencies, by resampling blocks of neighbouring samples.

Latencies of one run are not independent (clocks, caches and the scheduler have memory), so single samples are never
resampled: a circular block bootstrap (Politis and Romano 1992) with blocks of n^(1/3) neighbours keeps what
correlation there is, where plain resampling would claim intervals that are too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeseg.core.metrics import TAIL_SAMPLES, series_ms

LEVEL = 0.95
_PERMILLES: Mapping[str, int] = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p999": 999}
_REPLICATES = 1000
_FEWEST_REPLICATES = 200
_CELLS = 10_000_000  # replicates times samples that are worth a second of waiting
_CHUNK_CELLS = 2_000_000  # and that are held in memory at once

Interval = tuple[float, float]


def series_intervals_ms(samples_ns: ArrayLike, *, seed: int = 0) -> dict[str, Interval]:
    """95 % intervals of those percentiles of `series_ms` that the sample supports, and of the mean.

    Args:
        samples_ns: Latencies in nanoseconds, in the order in which they were measured.
        seed: Of the resampling.

    Returns:
        (low, high) in milliseconds by name: "p50", …, "mean"; nothing for a sample that supports nothing.
    """
    values_ms = np.asarray(samples_ns, dtype=np.float64).ravel() / 1e6
    n = len(values_ms)
    ranks = {
        name: -(-n * permille // 1000) - 1
        for name, permille in _PERMILLES.items()
        if n * (1000 - permille) >= TAIL_SAMPLES * 1000
    }
    if not ranks:
        return {}
    rng = np.random.default_rng(seed)
    rows = []
    for resampled in _resamples(values_ms, rng):
        means = resampled.mean(axis=1)
        resampled.partition(list(ranks.values()), axis=1)
        rows.append(np.column_stack([resampled[:, list(ranks.values())], means]))
    spread = np.concatenate(rows)
    return {name: interval(spread[:, i]) for i, name in enumerate([*ranks, "mean"])}


def ratio_interval(samples_ns: ArrayLike, base_ns: ArrayLike, *, seed: int = 0) -> tuple[float, Interval] | None:
    """Ratio of two medians that were measured one after the other, with its 95 % interval.

    The interval holds the spread within each run, but not what changed on the machine between them: compare runs
    that were interleaved (`compare.ratio`) wherever both engines are at hand.

    Returns:
        (ratio, interval), or None where one of the two has no median.
    """
    first, second = series_ms(samples_ns).p50, series_ms(base_ns).p50
    if first is None or second is None:
        return None
    rng = np.random.default_rng(seed)
    medians = [_medians(np.asarray(values, dtype=np.float64).ravel(), rng) for values in (samples_ns, base_ns)]
    count = min(len(medians[0]), len(medians[1]))
    return first / second, interval(medians[0][:count] / medians[1][:count])


def interval(statistics: NDArray[np.float64]) -> Interval:
    """The central 95 % of a bootstrap distribution."""
    low, high = np.quantile(statistics, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return float(low), float(high)


def replicates_for(n: int) -> int:
    """How many resamples a sample of `n` is worth: 1000, fewer for long runs, never under 200."""
    return int(np.clip(_CELLS // max(n, 1), _FEWEST_REPLICATES, _REPLICATES))


def _medians(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.concatenate([np.median(resampled, axis=1) for resampled in _resamples(values, rng)])


def _resamples(values: NDArray[np.float64], rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Block-resampled copies of `values`, some replicates at a time: [replicates, n]."""
    n = len(values)
    length = max(1, round(n ** (1 / 3)))
    blocks = -(-n // length)
    total = replicates_for(n)
    at_once = max(1, _CHUNK_CELLS // n)
    for begin in range(0, total, at_once):
        starts = rng.integers(0, n, (min(at_once, total - begin), blocks, 1))
        index = (starts + np.arange(length)).reshape(len(starts), -1)[:, :n] % n
        yield values[index]
