"""What LoadGen found, in a file of its own: reading a saved result needs no LoadGen."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

Scenario = Literal["SingleStream", "MultiStream", "Offline"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)


class LoadGenResult(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario on two stopwatches.

    Attributes:
        scenario: MLPerf's name.
        version: Of LoadGen.
        queries: Queries that LoadGen issued.
        samples: Frames in them.
        loadgen_p90_ms: LoadGen's 90th percentile of a query; None for Offline, which is one query.
        own_p90_ms: The harness's, of the same queries.
        fps: Frames a second of the whole scenario, by the harness.
        valid: What LoadGen says of its own minimum duration and query count.
        logs: Folder of its log files.
    """

    scenario: Scenario
    version: str
    queries: int
    samples: int
    loadgen_p90_ms: float | None
    own_p90_ms: float | None
    fps: float
    valid: bool
    logs: str

    @property
    def agrees(self) -> bool | None:
        """Whether the two p90 differ by at most 3 % + 0.1 ms; None where there is none."""
        if self.loadgen_p90_ms is None or self.own_p90_ms is None:
            return None
        return abs(self.loadgen_p90_ms - self.own_p90_ms) <= 0.03 * self.loadgen_p90_ms + 0.1
