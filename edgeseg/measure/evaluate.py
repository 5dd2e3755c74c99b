"""Scores of a runner over a labelled data set, at the size of the labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np

from edgeseg.core.errors import RequestError
from edgeseg.core.metrics import BoundaryIou, Confusion, Series, series_ms
from edgeseg.core.packing import packed
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.resize import Resizer
from edgeseg.core.types import U8, Dataset, Runner, RunnerSpec, Sample


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Scores over one split; shares of 1, as `edgeseg eval --json` gives them.

    Attributes:
        miou: Mean IoU over the classes that occur.
        iou: IoU by class; None for one that neither labels nor masks contain.
        boundary_iou: Mean boundary IoU; see `core.metrics.BoundaryIou` for its width.
        boundary_iou_by_class: Its parts.
        pixel_accuracy: Share of labelled pixels that are right.
        frames: Frames that were scored.
        engine_ms: Engine time of each frame, in passing: the frames are read from disk in between.
        confusion: Pixel counts, label by row, mask by column; the last column is "no class".
    """

    miou: float | None
    iou: dict[str, float | None]
    boundary_iou: float | None
    boundary_iou_by_class: dict[str, float | None]
    pixel_accuracy: float | None
    frames: int
    engine_ms: Series
    confusion: list[list[int]]


Observer = Callable[[Sample, U8], None]
"""Is shown each sample with its mask at label size; both are valid during the call only."""


def evaluate_runner(
    runner: Runner, dataset: Dataset, *, observe: Observer | None = None, progress: Progress | None = None
) -> Evaluation:
    """Run every frame of a data set and score the masks against its labels.

    A frame of another size than the engine's is stretched to it, and its mask back to the label's size (nearest). Of an
    engine with a region of interest only that region is scored.

    Args:
        runner: Not entered yet: it is entered and left here.
        dataset: Labelled frames of the runner's classes.
        observe: Counts something of its own in the same pass.
        progress: Where to show it.

    Raises:
        RequestError: Other classes than the runner's, or an empty split.
        DataError: A sample that cannot be read, or whose label holds an unknown id.
    """
    _check(runner.spec, dataset)
    progress = progress or Silent()
    board = _Board(dataset, runner.spec, observe)
    batch = runner.spec.batch
    with runner, progress.task(f"eval {dataset.split}", len(dataset)) as task:
        for begin in range(0, len(dataset), batch):
            samples = [dataset[i] for i in range(begin, min(begin + batch, len(dataset)))]
            if begin == 0:
                runner.infer(_stack(samples, runner.spec)).release()  # the first call pays for lazy initialisation
            with runner.infer(_stack(samples, runner.spec)) as output:
                board.engine_ns.append(output.times.engine_ns // batch)
                for sample, mask_hw in zip(samples, output.mask_nhw, strict=False):
                    board.add(sample, mask_hw)
            task.advance(len(samples))
    return board.evaluation(len(dataset))


class _Board:
    """Adds up the scores of one run."""

    def __init__(self, dataset: Dataset, spec: RunnerSpec, observe: Observer | None) -> None:
        self.confusion = Confusion(dataset.classes)
        self.boundary = BoundaryIou(dataset.classes)
        self.engine_ns: list[int] = []
        self._ignore_id = dataset.classes.ignore_id
        self._spec = spec
        self._observe = observe

    def add(self, sample: Sample, mask_hw: U8) -> None:
        sample = _seen(sample, self._spec)
        size, mask_size = sample.label_hw.shape[:2], mask_hw.shape[:2]
        if mask_size != size:
            mask_hw = Resizer(size, mask_size).to_camera(mask_hw, np.empty(size, np.uint8), self._ignore_id)
        self.confusion.add(sample.label_hw, mask_hw)
        self.boundary.add(sample.label_hw, mask_hw)
        if self._observe is not None:
            self._observe(sample, mask_hw)

    def evaluation(self, frames: int) -> Evaluation:
        return Evaluation(
            miou=self.confusion.miou,
            iou=self.confusion.iou(),
            boundary_iou=self.boundary.mean,
            boundary_iou_by_class=self.boundary.iou(),
            pixel_accuracy=self.confusion.pixel_accuracy,
            frames=frames,
            engine_ms=series_ms(self.engine_ns),
            confusion=self.confusion.matrix.tolist(),
        )


def _seen(sample: Sample, spec: RunnerSpec) -> Sample:
    """The sample without the labels that lie outside of the engine's region of interest."""
    if spec.roi is None:
        return sample
    height, width = sample.label_hw.shape
    rows, columns = height / spec.frame_size[0], width / spec.frame_size[1]
    top, left, high, wide = spec.roi
    part = (
        slice(math.ceil(top * rows), math.floor((top + high) * rows)),
        slice(math.ceil(left * columns), math.floor((left + wide) * columns)),
    )
    label_hw = np.full_like(sample.label_hw, spec.classes.ignore_id)
    label_hw[part] = sample.label_hw[part]
    return replace(sample, label_hw=label_hw)


def _stack(samples: list[Sample], spec: RunnerSpec) -> U8:
    frames = [_fitted(sample.image_hwc, spec) for sample in samples]
    frames += [frames[-1]] * (spec.batch - len(frames))
    return np.stack(frames)


def _fitted(image_hwc: U8, spec: RunnerSpec) -> U8:
    size = image_hwc.shape[:2]
    if size != spec.frame_size:
        out = np.empty((*spec.frame_size, 3), np.uint8)
        image_hwc = Resizer(size, spec.frame_size).to_frame(image_hwc, out)
    return packed(image_hwc, spec.input_format, spec.colour)


def _check(spec: RunnerSpec, dataset: Dataset) -> None:
    if spec.classes.names != dataset.classes.names:
        raise RequestError(
            "the model and the data set have two vocabularies",
            value=", ".join(dataset.classes.names),
            allowed=f"the model knows {', '.join(spec.classes.names)}",
        )
    if not len(dataset):
        raise RequestError("the split is empty", value=f"{dataset.name} {dataset.split}", allowed="at least one frame")
