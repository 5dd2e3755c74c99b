"""Scores under bad conditions: night, glare, rain, fog, motion blur, lens dirt, sensor gain, at three strengths."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import Dataset, Runner
from edgeseg.data.corrupt import KINDS, STRENGTHS, corrupted
from edgeseg.measure.evaluate import evaluate_runner


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One condition, and what is left under it.

    Attributes:
        kind: What is wrong with the picture.
        strength: 1, 2 or 3.
        miou: Mean IoU.
        iou: By class.
    """

    kind: str
    strength: int
    miou: float | None
    iou: dict[str, float | None]


def parse_conditions(texts: Iterable[str]) -> list[tuple[str, int]]:
    """Conditions from `all`, `KIND` (its three strengths) and `KIND:STRENGTH`, each once.

    Raises:
        RequestError: A kind or strength that does not exist.
    """
    found: dict[tuple[str, int], None] = {}
    for text in texts:
        kind, _, strength = text.partition(":")
        strengths = [int(strength)] if strength.isdecimal() else list(STRENGTHS)
        kinds = list(KINDS) if kind == "all" else [kind]
        if not set(kinds) <= set(KINDS) or not set(strengths) <= set(STRENGTHS) or (strength and len(strengths) > 1):
            allowed = f"all, or one of {', '.join(KINDS)}, with :1, :2 or :3 for one strength"
            raise RequestError("not a condition", value=text, allowed=allowed)
        found.update(dict.fromkeys((kind, strength) for kind in kinds for strength in strengths))
    return list(found)


def evaluate_corrupted(
    runner: Runner, dataset: Dataset, conditions: Iterable[tuple[str, int]], *, progress: Progress | None = None
) -> list[Condition]:
    """Score a runner under each condition; frames and labels are those of `dataset`.

    Args:
        runner: Not entered yet; entered and left for each condition.
        dataset: Labelled frames.
        conditions: Kind and strength, as `parse_conditions` gives them.
        progress: Where to show it.
    """
    results = []
    progress = progress or Silent()
    for kind, strength in conditions:
        found = evaluate_runner(runner, corrupted(dataset, kind, strength), progress=progress)
        results.append(Condition(kind=kind, strength=strength, miou=found.miou, iou=found.iou))
    return results
