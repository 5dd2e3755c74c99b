"""Timing a runner back to back: warm up until it is stable, then keep every sample.

Nothing is trimmed. The garbage collector runs once before the first sample and then stays as it is in the live loop,
switched on; how often it ran is part of the result. Memory for samples grows outside the timed region.
"""

from __future__ import annotations

import gc
import itertools
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.clock import now_ns
from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import U8, Runner, RunnerSpec, RunTimes

Call = Callable[[U8], RunTimes]
"""Runs one batch and says where its time went."""


class WarmUpRule(msgspec.Struct, frozen=True, kw_only=True):
    """When a runner counts as warm: the medians of the last windows lie within a tolerance of each other.

    Attributes:
        windows: How many windows must agree.
        window_calls: Fewest calls in a window.
        window_s: Shortest window.
        tolerance: Largest relative spread of the medians, (max - min) / min.
        limit_s: After this the run begins anyway, and says that it never became stable.
    """

    windows: int = 3
    window_calls: int = 5
    window_s: float = 0.1
    tolerance: float = 0.05
    limit_s: float = 5.0

    def __post_init__(self) -> None:
        if self.windows < 2 or self.window_calls < 1 or self.tolerance <= 0:
            raise ValueError(f"a warm-up needs 2 windows of 1 call and a positive tolerance; got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """What warming up took.

    Attributes:
        calls: Calls before the first sample.
        duration_ns: Their time.
        stable: Whether the last windows agreed.
        medians_ms: Median of each window, in order.
    """

    calls: int
    duration_ns: int
    stable: bool
    medians_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Every call of one run, in order; all arrays int64 [n], nanoseconds.

    Attributes:
        start_ns: Monotonic time of each call.
        engine_ns: The runtime's own time.
        copy_in_ns: Host and device copies of the frame.
        copy_out_ns: Copies of the mask.
        call_ns: Submit to mask, seen from outside.
        frames_per_call: Batch.
        warm_up: What came before.
        collections: Times that the garbage collector ran meanwhile.
    """

    start_ns: NDArray[np.int64]
    engine_ns: NDArray[np.int64]
    copy_in_ns: NDArray[np.int64]
    copy_out_ns: NDArray[np.int64]
    call_ns: NDArray[np.int64]
    frames_per_call: int
    warm_up: WarmUp
    collections: int

    @property
    def stable(self) -> bool:
        """Whether the warm-up became stable."""
        return self.warm_up.stable

    @property
    def fps(self) -> float | None:
        """Frames per second of the whole run, first call to the end of the last."""
        if not len(self.start_ns):
            return None
        total_ns = int(self.start_ns[-1] + self.call_ns[-1] - self.start_ns[0])
        return len(self.start_ns) * self.frames_per_call * 1e9 / total_ns


class Recorder:
    """Collects one run's samples."""

    def __init__(self) -> None:
        self._columns = tuple(array("q") for _ in range(5))

    def __len__(self) -> int:
        return len(self._columns[0])

    def add(self, start_ns: int, end_ns: int, times: RunTimes) -> None:
        """Keep one call."""
        values = (start_ns, times.engine_ns, times.copy_in_ns, times.copy_out_ns, end_ns - start_ns)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    def samples(self, *, frames_per_call: int, warm_up: WarmUp, collections: int) -> Samples:
        """All that was kept."""
        start, engine, copy_in, copy_out, call = (np.array(column, dtype=np.int64) for column in self._columns)
        return Samples(
            start_ns=start,
            engine_ns=engine,
            copy_in_ns=copy_in,
            copy_out_ns=copy_out,
            call_ns=call,
            frames_per_call=frames_per_call,
            warm_up=warm_up,
            collections=collections,
        )


def measure_runner(
    runner: Runner,
    frames: Sequence[U8],
    *,
    duration_s: float,
    rule: WarmUpRule | None = None,
    progress: Progress | None = None,
) -> Samples:
    """Time a runner back to back.

    Args:
        runner: Not entered yet (or one whose entering nests): it is entered and left here.
        frames: uint8 [H, W, C] at the runner's frame size, played round and round.
        duration_s: Length of the measurement, warm-up not counted; at least one call.
        rule: When it counts as warm.
        progress: Where to show it.

    Raises:
        RequestError: No frames, or frames of another size.
    """
    progress = progress or Silent()
    with runner, progress.task("engine, back to back", duration_s) as task:
        batches = itertools.cycle(stack_batches(frames, runner.spec))
        call = call_of(runner)
        warm_up = warm_until_stable(call, batches, rule or WarmUpRule())
        recorder = Recorder()
        before = collect_garbage()
        end_ns = now_ns() + int(duration_s * 1e9)
        shown_ns = start_ns = now_ns()
        while start_ns < end_ns or not len(recorder):
            batch = next(batches)
            start_ns = now_ns()
            times = call(batch)
            recorder.add(start_ns, now_ns(), times)
            if start_ns - shown_ns > 250_000_000:
                task.advance((start_ns - shown_ns) / 1e9)
                shown_ns = start_ns
        return recorder.samples(
            frames_per_call=runner.spec.batch, warm_up=warm_up, collections=garbage_collections() - before
        )


def warm_until_stable(call: Call, batches: Iterator[U8], rule: WarmUpRule) -> WarmUp:
    """Call until the engine times of whole windows agree, or the limit is reached."""
    begin_ns = now_ns()
    medians: list[float] = []
    calls = 0
    stable = False
    while not stable and now_ns() - begin_ns < rule.limit_s * 1e9:
        window: list[int] = []
        window_end_ns = now_ns() + int(rule.window_s * 1e9)
        while len(window) < rule.window_calls or now_ns() < window_end_ns:
            window.append(call(next(batches)).engine_ns)
        calls += len(window)
        medians.append(float(np.median(window)) / 1e6)
        last = medians[-rule.windows :]
        stable = len(last) == rule.windows and max(last) - min(last) <= rule.tolerance * min(last)
    return WarmUp(calls=calls, duration_ns=now_ns() - begin_ns, stable=stable, medians_ms=tuple(medians))


def call_of(runner: Runner) -> Call:
    """A runner as a `Call`: the lease is given back at once."""

    def call(batch: U8) -> RunTimes:
        output = runner.infer(batch)
        output.release()
        return output.times

    return call


def stack_batches(frames: Sequence[U8], spec: RunnerSpec) -> list[U8]:
    """Batches [N, …] from frames, stacked before any clock starts; the last one is filled from the first frames.

    Raises:
        RequestError: There are no frames.
    """
    if not len(frames):
        raise RequestError("timing needs frames", value=0, allowed="at least one frame")
    count = -(-len(frames) // spec.batch)
    cycle = [frames[i % len(frames)] for i in range(count * spec.batch)]
    return [np.stack(cycle[i * spec.batch : (i + 1) * spec.batch]) for i in range(count)]


def collect_garbage() -> int:
    """Collect now, so that no sample pays for what came before; returns `garbage_collections()`."""
    gc.collect()
    return garbage_collections()


def garbage_collections() -> int:
    """How often the collector ran in this process."""
    return sum(int(generation["collections"]) for generation in gc.get_stats())
