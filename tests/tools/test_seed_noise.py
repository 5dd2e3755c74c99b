"""The spread of seeds against the textbook's two-sample test."""

from __future__ import annotations

import pytest
from seed_noise import SeedNoise, student95


def test_the_deviation_is_pooled_over_rows_with_several_runs() -> None:
    assert SeedNoise.pooled([[1.0], [], [2.0]]) is None
    found = SeedNoise.pooled([[1.0, 3.0], [10.0, 10.0, 13.0], [5.0]])
    assert found is not None
    # 2 about the first mean, 6 about the second, over (2 - 1) + (3 - 1) degrees of freedom
    assert found.freedom == 3
    assert found.deviation == pytest.approx((8 / 3) ** 0.5)
    assert found.apart(2, 3) == pytest.approx(3.18 * (8 / 3) ** 0.5 * (1 / 2 + 1 / 3) ** 0.5)


def test_the_quantile_falls_to_that_of_the_normal_distribution() -> None:
    quantiles = [student95(freedom) for freedom in range(1, 20)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert quantiles[0] == pytest.approx(12.71)
    assert quantiles[-1] == pytest.approx(1.96)
