"""What a long run adds: the first minute against the last, and whether memory grows."""

from __future__ import annotations

import msgspec
import numpy as np

from edgeseg.bench.monitor import Readings
from edgeseg.core.metrics import Series, series_ms
from edgeseg.measure import Samples, ratio_interval

LEAST_S = 120.0
"""Back-to-back time from which there is a first and a last minute."""
_MINUTE_NS = 60 * 10**9


class Sustained(msgspec.Struct, frozen=True, kw_only=True):
    """The first minute of the back-to-back half against its last.

    Attributes:
        first_minute_ms: Engine times of the first minute.
        last_minute_ms: Of the last.
        ratio_p50: Last over first: over 1 is slower when hot.
        ci95: Its interval.
        memory_slope_mb_per_min: Growth of resident memory over the half.
        hottest_c: Highest temperature of any zone; None where none tells.
        throttled: What throttled at some time.
    """

    first_minute_ms: Series
    last_minute_ms: Series
    ratio_p50: float
    ci95: tuple[float, float]
    memory_slope_mb_per_min: float | None
    hottest_c: float | None
    throttled: list[str]


def sustained(engine: Samples, readings: Readings) -> Sustained | None:
    """The comparison, or None where the run was too short for it."""
    start_ns, end_ns = int(engine.start_ns[0]), int(engine.start_ns[-1])
    if end_ns - start_ns < LEAST_S * 1e9:
        return None
    first = engine.engine_ns[engine.start_ns < start_ns + _MINUTE_NS]
    last = engine.engine_ns[engine.start_ns > end_ns - _MINUTE_NS]
    ratio = ratio_interval(last, first)
    if ratio is None:
        return None
    known = [value for zone in readings.temperature_c.values() for value in zone if value is not None]
    return Sustained(
        first_minute_ms=series_ms(first),
        last_minute_ms=series_ms(last),
        ratio_p50=ratio[0],
        ci95=ratio[1],
        memory_slope_mb_per_min=readings.memory_slope_mb_per_min(start_ns, end_ns),
        hottest_c=float(np.max(known)) if known else None,
        throttled=readings.ever_throttled,
    )
