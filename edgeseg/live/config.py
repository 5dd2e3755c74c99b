"""Settings of the live loop. All have defaults that suit a camera on a vehicle; a TOML file may set any of them."""

from __future__ import annotations

import msgspec

from edgeseg.core.resize import POLICIES, Policy


class HealthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When a picture or its age is not sound. None takes the default of the kind of source; 0 switches one off.

    Attributes:
        late_ms: A mask older than this is LATE. Default: two frame intervals of a camera; off for files.
        stale_ms: No frame for so long is STALE. Default: five frame intervals, at least 200 ms; off for files.
        frozen_ms: No new picture for so long is FROZEN. Default: 500 for raw and MJPEG cameras; off for files.
        keyframe_ms: Longest key-frame interval of inter-coded cameras, whose still pictures repeat by design: they
            are FROZEN beyond two of these, or at once when their time stamps repeat for `frozen_ms`.
        black_level: A picture whose brightest percent is at or under this (of 255) is BLACK.
        min_rate: A camera that gives less than this share of its nominal rate is DEGRADED.
    """

    late_ms: float | None = None
    stale_ms: float | None = None
    frozen_ms: float | None = None
    keyframe_ms: float = 10_000.0
    black_level: int = 16
    min_rate: float = 0.5

    def __post_init__(self) -> None:
        for name in ("late_ms", "stale_ms", "frozen_ms", "keyframe_ms"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}; allowed: 0 (off) or more")
        if not 0 <= self.black_level <= 254:
            raise ValueError(f"black_level is {self.black_level}; allowed: 0 to 254")
        if not 0 <= self.min_rate < 1:
            raise ValueError(f"min_rate is {self.min_rate}; allowed: 0 (off) to below 1")


class LiveConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the loop runs.

    Attributes:
        health: When a result is not OK.
        resize: What to do where the camera's size is not the engine's.
        min_confidence: Pixels that the engine is less sure of than this (0 to 1) become "no class".
        smooth_confidence: Pixels that the engine is less sure of than this keep the class that they had; 0 is off.
        smooth_frames: How many frames a pixel may do so.
        open_timeout_s: A source that has not opened by then ends the loop, unless `keep_trying`.
        lost_timeout_s: A camera that stays away for so long is lost for good, unless `keep_trying`.
        keep_trying: Start with cameras missing, and never give one up.
        retry_first_ms: First pause before a camera is opened again; doubles each time.
        retry_max_ms: Longest pause.
        sink_queue: Results that may wait for one sink.
        batch_wait_ms: With several cameras and a batch, how long a frame may wait for the others.
    """

    health: HealthConfig = HealthConfig()
    resize: Policy = "stretch"
    min_confidence: float = 0.0
    smooth_confidence: float = 0.0
    smooth_frames: int = 3
    open_timeout_s: float = 10.0
    lost_timeout_s: float = 30.0
    keep_trying: bool = False
    retry_first_ms: float = 250.0
    retry_max_ms: float = 8000.0
    sink_queue: int = 4
    batch_wait_ms: float = 5.0

    def __post_init__(self) -> None:
        if self.resize not in POLICIES:
            raise ValueError(f"resize is {self.resize!r}; allowed: {', '.join(POLICIES)}")
        for name in ("min_confidence", "smooth_confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0 to 1")
        if not 1 <= self.smooth_frames <= 30:
            raise ValueError(f"smooth_frames is {self.smooth_frames}; allowed: 1 to 30")
        if not 1 <= self.sink_queue <= 64:
            raise ValueError(f"sink_queue is {self.sink_queue}; allowed: 1 to 64")
        if not 0 < self.retry_first_ms <= self.retry_max_ms:
            raise ValueError(f"retry_first_ms is {self.retry_first_ms}; allowed: above 0, up to retry_max_ms")
        for name in ("open_timeout_s", "lost_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: above 0")
