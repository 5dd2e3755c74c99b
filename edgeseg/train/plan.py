"""Where every random number of a run comes from: seed, epoch, step and position, never a stream's state.

A run that is killed and resumed, or resumed on another number of processes, therefore draws the same numbers again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


class Purpose(enum.IntEnum):
    """What numbers are drawn for; keeps the draws of one place apart from another's."""

    ORDER = 1
    SAMPLE = 2
    STEP = 3
    CROP = 4
    MASK = 5


def generator(seed: int, purpose: Purpose, *place: int) -> np.random.Generator:
    """A generator of its own for one purpose at one place of the run (epoch, position …)."""
    return np.random.default_rng([seed, int(purpose), *place])


def seed_torch(seed: int, purpose: Purpose, *place: int) -> None:
    """Set torch's global generators, which stochastic depth and initialisation draw from."""
    torch.manual_seed(int(generator(seed, purpose, *place).integers(2**63)))


@dataclass(frozen=True)
class EpochPlan:
    """Which frame is at which position of an epoch.

    Attributes:
        order: Frame index by position, [steps * batch].
        batch: Frames in a step, over all processes.
    """

    order: NDArray[np.int64]
    batch: int

    @property
    def steps(self) -> int:
        """Optimiser steps of the epoch."""
        return len(self.order) // self.batch

    def positions(self, step: int, rank: int = 0, world: int = 1) -> range:
        """Positions of one process in one step: every `world`-th of the step's."""
        return range(step * self.batch + rank, (step + 1) * self.batch, world)


def steps_per_epoch(frames: int, batch: int) -> int:
    """Whole batches of an epoch; a set smaller than a batch still gives one step."""
    return max(1, frames // batch)


def plan_epoch(
    frames: int, batch: int, *, seed: int, epoch: int, repeats: NDArray[np.float64] | None = None
) -> EpochPlan:
    """A shuffled epoch; frames that do not fill the last batch wait for another epoch.

    Args:
        frames: Number of frames.
        batch: Frames in a step.
        seed: Of the run.
        epoch: From 0.
        repeats: Expected appearances of each frame relative to the others', [frames]; None for equal ones.
    """
    length = steps_per_epoch(frames, batch) * batch
    rng = generator(seed, Purpose.ORDER, epoch)
    if repeats is None:
        rounds = [rng.permutation(frames) for _ in range(-(-length // frames))]
        return EpochPlan(np.concatenate(rounds)[:length], batch)
    # systematic resampling: appearances differ from their expectation by less than one
    edges = np.cumsum(repeats) / repeats.sum() * length
    picks = np.searchsorted(edges, np.arange(length) + rng.random(), side="right")
    return EpochPlan(rng.permutation(np.minimum(picks, frames - 1)), batch)


def repeat_factors(shows: NDArray[np.bool_], below: float) -> NDArray[np.float64]:
    """How often each frame comes up (repeat-factor sampling: Gupta et al., "LVIS", 2019, section 4.2).

    Args:
        shows: Whether a frame shows a class, [frames, classes].
        below: Share of the frames under which a class is rare.

    Returns:
        max over a frame's classes of max(1, sqrt(below / share of frames with the class)), [frames].
    """
    share = np.maximum(shows.mean(axis=0), 1 / len(shows))
    factors = np.maximum(1.0, np.sqrt(below / share))
    return np.asarray(np.where(shows, factors, 1.0).max(axis=1))
