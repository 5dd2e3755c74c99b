"""Comparing engines in one interleaved run, so that clocks, heat and neighbours hit all of them alike.

A round gives each engine one block of calls, in random order. The first call of a block refills the caches that the
others have emptied and meets their threads that still spin; it is a lead-in, made but not counted, for every engine
alike. Ratios are of medians; their interval comes from resampling whole rounds.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.clock import now_ns
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import U8, Runner
from edgeseg.measure.bootstrap import Interval, interval, replicates_for
from edgeseg.measure.timing import (
    Call,
    Recorder,
    Samples,
    WarmUpRule,
    call_of,
    collect_garbage,
    garbage_collections,
    stack_batches,
    warm_until_stable,
)


class Feed(NamedTuple):
    """A call and the batches that it is given, round and round: uint8 [N, …] each."""

    call: Call
    batches: Sequence[U8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Samples of several engines from one interleaved run.

    Attributes:
        samples: By name, in the order given.
        block: Counted calls in a block; sample i of an engine belongs to round i // block.
        lead_in: Calls before each block that were made but not counted.
    """

    samples: Mapping[str, Samples]
    block: int
    lead_in: int

    def ratio(self, name: str, base: str, *, seed: int = 0) -> tuple[float, Interval]:
        """Median engine time of `name` over that of `base`, with its 95 % interval.

        Args:
            name: Engine in the numerator.
            base: Engine in the denominator.
            seed: Of the resampling of rounds.
        """
        rounds = [
            self.samples[key].engine_ns.reshape(-1, self.block).astype(np.float64) / self.samples[key].frames_per_call
            for key in (name, base)
        ]
        return float(np.median(rounds[0]) / np.median(rounds[1])), _resampled_ratio(rounds[0], rounds[1], seed)


def compare_runners(
    runners: Mapping[str, Runner],
    frames: Mapping[str, Sequence[U8]] | Sequence[U8],
    *,
    duration_s: float,
    block: int = 5,
    lead_in: int = 1,
    rule: WarmUpRule | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Time several runners in one interleaved run.

    Args:
        runners: By name, none entered yet.
        frames: uint8 [H, W, C] at the frame size; a mapping by name where the sizes differ.
        duration_s: Length of the whole run, warm-up not counted; at least two rounds.
        block: Counted calls of one engine in a round.
        lead_in: Uncounted calls before them.
        rule: When an engine counts as warm.
        seed: Of the order within each round.
        progress: Where to show it.
    """
    with ExitStack() as stack:
        for runner in runners.values():
            stack.enter_context(runner)
        feeds = {
            name: Feed(
                call_of(runner),
                stack_batches(frames[name] if isinstance(frames, Mapping) else frames, runner.spec),
            )
            for name, runner in runners.items()
        }
        return compare_calls(
            feeds, duration_s=duration_s, block=block, lead_in=lead_in, rule=rule, seed=seed, progress=progress
        )


def compare_calls(
    feeds: Mapping[str, Feed],
    *,
    duration_s: float,
    block: int = 5,
    lead_in: int = 1,
    rule: WarmUpRule | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Time several calls in one interleaved run, each warmed up first: runners, or anything else that takes batches.

    Args:
        feeds: By name.
        duration_s: Length of the whole run, warm-up not counted; at least two rounds.
        block: Counted calls of one feed in a round.
        lead_in: Uncounted calls before them.
        rule: When a call counts as warm.
        seed: Of the order within each round.
        progress: Where to show it.
    """
    rule = rule or WarmUpRule()
    warm_ups = {name: warm_until_stable(feed.call, itertools.cycle(feed.batches), rule) for name, feed in feeds.items()}
    before = collect_garbage()
    recorders = interleave(feeds, duration_s=duration_s, block=block, lead_in=lead_in, seed=seed, progress=progress)
    collections = garbage_collections() - before
    samples = {
        name: recorder.samples(
            frames_per_call=len(feeds[name].batches[0]), warm_up=warm_ups[name], collections=collections
        )
        for name, recorder in recorders.items()
    }
    return Comparison(samples=samples, block=block, lead_in=lead_in)


def interleave(
    feeds: Mapping[str, Feed],
    *,
    duration_s: float,
    block: int,
    lead_in: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Recorder]:
    """Rounds of blocks in random order until the time is up; whole rounds only, at least two.

    Args:
        feeds: Warm calls by name. Any will do: this is also how the harness itself is compared with a bare loop.
        duration_s: Length of the run.
        block: Counted calls in a block.
        lead_in: Uncounted calls before them.
        seed: Of the order within each round.
        progress: Where to show it.
    """
    progress = progress or Silent()
    recorders = {name: Recorder() for name in feeds}
    positions = dict.fromkeys(feeds, 0)
    rng = np.random.default_rng(seed)
    names = list(feeds)
    rounds = 0
    with progress.task("engines, interleaved", duration_s) as task:
        begin_ns = now_ns()
        while rounds < 2 or now_ns() - begin_ns < duration_s * 1e9:
            round_ns = now_ns()
            for pick in rng.permutation(len(names)):
                name = names[pick]
                call, batches = feeds[name]
                for i in range(lead_in + block):
                    batch = batches[positions[name] % len(batches)]
                    positions[name] += 1
                    start_ns = now_ns()
                    times = call(batch)
                    if i >= lead_in:
                        recorders[name].add(start_ns, now_ns(), times)
            rounds += 1
            task.advance((now_ns() - round_ns) / 1e9)
    return recorders


def _resampled_ratio(first: NDArray[np.float64], second: NDArray[np.float64], seed: int) -> Interval:
    rounds = min(len(first), len(second))
    rng = np.random.default_rng(seed)
    ratios = np.empty(replicates_for(first.size))
    for i in range(len(ratios)):
        pick = rng.integers(0, rounds, rounds)
        ratios[i] = np.median(first[pick]) / np.median(second[pick])
    return interval(ratios)
