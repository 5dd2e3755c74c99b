"""Flicker is measured on what stands still; smoothing reduces it and lets no pixel grow old."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeseg.core.errors import RequestError
from edgeseg.live.config import LiveConfig
from edgeseg.live.request import LiveRequest, LoadedEngine
from edgeseg.live.smoothing import Smoother
from edgeseg.sinks.flicker import Flicker, FlickerSink

SIZE = (40, 40)


def flickering(rng: np.random.Generator, share: float) -> tuple[np.ndarray, np.ndarray]:
    """A mask of class 1 in which a share of the pixels says 2, and is unsure."""
    wrong = rng.random(SIZE) < share
    return np.where(wrong, 2, 1).astype(np.uint8), np.where(wrong, 90, 250).astype(np.uint8)


def test_flicker_counts_changes_of_still_pixels_only() -> None:
    measure = Flicker()
    image = np.full((*SIZE, 3), 100, np.uint8)
    first, second = np.ones(SIZE, np.uint8), np.ones(SIZE, np.uint8)
    second[:20] = 2
    measure.add(0, image, first)
    measure.add(1, image, second)
    assert measure.share == 0.5
    moved = image.copy()
    moved[20:] += 60
    measure.add(2, moved, np.full(SIZE, 2, np.uint8))
    assert measure.share == pytest.approx(1 / 3), "the lower half moved: its change is none"


def test_flicker_starts_afresh_after_a_gap() -> None:
    measure = Flicker()
    image = np.full((*SIZE, 3), 100, np.uint8)
    measure.add(0, image, np.zeros(SIZE, np.uint8))
    measure.skip()
    measure.add(1, image, np.ones(SIZE, np.uint8))
    measure.add(40, image, np.zeros(SIZE, np.uint8))
    assert measure.share is None


def test_smoothing_removes_flicker_of_unsure_pixels() -> None:
    rng, smoother = np.random.default_rng(0), Smoother(gate=128, hold=3)
    raw, smooth = Flicker(), Flicker()
    image = np.full((*SIZE, 3), 100, np.uint8)
    for number in range(50):
        mask, confidence = flickering(rng, 0.1)
        raw.add(number, image, mask)
        if number == 0:
            mask.fill(1)
        smoother.apply(number, mask, confidence)
        smooth.add(number, image, mask)
    assert raw.share is not None
    assert smooth.share is not None
    assert raw.share > 0.1
    assert smooth.share < raw.share / 50


def test_a_sure_change_is_taken_at_once_and_an_unsure_one_after_the_hold() -> None:
    smoother = Smoother(gate=128, hold=3)
    seen = []
    for number in range(7):
        mask = np.full((1, 2), 0 if number == 0 else 5, np.uint8)
        smoother.apply(number, mask, np.array([[200, 60]], np.uint8))
        seen.append(mask[0].tolist())
    assert seen == [[0, 0], [5, 0], [5, 0], [5, 0], [5, 5], [5, 5], [5, 5]]


def test_a_gap_lets_go() -> None:
    smoother = Smoother(gate=128, hold=3)
    smoother.apply(0, np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    mask = np.ones((1, 1), np.uint8)
    smoother.apply(40, mask, np.zeros((1, 1), np.uint8))
    assert mask[0, 0] == 1


@pytest.mark.parametrize("setting", ["min_confidence", "smooth_confidence"])
def test_an_engine_without_confidence_is_refused(kit: SimpleNamespace, null: Callable[..., Any], setting: str) -> None:
    source = kit.ScriptedSource([kit.Shot(kit.picture(0))], live=False)
    with pytest.raises(RequestError, match="confidence"):
        kit.play(
            LiveRequest(engine=LoadedEngine(null()), sources=[source], config=LiveConfig(**{setting: 0.5}))  # type: ignore[arg-type]
        )


def test_the_summary_tells_the_flicker(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    steps = [kit.Shot(np.full((*kit.SIZE, 3), 100 + i % 2 * 4, np.uint8)) for i in range(6)]
    for step in steps:
        step.image[:, :16] += 50
    request = LiveRequest(
        engine=LoadedEngine(null()), sources=[kit.ScriptedSource(steps, live=False)], sinks=[FlickerSink()]
    )
    assert kit.play(request).cameras[0].flicker == 1.0, "still pictures, and every mask differs from the one before"
