"""The room `measure`: scores of a runner over a data set, and its timing. Build, bench and tools all use this one.

    evaluate_runner(runner, dataset)           mIoU, IoU by class, boundary IoU, pixel accuracy
    measure_runner(runner, frames)             every call, back to back, after a warm-up until stable
    compare_runners({name: runner}, frames)    interleaved; ratios with intervals

Each of them enters and leaves the runners it is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgeseg.core.deps import require
from edgeseg.core.types import Dataset, Runner
from edgeseg.measure.bootstrap import ratio_interval, series_intervals_ms
from edgeseg.measure.compare import Comparison, compare_runners
from edgeseg.measure.timing import Samples, WarmUp, WarmUpRule, measure_runner

if TYPE_CHECKING:
    from edgeseg.core.progress import Progress
    from edgeseg.measure.evaluate import Evaluation, Observer
    from edgeseg.measure.robustness import Condition

__all__ = [
    "Comparison",
    "Samples",
    "WarmUp",
    "WarmUpRule",
    "compare_runners",
    "evaluate_corrupted",
    "evaluate_runner",
    "measure_runner",
    "parse_conditions",
    "ratio_interval",
    "series_intervals_ms",
]


def evaluate_runner(
    runner: Runner, dataset: Dataset, *, observe: Observer | None = None, progress: Progress | None = None
) -> Evaluation:
    """Score a runner over a data set; see `edgeseg.measure.evaluate.evaluate_runner`."""
    require("cv2", what="evaluating an engine")
    from edgeseg.measure import evaluate

    return evaluate.evaluate_runner(runner, dataset, observe=observe, progress=progress)


def parse_conditions(texts: Iterable[str]) -> list[tuple[str, int]]:
    """Bad conditions from `all`, `rain`, `fog:2`; see `edgeseg.measure.robustness`."""
    require("cv2", what="evaluating under bad conditions")
    from edgeseg.measure import robustness

    return robustness.parse_conditions(texts)


def evaluate_corrupted(
    runner: Runner, dataset: Dataset, conditions: Iterable[tuple[str, int]], *, progress: Progress | None = None
) -> list[Condition]:
    """Score a runner under bad conditions; see `edgeseg.measure.robustness`."""
    require("cv2", what="evaluating under bad conditions")
    from edgeseg.measure import robustness

    return robustness.evaluate_corrupted(runner, dataset, conditions, progress=progress)
