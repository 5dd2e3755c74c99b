"""Accuracy beside speed: the very bundle that was timed, on labelled data."""

from __future__ import annotations

import msgspec

from edgeseg.bench.request import BenchTarget
from edgeseg.core.progress import Progress
from edgeseg.core.types import Dataset
from edgeseg.measure import evaluate_runner


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of an engine, shares of 1."""

    data: str
    split: str
    miou: float | None
    boundary_iou: float | None
    iou: dict[str, float | None]
    frames: int


def score(target: BenchTarget, dataset: Dataset, progress: Progress) -> Accuracy:
    """Evaluate the engine on a data set."""
    found = evaluate_runner(target.make(), dataset, progress=progress)
    return Accuracy(
        data=dataset.name,
        split=dataset.split,
        miou=found.miou,
        boundary_iou=found.boundary_iou,
        iou=found.iou,
        frames=found.frames,
    )
