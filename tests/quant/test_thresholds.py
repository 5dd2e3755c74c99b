"""Thresholds from histograms: what each method keeps and clips."""

import numpy as np
import pytest

from edgeseg.quant.histogram import Histogram
from edgeseg.quant.thresholds import Distribution, Method, asymmetric_range, symmetric_range

RNG = np.random.default_rng(11)


def distribution(values) -> Distribution:
    histogram = Histogram("t")
    histogram.add(np.asarray(values, np.float32))
    return Distribution(histogram.minimum, histogram.maximum, histogram.low, histogram.high, histogram.counts)


NORMAL = distribution(RNG.normal(size=200_000))
OUTLIER = distribution(np.append(np.abs(RNG.normal(size=200_000)), 60.0))


def quantised_error(values, low, high):
    scale = (high - low) / 255
    zero = round(-low / scale)
    grid = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
    return float(np.mean((values - grid) ** 2))


def test_minmax_is_exact_and_contains_zero():
    assert asymmetric_range(distribution([2.0, 7.5]), Method(name="minmax")) == (0.0, 7.5)
    assert asymmetric_range(distribution([-3.0, 1.0]), Method(name="minmax")) == (-3.0, 1.0)
    assert symmetric_range(distribution([-3.0, 1.0]), Method(name="minmax")) == 3.0


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
def test_percentile_keeps_that_share(percentile):
    low, high = asymmetric_range(NORMAL, Method(name="percentile", percentile=percentile))
    assert NORMAL.clipped_share(low, high) == pytest.approx(1 - percentile / 100, rel=0.15, abs=2e-4)


def test_percentile_of_a_one_sided_tensor_clips_only_the_top():
    low, high = asymmetric_range(OUTLIER, Method(name="percentile", percentile=99.9))
    assert low == 0.0
    assert high == pytest.approx(3.29, rel=0.05)


@pytest.mark.parametrize("name", ["mse", "entropy"])
def test_an_outlier_is_clipped(name):
    # values of scale 1 with a lone 60: covering it would waste nineteen of twenty levels
    assert 3.0 < symmetric_range(OUTLIER, Method(name=name)) < 35.0


def test_mse_is_close_to_the_best_of_an_exhaustive_search():
    values = RNG.laplace(size=100_000).astype(np.float32)
    low, high = asymmetric_range(distribution(values), Method(name="mse"))
    best = min(quantised_error(values, -t, t) for t in np.linspace(1, np.abs(values).max(), 200))
    assert quantised_error(values, low, high) <= 1.05 * best


@pytest.mark.parametrize("name", ["minmax", "percentile", "entropy", "mse"])
def test_a_dead_tensor_has_an_empty_range(name):
    dead = distribution(np.zeros(50))
    assert asymmetric_range(dead, Method(name=name)) == (0.0, 0.0)
    assert symmetric_range(dead, Method(name=name)) == 0.0


def test_every_method_stays_inside_the_extremes():
    for values in (NORMAL, OUTLIER, distribution(RNG.uniform(-5, -4, 1000))):
        for name in ("percentile", "entropy", "mse"):
            low, high = asymmetric_range(values, Method(name=name))
            assert min(values.minimum, 0) <= low <= 0 <= high <= max(values.maximum, 0)


def test_a_percentile_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="percentile is 101"):
        Method(name="percentile", percentile=101)
