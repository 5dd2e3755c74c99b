"""A thread that reads the device's sensors a few times a second beside a bench, and says what that cost."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeseg.bench.sensors import Channel, PowerState, find_channels, module_power, power_state
from edgeseg.core.clock import now_ns, thread_cpu_ns

PERIOD_S = 0.5
"""Readings twice a second: sysfs files on Jetson boards cost up to a millisecond each."""


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """The timeline of one bench.

    Attributes:
        t_ms: Time of each reading since the first, the benches' own clock.
        start_ns: Monotonic time of the first one.
        temperature_c: By zone; None where a single read failed.
        clock_mhz: By clock.
        power_w: By rail.
        memory_mb: Resident memory of this process.
        module_power_w: Of the whole module or package; empty where no sensor tells.
        throttled: Names of what throttled, by reading.
        state: Power mode, governor and locked clocks at the start.
        cost_share: Processor time spent reading over the time of the bench.
    """

    t_ms: list[float]
    start_ns: int
    temperature_c: dict[str, list[float | None]]
    clock_mhz: dict[str, list[float | None]]
    power_w: dict[str, list[float | None]]
    memory_mb: list[float]
    module_power_w: list[float | None]
    throttled: list[list[str]]
    state: PowerState
    cost_share: float

    @property
    def ever_throttled(self) -> list[str]:
        """Everything that throttled at some time."""
        return sorted({name for names in self.throttled for name in names})

    def memory_slope_mb_per_min(self, begin_ns: int, end_ns: int) -> float | None:
        """Least-squares slope of resident memory between two monotonic times; None for under ten readings."""
        times_ms = np.array(self.t_ms)
        inside = (times_ms >= (begin_ns - self.start_ns) / 1e6) & (times_ms <= (end_ns - self.start_ns) / 1e6)
        if inside.sum() < 10:
            return None
        return float(np.polyfit(times_ms[inside] / 60_000, np.array(self.memory_mb)[inside], 1)[0])

    def energy_j(self, begin_ns: int, end_ns: int) -> float | None:
        """Energy of the module between two monotonic times: power integrated by the trapezoid rule.

        None where power is not measured, or fewer than two readings lie inside.
        """
        known = [
            (self.start_ns + t_ms * 1e6, watts)
            for t_ms, watts in zip(self.t_ms, self.module_power_w, strict=False)
            if watts is not None
        ]
        inside = [(t_ns, watts) for t_ns, watts in known if begin_ns <= t_ns <= end_ns]
        if len(inside) < 2:
            return None
        times: NDArray[np.float64] = np.array([t_ns for t_ns, _ in inside]) / 1e9
        watts = np.array([value for _, value in inside])
        mean_w = float(np.sum((watts[1:] + watts[:-1]) / 2 * np.diff(times)) / (times[-1] - times[0]))
        return mean_w * (end_ns - begin_ns) / 1e9


class Monitor(threading.Thread):
    """Reads until it is stopped.

    Args:
        root: Where sysfs is.
        period_s: Time between readings.
    """

    def __init__(self, root: Path = Path("/"), period_s: float = PERIOD_S) -> None:
        super().__init__(name="sensors", daemon=True)
        self._channels: list[Channel] = find_channels(root)
        self._state = power_state(root)
        self._period_s = period_s
        self._done = threading.Event()
        self._times: list[int] = []
        self._rows: list[list[float | None]] = []
        self._memory_mb: list[float] = []
        self._cost_ns = 0

    def run(self) -> None:
        """Thread body."""
        while True:
            begin_ns, cost_ns = now_ns(), thread_cpu_ns()
            row = [channel.read() for channel in self._channels]
            self._times.append(begin_ns)
            self._rows.append(row)
            self._memory_mb.append(resident_mb())
            self._cost_ns += thread_cpu_ns() - cost_ns
            if self._done.wait(self._period_s):
                return

    def end(self) -> None:
        """End the thread; may be called twice."""
        self._done.set()
        self.join()

    def readings(self) -> Readings:
        """What was read; ends the thread."""
        self.end()
        total_ns = max(1, now_ns() - self._times[0])
        columns: dict[str, dict[str, list[float | None]]] = {"temperature_c": {}, "clock_mhz": {}, "power_w": {}}
        for i, channel in enumerate(self._channels):
            if channel.kind != "throttle":
                columns[channel.kind][self._unique(i)] = [row[i] for row in self._rows]
        module = module_power(self._channels)
        return Readings(
            t_ms=[(t_ns - self._times[0]) / 1e6 for t_ns in self._times],
            start_ns=self._times[0],
            temperature_c=columns["temperature_c"],
            clock_mhz=columns["clock_mhz"],
            power_w=columns["power_w"],
            memory_mb=self._memory_mb,
            module_power_w=[_total([row[i] for i in module]) for row in self._rows] if module else [],
            throttled=[
                [channel.name for channel, value in zip(self._channels, row, strict=True) if _throttles(channel, value)]
                for row in self._rows
            ],
            state=self._state,
            cost_share=self._cost_ns / total_ns,
        )

    def _unique(self, index: int) -> str:
        channel = self._channels[index]
        twins = [
            i for i, other in enumerate(self._channels) if (other.kind, other.name) == (channel.kind, channel.name)
        ]
        return channel.name if len(twins) == 1 else f"{channel.name} #{twins.index(index)}"


@contextmanager
def monitored(root: Path = Path("/"), period_s: float = PERIOD_S) -> Iterator[Monitor]:
    """A running monitor, which ends with the block; then ask it for its readings."""
    monitor = Monitor(root, period_s)
    monitor.start()
    try:
        yield monitor
    finally:
        monitor.end()


def resident_mb() -> float:
    """Resident memory of this process in MiB, from /proc/self/statm; 0 where there is none."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * resource.getpagesize() / 2**20


def _total(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _throttles(channel: Channel, value: float | None) -> bool:
    return channel.kind == "throttle" and value is not None and value > 0
