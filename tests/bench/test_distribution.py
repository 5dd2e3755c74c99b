"""A known distribution goes in, its percentiles come out: `null` with a 1 % tail."""

import numpy as np
import pytest

from edgeseg.backend.null import Latency
from edgeseg.core.metrics import series_ms
from edgeseg.measure import WarmUpRule, measure_runner, series_intervals_ms

from .support import SIZE, null_target

FRAMES = list(np.random.default_rng(0).integers(0, 255, (3, *SIZE, 3), dtype=np.uint8))
MIXTURE = Latency(ms=1.0, sigma_ms=0.05, tail_ms=6.0, tail_share=0.01)
SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
LATE_MS = 0.06  # a wait is late, never early: by the time between two looks at the clock


def outside(samples_ns, *, late_ms=0.0):
    """Percentiles whose true value does not lie in the reported interval."""
    truth = MIXTURE.draw_ns(np.random.default_rng(99), 400_000) / 1e6
    wrong = {}
    for name, (low, high) in series_intervals_ms(samples_ns).items():
        if name in SHARES:
            true = float(np.quantile(truth, SHARES[name], method="inverted_cdf"))
            if not low - late_ms <= true <= high:
                wrong[name] = (low, true, high)
    return wrong


def test_percentiles_of_a_mixture_lie_in_their_intervals():
    misses = dict.fromkeys(SHARES, 0)
    for seed in range(6):
        samples_ns = MIXTURE.draw_ns(np.random.default_rng(seed), 10_000)
        assert series_ms(samples_ns).p999 is not None
        for name in outside(samples_ns):
            misses[name] += 1
    # 95 % intervals miss once in twenty; three of six would happen once in four hundred
    assert max(misses.values()) <= 2, misses


def test_the_tail_reaches_the_result():
    target = null_target(latency_ms=1.0, tail_ms=12.0, tail_share=0.3, seed=3)
    samples = measure_runner(target.make(), FRAMES, duration_s=0.5, rule=WarmUpRule(window_s=0.02, limit_s=0.3))
    drawn_ms = Latency(ms=1.0, tail_ms=12.0, tail_share=0.3).draw_ns(np.random.default_rng(3), 1024) / 1e6
    mine = drawn_ms[samples.warm_up.calls : samples.warm_up.calls + len(samples.engine_ns)]
    assert (samples.engine_ns / 1e6 >= mine).all(), "a sample is missing or trimmed"
    assert series_ms(samples.engine_ns).max >= 12


@pytest.mark.bench
def test_the_percentiles_that_were_put_in_are_measured():
    """Needs a quiet machine: pytest -m bench tests/bench/test_distribution.py."""
    target = null_target(latency_ms=1.0, sigma_ms=0.05, tail_ms=6.0, tail_share=0.01)
    samples = measure_runner(target.make(), FRAMES, duration_s=14.0)
    series = series_ms(samples.engine_ns)
    assert series.p999 is not None
    assert not outside(samples.engine_ns, late_ms=LATE_MS), series
