"""The state of one camera: what its results say, and what is published when there is no frame to say it with.

The capture thread asks `picture` about each decoded frame and reports the camera itself with `lost` and `back`; the
engine thread asks `mask` about each mask, and `silent` between frames. A source that has `ended` is not `lost`: what is
finite comes to an end, a camera goes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from edgeseg.core.types import Frame, SourceInfo, State
from edgeseg.live.config import HealthConfig
from edgeseg.live.detect.black import BlackDetector
from edgeseg.live.detect.degraded import RateDetector
from edgeseg.live.detect.frozen import FrozenDetector
from edgeseg.live.detect.late import LateDetector
from edgeseg.live.detect.stale import StaleDetector
from edgeseg.live.detect.verdict import Verdict

_UNKNOWN_INTERVAL_NS = 100_000_000  # of a camera that does not tell its rate
_LEAST_STALE_NS = 200_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings of `HealthConfig` in nanoseconds, with the defaults of one kind of source filled in; 0 is off."""

    late_ns: int
    stale_ns: int
    frozen_ns: int
    keyframe_ns: int
    interval_ns: int

    @classmethod
    def of(cls, config: HealthConfig, info: SourceInfo) -> Limits:
        """Limits for a source: a file has no deadline, so nothing of it is late, stale or frozen unless asked for."""
        interval_ns = round(1e9 / info.rate_hz) if info.rate_hz else _UNKNOWN_INTERVAL_NS

        def ns(value_ms: float | None, camera_default_ns: int) -> int:
            if value_ms is None:
                return camera_default_ns if info.live else 0
            return round(value_ms * 1e6)

        return cls(
            late_ns=ns(config.late_ms, 2 * interval_ns),
            stale_ns=ns(config.stale_ms, max(5 * interval_ns, _LEAST_STALE_NS)),
            frozen_ns=ns(config.frozen_ms, 500_000_000),
            keyframe_ns=round(config.keyframe_ms * 1e6),
            interval_ns=interval_ns,
        )


class CameraHealth:
    """One camera's detectors and its present state.

    Args:
        config: Limits as given.
        now_ns: When watching starts.
    """

    def __init__(self, config: HealthConfig, *, now_ns: int) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._black = BlackDetector(config.black_level)
        self._frozen: FrozenDetector | None = None
        self._lost: Verdict | None = Verdict(State.LOST, "not opened yet")
        self._stale = StaleDetector(stale_ns=0, now_ns=now_ns)
        self._late = LateDetector(late_ns=0, growth_ns=0)
        self._rate = RateDetector(nominal_hz=None, min_share=0)
        self._published: State | None = None
        self._ended = False

    # ------------------------------------------------------------ the capture thread's side

    def back(self, info: SourceInfo, now_ns: int) -> None:
        """The camera is open (again): every detector starts afresh."""
        limits = Limits.of(self._config, info)
        self._frozen = None
        if limits.frozen_ns:
            self._frozen = FrozenDetector(
                repeats_by_design=info.coding == "inter",
                frozen_ns=limits.frozen_ns,
                keyframe_ns=limits.keyframe_ns,
            )
        with self._lock:
            self._stale = StaleDetector(stale_ns=limits.stale_ns, now_ns=now_ns)
            self._late = LateDetector(late_ns=limits.late_ns, growth_ns=limits.interval_ns)
            self._rate = RateDetector(nominal_hz=info.rate_hz if info.live else None, min_share=self._config.min_rate)
            self._lost = None

    def lost(self, reason: str) -> None:
        """The camera does not open, or has gone."""
        with self._lock:
            self._lost = Verdict(State.LOST, reason)

    def ended(self) -> None:
        """It has come to its end, as a file does: its silence is no news from here on."""
        with self._lock:
            self._ended = True

    def arrived(self, t_host_ns: int) -> None:
        """A frame was grabbed, and decoded where it had to be."""
        with self._lock:
            self._stale.frame(t_host_ns)
            self._rate.frame(t_host_ns)

    def picture(self, frame: Frame, t_host_ns: int) -> Verdict | None:
        """BLACK or FROZEN for a decoded frame that must not be segmented; None for a sound one."""
        frozen = self._frozen.check(frame, t_host_ns) if self._frozen is not None else None
        return self._black.check(frame.image_hwc, frame.form) or frozen

    # ------------------------------------------------------------ the engine thread's side

    def mask(self, *, age_ns: int, delay_ns: int, now_ns: int, degraded: str = "") -> Verdict | None:
        """LATE or DEGRADED for a mask that is ready; None where it is OK.

        Args:
            age_ns: Capture to mask.
            delay_ns: Capture to host.
            now_ns: Present time.
            degraded: Why this mask is less than it should be, where the loop knows of a reason.
        """
        with self._lock:
            late = self._late.check(age_ns=age_ns, delay_ns=delay_ns, now_ns=now_ns)
            slow = self._rate.check(now_ns)
        return late or (Verdict(State.DEGRADED, degraded) if degraded else slow)

    def publish(self, state: State) -> None:
        """A result of this state goes out."""
        self._published = state

    @property
    def state(self) -> State | None:
        """State of the last result that went out; None before the first."""
        return self._published

    def silent(self, now_ns: int) -> Verdict | None:
        """STALE or LOST where that is new: what to publish although no frame came."""
        with self._lock:
            verdict = None if self._ended else self._lost or self._stale.check(now_ns)
        if verdict is None or verdict.state is self._published:
            return None
        return verdict

    def due_ns(self) -> int | None:
        """When `silent` could change its mind by itself."""
        with self._lock:
            return None if self._ended or self._lost is not None else self._stale.due_ns()
