"""How far results may lie apart by the seed of a training alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


def student95(freedom: int) -> float:
    """Quantile 0.975 of Student's t; 1.96, its limit, beyond ten degrees of freedom."""
    return _T95[freedom - 1] if freedom <= len(_T95) else 1.96


@dataclass(frozen=True)
class SeedNoise:
    """What the seed alone does to a score.

    Attributes:
        deviation: Standard deviation of a run about its row's mean, pooled over the rows.
        freedom: Degrees of freedom behind it: runs less rows.
    """

    deviation: float
    freedom: int

    @classmethod
    def pooled(cls, rows: Iterable[Sequence[float]]) -> SeedNoise | None:
        """From the scores of each row's runs; None where no row has two."""
        several = [row for row in rows if len(row) > 1]
        freedom = sum(len(row) - 1 for row in several)
        if not freedom:
            return None
        squares = sum((value - statistics.fmean(row)) ** 2 for row in several for value in row)
        return cls(math.sqrt(squares / freedom), freedom)

    def apart(self, runs: int, others: int) -> float:
        """The distance that the means of so many runs stay within nineteen times in twenty where nothing differs."""
        return student95(self.freedom) * self.deviation * math.sqrt(1 / runs + 1 / others)
