"""The accuracy gate: what an engine may lose against its FP32 reference on labelled data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from edgeseg.core.config import unknown_name
from edgeseg.core.errors import GateError
from edgeseg.core.manifest import Gate
from edgeseg.core.metrics import Confusion
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, Classes, Dataset, Runner, Sample
from edgeseg.deploy.request import BuildRequest
from edgeseg.measure import evaluate_runner

Scores = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Loss:
    """One figure that fell by more than its budget; all in points (1 is 0.01)."""

    name: str
    lost: float
    budget: float

    def __str__(self) -> str:
        return f"{self.name} lost {self.lost:.2f} points, allowed {self.budget:g}"


def check_classes(request: BuildRequest, classes: Classes) -> None:
    """Refuse a budget for a class that the model does not have.

    Raises:
        RequestError: Names the nearest class.
    """
    for name in request.max_drop_class:
        if name not in classes.names:
            raise unknown_name("class in --max-drop-class", name, list(classes.names))


class Bands:
    """IoU apart for what is near (the lower half of the picture) and far (the upper half), in the gate's own pass."""

    def __init__(self, classes: Classes) -> None:
        self._near = Confusion(classes)
        self._far = Confusion(classes)

    def __call__(self, sample: Sample, mask_hw: U8) -> None:
        """Count one frame, at label size."""
        middle = sample.label_hw.shape[0] // 2
        self._far.add(sample.label_hw[:middle], mask_hw[:middle])
        self._near.add(sample.label_hw[middle:], mask_hw[middle:])

    def scores(self, named: Collection[str]) -> Scores:
        """`near.miou`, `far.miou`, and `near.iou.CLASS`, `far.iou.CLASS` of the named classes."""
        found: Scores = {}
        for band, counts in (("near", self._near), ("far", self._far)):
            iou = counts.iou()
            found[f"{band}.miou"] = counts.miou
            found.update({f"{band}.iou.{name}": iou[name] for name in named})
        return found


def score(runner: Runner, dataset: Dataset, named: Collection[str], progress: Progress) -> Scores:
    """What the gate compares, each from 0 to 1; None for what does not occur.

    Returns:
        `miou`, `iou.CLASS` of every class, `recall.CLASS` of the named ones, and the figures of `Bands`.
    """
    bands = Bands(dataset.classes)
    found = evaluate_runner(runner, dataset, observe=bands, progress=progress)
    scores: Scores = {"miou": found.miou, **{f"iou.{name}": value for name, value in found.iou.items()}}
    for name in named:
        row = found.confusion[dataset.classes.names.index(name)]
        hits = row[dataset.classes.names.index(name)]
        scores[f"recall.{name}"] = hits / sum(row) if sum(row) else None
    return {**scores, **bands.scores(named)}


def losses(reference: Scores, engine: Scores, request: BuildRequest) -> list[Loss]:
    """Every figure whose budget the engine exceeds: mIoU, and IoU and recall of the named classes."""
    budgets = {"miou": request.budget}
    for name, points in request.max_drop_class.items():
        budgets |= {f"iou.{name}": points, f"recall.{name}": points}
    found = []
    for name, budget in budgets.items():
        before, after = reference.get(name), engine.get(name)
        if before is None:
            continue
        lost = 100 * (before - (after or 0.0))
        if lost > budget + 1e-9:
            found.append(Loss(name, lost, budget))
    return found


def gate_record(request: BuildRequest, dataset: Dataset, executor: str, reference: Scores, engine: Scores) -> Gate:
    """What the manifest keeps of a gate that was passed."""
    return Gate(
        data=f"{dataset.name} ({dataset.split})",
        executor=executor,
        reference=reference,
        engine=engine,
        max_drop={"miou": request.budget, **request.max_drop_class},
    )


def gate_error(request: BuildRequest, failures: Mapping[str, list[Loss]]) -> GateError:
    """The error of a build whose every candidate lost too much."""
    what = "; ".join(f"{name}: {', '.join(str(loss) for loss in lost)}" for name, lost in failures.items())
    worst = max((loss.lost for lost in failures.values() for loss in lost), default=0.0)
    return GateError(
        "the accuracy gate was not met, and no bundle was written",
        value=what,
        allowed=f"--max-drop {request.budget:g} points of mIoU on {request.data}",
        fix=f"edgeseg build {request.model} --precision auto, or more calibration frames, or --max-drop {worst:.1f}",
    )
