"""What the rows of an ablation show: each difference against the noise of the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablation_scores import Result, Results, Score
from ablation_table import Group, Job, Table
from seed_noise import SeedNoise

BETTER, WORSE, NOT_RUN = "better", "worse", "not yet run"


@dataclass(frozen=True)
class Noise:
    """What the seed alone does to the deciding split's mIoU.

    Attributes:
        values: Of runs that differ in nothing else.
    """

    values: Sequence[float]

    @property
    def mean(self) -> float | None:
        """Mean, None without runs."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation (n - 1); None for fewer than two runs."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def bound(self, others: int) -> float | None:
        """The largest difference that 95 % of single runs without any effect stay within.

        Args:
            others: Runs that the compared one is held against the mean of.
        """
        noise = SeedNoise.pooled([self.values])
        return None if noise is None else noise.apart(1, others)


class Findings:
    """A table beside what was measured of it.

    Args:
        table: What was asked.
        jobs: Its rows, filled in.
        results: What was measured.
    """

    def __init__(self, table: Table, jobs: Mapping[str, Job], results: Results) -> None:
        self.table = table
        self.jobs = jobs
        self.latency = results.latency
        self.split = table.score[0]
        self._rows = results.rows
        seeds = [job for job in jobs.values() if job.group.name == table.noise]
        self._reference_keys = {job.key for job in seeds}
        self._seeds = seeds
        devices = [found.device for job in jobs.values() if (found := self.result(job))]
        self.usual_device = max(devices, key=devices.count, default="")
        self.noise = self.noise_on(self.split)

    def noise_on(self, split: str) -> Noise:
        """What the seed alone does to the mIoU of a split."""
        scores = [self.score(job, split) for job in self._seeds]
        return Noise([found.miou for found in scores if found is not None and found.miou is not None])

    def trained(self, group: Group) -> list[Job]:
        """The rows of a group that have been run; none where that is the shared baseline alone."""
        rows = [job for job in self.of(group) if self.result(job)]
        own = group.name == self.table.noise or any(job.key not in self._reference_keys for job in rows)
        return rows if own else []

    def shown(self, group: Group) -> list[Job]:
        """The rows of a group of which something has been measured."""
        timed = self.latency.rows if self.latency and group.latency else {}
        trained = self.trained(group)
        return [job for job in self.of(group) if job in trained or job.key in timed]

    def of(self, group: Group) -> list[Job]:
        """The rows of a group."""
        return [job for job in self.jobs.values() if job.group.name == group.name]

    def result(self, job: Job) -> Result | None:
        """What a row gave; None where it has not been run."""
        return self._rows.get(job.key)

    def score(self, job: Job, split: str | None = None) -> Score | None:
        """Scores on a split, the deciding one by default; None where there are none."""
        found = self.result(job)
        return found.scores.get(split or self.split) if found else None

    def difference(self, job: Job) -> tuple[float, float | None] | None:
        """By how much mIoU is above what it is held against, and the bound of the noise; None where one is missing."""
        score = self.score(job)
        if score is None or score.miou is None:
            return None
        if job.row.against:
            other = self.score(self.jobs[job.row.against])
            if other is None or other.miou is None:
                return None
            return score.miou - other.miou, self.noise.bound(1)
        if self.noise.mean is None:
            return None
        return score.miou - self.noise.mean, self.noise.bound(len(self.noise.values))

    def verdict(self, job: Job) -> str:
        """In a word, `BETTER` and `WORSE` only outside the noise."""
        if self.result(job) is None:
            return NOT_RUN
        if job.key in self._reference_keys:
            return "reference"
        found = self.difference(job)
        if found is None:
            return "its reference is not run yet" if job.row.against else "–"
        gain, bound = found
        if bound is None:
            return "noise not known"
        return "inside the noise" if abs(gain) <= bound else BETTER if gain > 0 else WORSE
