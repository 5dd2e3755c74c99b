"""The only place in edgeseg that reads time.

All intervals are monotonic nanoseconds. The wall clock is read only for labels on artefacts, never for arithmetic.
"""

from __future__ import annotations

import datetime as dt
import enum
import time


class CaptureClock(enum.Enum):
    """Where a frame's capture time comes from; every figure of capture-to-mask says which."""

    DRIVER = "driver"  # V4L2 buffer time, stamped by the kernel at the start of the frame
    PTS = "pts"  # presentation time of a stream, mapped to the monotonic clock
    HOST = "host"  # the return of `grab()`; never after decoding


def now_ns() -> int:
    """Monotonic time in nanoseconds (CLOCK_MONOTONIC: the clock that V4L2 stamps its buffers with)."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def cpu_ns() -> int:
    """Processor time of this process in nanoseconds, all threads."""
    return time.process_time_ns()


def thread_cpu_ns() -> int:
    """Processor time of the calling thread in nanoseconds: what a monitor itself costs."""
    return time.thread_time_ns()


def wall_iso() -> str:
    """Wall-clock time for labels, UTC, ISO 8601 to the second."""
    return dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def wall_ns() -> int:
    """Wall-clock time in nanoseconds since 1970, for recordings that other programs read; never for intervals."""
    return time.time_ns()


def sleep_until(t_ns: int) -> None:
    """Sleep until the monotonic time `t_ns`; returns at once where it has passed."""
    remaining = t_ns - now_ns()
    if remaining > 0:
        time.sleep(remaining / 1e9)


def sleep_ms(ms: float) -> None:
    """Sleep for `ms` milliseconds."""
    time.sleep(max(ms, 0.0) / 1e3)
