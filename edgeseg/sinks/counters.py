"""Counts and latencies of what was published, for the web page and for Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.clock import now_ns
from edgeseg.core.types import Result, Stage, State

_WINDOW = 512  # results behind the percentiles
_BUCKETS_S = (0.005, 0.01, 0.02, 0.033, 0.05, 0.066, 0.1, 0.2, 0.5, 1.0)


@dataclass(slots=True)
class _Camera:
    uri: str
    state: State | None = None
    reason: str = ""
    results: dict[State, int] = field(default_factory=dict)
    skipped: int = 0
    last_id: int = -1
    last_ns: int = 0
    ages_ns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_WINDOW, np.int64))
    times_ns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_WINDOW, np.int64))
    masks: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS_S) + 1))
    age_sum_s: float = 0.0
    stages_ns: dict[Stage, int] = field(default_factory=dict)


class Counters:
    """Takes every result; may be read from any thread.

    Args:
        uris: One per camera, credentials removed.
    """

    def __init__(self, uris: Sequence[str]) -> None:
        self._cameras = [_Camera(uri) for uri in uris]
        self._lock = threading.Lock()

    def add(self, result: Result) -> None:
        """Count one result."""
        with self._lock:
            camera = self._cameras[result.camera]
            camera.state, camera.reason = result.state, result.reason
            camera.results[result.state] = camera.results.get(result.state, 0) + 1
            if result.frame_id < 0:
                return
            camera.skipped += max(0, result.frame_id - camera.last_id - 1)
            camera.last_id, camera.last_ns = result.frame_id, result.t_result_ns
            if result.mask_hw is None:
                return
            slot = camera.masks % _WINDOW
            camera.ages_ns[slot], camera.times_ns[slot] = result.age_ns, result.t_result_ns
            camera.masks += 1
            age_s = result.age_ns / 1e9
            camera.buckets[int(np.searchsorted(_BUCKETS_S, age_s))] += 1
            camera.age_sum_s += age_s
            camera.stages_ns = dict(result.stages_ns)

    def snapshot(self) -> list[dict[str, object]]:
        """One plain record a camera, for the web page."""
        with self._lock:
            return [_record(number, camera) for number, camera in enumerate(self._cameras)]

    def prometheus(self) -> str:
        """All counts in Prometheus' text format (version 0.0.4)."""
        with self._lock:
            lines = [
                "# HELP edgeseg_results_total Results by state.",
                "# TYPE edgeseg_results_total counter",
                *(
                    f'edgeseg_results_total{{camera="{n}",state="{state.value}"}} {count}'
                    for n, camera in enumerate(self._cameras)
                    for state, count in sorted(camera.results.items(), key=lambda item: item[0].value)
                ),
                "# HELP edgeseg_skipped_frames_total Frames without a result here: dropped, or this sink was busy.",
                "# TYPE edgeseg_skipped_frames_total counter",
                *(f'edgeseg_skipped_frames_total{{camera="{n}"}} {c.skipped}' for n, c in enumerate(self._cameras)),
                "# HELP edgeseg_state Present state: 1 for the one that holds.",
                "# TYPE edgeseg_state gauge",
                *(
                    f'edgeseg_state{{camera="{n}",state="{state.value}"}} {int(camera.state is state)}'
                    for n, camera in enumerate(self._cameras)
                    for state in State
                ),
                "# HELP edgeseg_mask_age_seconds Capture to mask.",
                "# TYPE edgeseg_mask_age_seconds histogram",
                *(line for n, camera in enumerate(self._cameras) for line in _histogram(n, camera)),
                "# HELP edgeseg_since_last_frame_seconds Time since the last frame.",
                "# TYPE edgeseg_since_last_frame_seconds gauge",
                *(
                    f'edgeseg_since_last_frame_seconds{{camera="{n}"}} {(now_ns() - camera.last_ns) / 1e9:.3f}'
                    for n, camera in enumerate(self._cameras)
                    if camera.last_ns
                ),
            ]
        return "\n".join(lines) + "\n"


def _histogram(number: int, camera: _Camera) -> list[str]:
    total, lines = 0, []
    for limit, count in zip((*_BUCKETS_S, float("inf")), camera.buckets, strict=True):
        total += count
        le = "+Inf" if limit == float("inf") else f"{limit:g}"
        lines.append(f'edgeseg_mask_age_seconds_bucket{{camera="{number}",le="{le}"}} {total}')
    lines.append(f'edgeseg_mask_age_seconds_sum{{camera="{number}"}} {camera.age_sum_s:.6f}')
    lines.append(f'edgeseg_mask_age_seconds_count{{camera="{number}"}} {total}')
    return lines


def _record(number: int, camera: _Camera) -> dict[str, object]:
    kept = min(camera.masks, _WINDOW)
    ages_ms = camera.ages_ns[:kept] / 1e6
    times = camera.times_ns[:kept]
    recent = int((times > now_ns() - 2_000_000_000).sum())
    last = (camera.masks - 1) % _WINDOW
    return {
        "camera": number,
        "uri": camera.uri,
        "state": camera.state.value if camera.state else "",
        "reason": camera.reason,
        "frame": camera.last_id,
        "age_ms": round(float(camera.ages_ns[last]) / 1e6, 2) if kept else None,
        "p50_ms": round(float(np.percentile(ages_ms, 50)), 2) if kept else None,
        "p99_ms": round(float(np.percentile(ages_ms, 99)), 2) if kept >= 100 else None,
        "rate_hz": recent / 2,
        "skipped": camera.skipped,
        "stages_ms": {stage.value: round(ns / 1e6, 2) for stage, ns in camera.stages_ns.items()},
    }
