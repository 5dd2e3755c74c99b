"""The detectors, one by one, with times that tests make up."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.clock import CaptureClock
from edgeseg.core.types import U8, Frame, SourceInfo, State
from edgeseg.live.config import HealthConfig
from edgeseg.live.detect.black import BlackDetector
from edgeseg.live.detect.degraded import RateDetector
from edgeseg.live.detect.frozen import FrozenDetector
from edgeseg.live.detect.late import LateDetector
from edgeseg.live.detect.stale import StaleDetector
from edgeseg.live.health import CameraHealth, Limits

MS = 1_000_000


def scene(seed: int, size: tuple[int, int] = (120, 160)) -> U8:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def frame(image: U8, stamp_ms: float) -> Frame:
    return Frame(id=0, image_hwc=image, t_capture_ns=round(stamp_ms * MS), clock=CaptureClock.DRIVER)


def info(**changes: object) -> SourceInfo:
    values: dict[str, object] = {
        "uri": "x",
        "size": (4, 4),
        "rate_hz": 50.0,
        "live": True,
        "coding": "raw",
        "clock": CaptureClock.DRIVER,
    }
    return SourceInfo(**{**values, **changes})  # type: ignore[arg-type]


# ---------------------------------------------------------------- black


@pytest.mark.parametrize("level", [0, 5, 16])
def test_dark_noise_is_black(level: int) -> None:
    image = np.random.default_rng(0).integers(0, level + 1, (120, 160, 3), np.uint8)
    assert BlackDetector(16).check(image).state is State.BLACK  # type: ignore[union-attr]


def test_a_night_scene_with_a_few_lights_is_not_black() -> None:
    image = np.random.default_rng(0).integers(0, 10, (480, 640, 3), np.uint8)
    image[200:240, 100:260] = 230  # 2 % of the picture
    assert BlackDetector(16).check(image) is None


def test_one_colour_is_no_picture() -> None:
    verdict = BlackDetector(16).check(np.full((90, 120, 3), 128, np.uint8))
    assert verdict is not None
    assert "one colour" in verdict.reason


# ---------------------------------------------------------------- frozen


def frozen(*, inter: bool = False) -> FrozenDetector:
    return FrozenDetector(repeats_by_design=inter, frozen_ns=500 * MS, keyframe_ns=2000 * MS)


def test_a_picture_that_repeats_is_frozen_after_the_limit_and_not_before() -> None:
    detector, image = frozen(), scene(0)
    states = {t: detector.check(frame(image, t), t * MS) for t in range(0, 800, 20)}
    assert all(verdict is None for t, verdict in states.items() if t <= 520)
    assert all(verdict is not None and verdict.state is State.FROZEN for t, verdict in states.items() if t > 540)


@pytest.mark.parametrize("length", [2, 3, 8])
def test_a_loop_of_a_few_frames_is_frozen(length: int) -> None:
    detector = frozen()
    verdict = None
    for i in range(60):
        verdict = detector.check(frame(scene(i % length), i * 33), i * 33 * MS)
    assert verdict is not None
    assert verdict.state is State.FROZEN


def test_one_changed_byte_is_a_new_picture() -> None:
    """A still scene from a real sensor: noise moves some byte in every frame, also one that no sample sees."""
    detector = frozen()
    for i in range(100):
        image = scene(0)
        image.reshape(-1)[1 + i] ^= 1
        assert detector.check(frame(image, i * 33), i * 33 * MS) is None


def test_it_recovers_with_the_first_new_picture() -> None:
    detector = frozen()
    for i in range(40):
        detector.check(frame(scene(0), i * 33), i * 33 * MS)
    assert detector.check(frame(scene(0), 1400), 1400 * MS) is not None
    assert detector.check(frame(scene(1), 1433), 1433 * MS) is None


def test_a_still_scene_in_inter_coded_video_is_not_frozen() -> None:
    detector = frozen(inter=True)
    for t in range(0, 3900, 40):
        assert detector.check(frame(scene(0), t), t * MS) is None


def test_inter_coded_video_is_frozen_beyond_two_key_frame_intervals() -> None:
    detector = frozen(inter=True)
    verdicts = [detector.check(frame(scene(0), t), t * MS) for t in range(0, 4400, 40)]
    assert verdicts[-1] is not None


def test_stamps_that_repeat_are_frozen_in_every_coding() -> None:
    detector = frozen(inter=True)
    verdicts = [detector.check(frame(scene(i), 7.0), i * 40 * MS) for i in range(20)]
    assert verdicts[3] is None
    assert verdicts[-1] is not None
    assert "time stamps" in verdicts[-1].reason


def test_a_clock_that_jumps_back_once_is_not_frozen() -> None:
    detector = frozen()
    stamps = [i * 40 if i < 20 else i * 40 - 100_000 for i in range(60)]
    assert [detector.check(frame(scene(i), t), i * 40 * MS) for i, t in enumerate(stamps)] == [None] * 60


# ---------------------------------------------------------------- late


def test_an_old_mask_is_late() -> None:
    detector = LateDetector(late_ns=66 * MS, growth_ns=33 * MS)
    assert detector.check(age_ns=60 * MS, delay_ns=0, now_ns=0) is None
    verdict = detector.check(age_ns=70 * MS, delay_ns=0, now_ns=0)
    assert verdict is not None
    assert verdict.reason == "the mask is 70 ms old; limit 66 ms"


def test_a_delay_that_grows_is_late_although_each_mask_is_young_enough() -> None:
    detector = LateDetector(late_ns=1000 * MS, growth_ns=33 * MS)
    verdicts = [
        detector.check(age_ns=(100 + t // 50) * MS, delay_ns=(80 + t // 50) * MS, now_ns=t * MS)
        for t in range(0, 4000, 33)
    ]
    assert verdicts[30] is None, "1 s: grown by 20 ms"
    assert verdicts[-1] is not None, "4 s: grown by 60 ms at the least"


def test_jitter_of_the_delay_is_not_growth() -> None:
    rng = np.random.default_rng(0)
    detector = LateDetector(late_ns=1000 * MS, growth_ns=33 * MS)
    for t in range(0, 20_000, 33):
        delay_ns = round((20 + rng.exponential(30)) * MS)
        assert detector.check(age_ns=delay_ns, delay_ns=delay_ns, now_ns=t * MS) is None


# ---------------------------------------------------------------- stale, degraded


def test_silence_is_stale_and_a_frame_ends_it() -> None:
    detector = StaleDetector(stale_ns=200 * MS, now_ns=0)
    assert detector.check(200 * MS) is None
    assert detector.check(201 * MS) is not None
    assert detector.due_ns() == 200 * MS
    detector.frame(300 * MS)
    assert detector.check(400 * MS) is None


def test_half_the_promised_rate_is_degraded() -> None:
    detector = RateDetector(nominal_hz=30, min_share=0.5)
    for t in range(0, 5000, 100):
        detector.frame(t * MS)
    verdict = detector.check(4950 * MS)
    assert verdict is not None
    assert verdict.reason == "10 of 30 frames a second"


def test_the_promised_rate_is_not_degraded() -> None:
    detector = RateDetector(nominal_hz=30, min_share=0.5)
    for i in range(150):
        detector.frame(i * 33 * MS)
        assert detector.check(i * 33 * MS) is None


# ---------------------------------------------------------------- limits


def test_defaults_follow_the_rate_of_a_camera() -> None:
    limits = Limits.of(HealthConfig(), info())
    assert (limits.late_ns, limits.stale_ns, limits.frozen_ns) == (40 * MS, 200 * MS, 500 * MS)
    slow = Limits.of(HealthConfig(), info(rate_hz=5.0))
    assert (slow.late_ns, slow.stale_ns) == (400 * MS, 1000 * MS)


def test_of_a_file_nothing_is_late_or_stale_or_frozen_unless_asked_for() -> None:
    limits = Limits.of(HealthConfig(), info(live=False))
    assert (limits.late_ns, limits.stale_ns, limits.frozen_ns) == (0, 0, 0)
    asked = Limits.of(HealthConfig(late_ms=5, frozen_ms=50), info(live=False))
    assert (asked.late_ns, asked.stale_ns, asked.frozen_ns) == (5 * MS, 0, 50 * MS)


@pytest.mark.parametrize("bad", [{"late_ms": -1.0}, {"black_level": 255}, {"min_rate": 1.0}])
def test_limits_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        HealthConfig(**bad)  # type: ignore[arg-type]


def test_silence_is_news_once() -> None:
    health = CameraHealth(HealthConfig(), now_ns=0)
    health.back(info(), 0)
    verdict = health.silent(300 * MS)
    assert verdict is not None
    health.publish(verdict.state)
    assert health.silent(400 * MS) is None
    health.lost("unplugged")
    lost = health.silent(500 * MS)
    assert lost is not None
    assert (lost.state, lost.reason) == (State.LOST, "unplugged")
