"""Stage times of the last results in memory that is allocated once, for percentiles at the end and rates meanwhile."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.types import Result, Stage

CAPACITY = 65_536  # 36 minutes at 30 Hz; older rows are written over
_STAGES = tuple(Stage)
_COLUMNS = {stage: 3 + index for index, stage in enumerate(_STAGES)}
_MASK, _AGE, _WHEN = 0, 1, 2


class StageLog:
    """One row a result with a frame: whether it had a mask, its age, when it was ready, and its stages.

    Args:
        capacity: Rows kept.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        # filled, not empty: the pages are there from the start, so memory does not grow while rows come in
        self._rows = np.full((capacity, 3 + len(_STAGES)), -1, np.int64)
        self._lock = threading.Lock()
        self._count = 0

    @property
    def count(self) -> int:
        """Rows ever added."""
        return self._count

    def add(self, result: Result, sink_ns: int) -> None:
        """Add a result that every sink is done with, `sink_ns` after its mask was ready."""
        if result.frame_id < 0:
            return
        with self._lock:
            row = self._rows[self._count % len(self._rows)]
            self._count += 1
            row[_MASK] = result.mask_hw is not None
            row[_AGE] = result.age_ns
            row[_WHEN] = result.t_result_ns
            for stage, column in _COLUMNS.items():
                row[column] = result.stages_ns.get(stage, -1)
            row[_COLUMNS[Stage.SINK]] = sink_ns

    def ages_ns(self) -> NDArray[np.int64]:
        """Capture to mask of the results that have a mask."""
        return self._with_mask()[:, _AGE]

    def engine_ages_ns(self) -> NDArray[np.int64]:
        """Age minus the result's own engine time: what the loop itself adds."""
        rows = self._with_mask()
        return rows[:, _AGE] - rows[:, _COLUMNS[Stage.ENGINE]]

    def stage_ns(self, stage: Stage) -> NDArray[np.int64]:
        """One stage of the results that have a mask and went through it."""
        column = self._with_mask()[:, _COLUMNS[stage]]
        return column[column >= 0]

    def rate_hz(self) -> float | None:
        """Results a second from the first to the last kept; None for fewer than two."""
        times = self._kept()[:, _WHEN]
        span = int(times.max() - times.min()) if len(times) > 1 else 0
        return (len(times) - 1) * 1e9 / span if span else None

    def recent_rate_hz(self, rows: int = 30) -> float | None:
        """Results a second over the last few; None for fewer than two."""
        with self._lock:
            last = self._count - 1
            first = max(0, last - rows)
            if first >= last:
                return None
            span = self._rows[last % len(self._rows), _WHEN] - self._rows[first % len(self._rows), _WHEN]
        return (last - first) * 1e9 / int(span) if span > 0 else None

    def _with_mask(self) -> NDArray[np.int64]:
        rows = self._kept()
        masked: NDArray[np.int64] = rows[rows[:, _MASK] == 1]
        return masked

    def _kept(self) -> NDArray[np.int64]:
        with self._lock:
            kept: NDArray[np.int64] = self._rows[: min(self._count, len(self._rows))].copy()
        return kept
