import numpy as np
import pytest

from edgeseg.core.metrics import series_ms
from edgeseg.measure.bootstrap import ratio_interval, replicates_for, series_intervals_ms


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(60):
        low, high = series_intervals_ms(rng.exponential(1e6, 400), seed=i)["p50"]
        hits += low <= np.log(2) <= high
    assert 50 <= hits <= 60


def test_only_supported_percentiles_get_an_interval():
    assert set(series_intervals_ms(np.arange(250))) == {"p50", "p90", "p95", "mean"}
    assert series_intervals_ms(np.arange(10)) == {}


def test_the_interval_surrounds_the_percentile():
    samples = np.random.default_rng(1).gamma(3, 1e6, 2000)
    series, intervals = series_ms(samples), series_intervals_ms(samples)
    for name in ("p50", "p90", "p95", "p99"):
        low, high = intervals[name]
        assert low <= getattr(series, name) <= high


def test_correlated_samples_get_a_wider_interval():
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 1, 3000)
    slow = np.convolve(noise, np.ones(30) / 30**0.5, mode="same")
    correlated, shuffled = 10e6 + 1e6 * slow, 10e6 + 1e6 * rng.permutation(slow)
    widths = [np.ptp(series_intervals_ms(values)["mean"]) for values in (correlated, shuffled)]
    assert widths[0] > 2 * widths[1]


def test_the_ratio_of_two_runs():
    rng = np.random.default_rng(3)
    ratio, (low, high) = ratio_interval(rng.normal(3e6, 1e5, 500), rng.normal(2e6, 1e5, 500))
    assert ratio == pytest.approx(1.5, abs=0.02)
    assert low < 1.5 < high
    assert high - low < 0.05
    assert ratio_interval([1, 2], [3, 4]) is None


def test_long_runs_get_fewer_resamples():
    assert replicates_for(1000) == 1000
    assert replicates_for(10_000_000) == 200
