"""A run that has a time instead of a number of epochs."""

from __future__ import annotations

import math

import msgspec

from edgeseg.train.config import TrainConfig

UNKNOWN = 10**6
"""Epochs of a run whose number is not known yet: more than any run reaches before it is."""


class TimeBudget:
    """Fits the number of epochs to a time, once, where the rate has to begin to fall.

    Under a trapezoid schedule the rate does not depend on the run's length until its cooldown. So nothing is decided
    before: when the cooldown's share of the time is left, the pace of the last epochs says how many more there will be.

    Args:
        config: `minutes` and `cooldown`.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._seconds = 60 * config.minutes
        self._cooldown = config.cooldown
        self._ends: list[tuple[int, float]] = []

    def finish_epoch(self, config: TrainConfig, epoch: int, elapsed_s: float) -> TrainConfig | None:
        """Note that an epoch is finished; the config with its number of epochs, or None where it is too early.

        Args:
            config: Of the run so far.
            epoch: Finished epochs.
            elapsed_s: Time since the start of the loop.
        """
        self._ends.append((epoch, elapsed_s))
        pace_s = self._pace_s()
        compiled = config.compile and len(self._ends) == 1  # says nothing of the epochs that follow
        # an epoch that would pass the place is the first in which the rate falls: long ones would run over the time
        if elapsed_s + (0 if compiled else pace_s) <= self._seconds * (1 - self._cooldown):
            return None
        left = max(1, math.floor((self._seconds - elapsed_s) / pace_s))
        epochs = epoch + left
        return msgspec.structs.replace(config, epochs=epochs, cooldown=left / epochs, minutes=0.0)

    def _pace_s(self) -> float:
        """Seconds an epoch over the last half of them: the first compiles the step and fills caches."""
        first = self._ends[len(self._ends) // 2 - 1] if len(self._ends) > 1 else (self._ends[0][0] - 1, 0.0)
        last = self._ends[-1]
        return (last[1] - first[1]) / (last[0] - first[0])
