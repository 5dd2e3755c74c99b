"""A recording through another engine: where the masks differ, and how the latency changed."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, RequestError
from edgeseg.core.metrics import Series, series_ms
from edgeseg.core.packing import pack
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.resize import Resizer
from edgeseg.core.types import U8, Runner
from edgeseg.live.engine import open_engine
from edgeseg.live.recording import RecordedFrame, Recording


class ClassChange(msgspec.Struct, frozen=True, kw_only=True):
    """One class.

    Attributes:
        recorded: Share of all pixels that had it in the recording.
        replayed: Share of all pixels that have it now.
        disagreement: 1 - IoU between the two; None where neither has the class.
    """

    recorded: float
    replayed: float
    disagreement: float | None


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay found.

    Attributes:
        recording: The file.
        recorded_engine: What made the recorded masks.
        engine: What made the new ones.
        frames: Frames compared.
        agreement: Share of pixels with the same class.
        classes: By class name.
        recorded_engine_ms: Engine stage as recorded, on the machine that recorded.
        engine_ms: Engine stage here, now.
        ratio_p50: New median over recorded median; None where a sample is too small.
        note: What limits the comparison.
    """

    recording: str
    recorded_engine: str
    engine: str
    frames: int
    agreement: float
    classes: dict[str, ClassChange]
    recorded_engine_ms: Series
    engine_ms: Series
    ratio_p50: float | None
    note: str = "frames come from the recording's JPEG: the same engine differs a little at class borders"


def replay(path: Path, engine: str, *, trust: Path | None = None, progress: Progress | None = None) -> ReplayReport:
    """Run a recording's frames through an engine.

    Args:
        path: An MCAP file of `edgeseg live --record`.
        engine: A bundle, `zoo:NAME` or an ONNX file.
        trust: Public key that must have signed the bundle.
        progress: Where the work is shown.

    Raises:
        VerifyError: The recording or the engine does not verify.
        RequestError: The engine has other classes.
        DataError: The recording holds no mask.
    """
    progress = progress or Silent()
    recording = Recording(path)
    known = open_engine(engine, trust=trust, progress=progress)
    if known.classes.names != recording.classes.names:
        raise RequestError(
            "the engine has other classes than the recording",
            value=", ".join(known.classes.names),
            allowed=", ".join(recording.classes.names),
        )
    comparison = _Comparison(len(recording.classes))
    frames = recording.frames()
    first = next(frames, None)
    if first is None:
        raise DataError("the recording holds no frame with a mask", value=path)
    # the task begins when the engine is built and loaded: an estimate is of the frames alone
    with (
        known.load((first.image_hwc.shape[0], first.image_hwc.shape[1])) as runner,
        progress.task("replay", recording.masks) as task,
    ):
        for frame in chain([first], frames):
            comparison.add(frame, *_infer(runner, frame.image_hwc))
            task.advance()
    return comparison.report(path, recording, known.name)


def _infer(runner: Runner, image_hwc: U8) -> tuple[U8, int]:
    """The mask at camera size, and the engine's nanoseconds."""
    resizer = Resizer((image_hwc.shape[0], image_hwc.shape[1]), runner.spec.frame_size)
    spec = runner.spec
    view = runner.input_view()
    frame = image_hwc
    if not resizer.identity:
        frame = resizer.to_frame(image_hwc, np.empty((*spec.frame_size, 3), np.uint8))
    pack(frame, spec.input_format, view[0], spec.colour)
    with runner.infer(view) as output:
        mask = np.empty(image_hwc.shape[:2], np.uint8)
        resizer.to_camera(output.mask_nhw[0], mask, runner.spec.classes.ignore_id)
        return mask, output.times.engine_ns


class _Comparison:
    """Counts pixels by (recorded class, replayed class); ids beyond the classes share the last row and column."""

    def __init__(self, classes: int) -> None:
        self._n = classes
        self._counts: NDArray[np.int64] = np.zeros((classes + 1, classes + 1), np.int64)
        self._recorded_ns: list[float] = []
        self._replayed_ns: list[int] = []

    def add(self, frame: RecordedFrame, mask_hw: U8, engine_ns: int) -> None:
        rows = np.minimum(frame.mask_hw, self._n).astype(np.int64).ravel()
        columns = np.minimum(mask_hw, self._n).astype(np.int64).ravel()
        size = self._n + 1
        self._counts += np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)
        self._recorded_ns.append(frame.result.stages_ms.get("engine", 0.0) * 1e6)
        self._replayed_ns.append(engine_ns)

    def report(self, path: Path, recording: Recording, engine: str) -> ReplayReport:
        total = int(self._counts.sum())
        both, rows, columns = np.diag(self._counts), self._counts.sum(1), self._counts.sum(0)
        before, now = series_ms(self._recorded_ns), series_ms(self._replayed_ns)
        return ReplayReport(
            recording=str(path),
            recorded_engine=recording.engine,
            engine=engine,
            frames=len(self._replayed_ns),
            agreement=float(both.sum()) / total,
            classes={
                name: ClassChange(
                    recorded=float(rows[i]) / total,
                    replayed=float(columns[i]) / total,
                    disagreement=1 - float(both[i]) / union if (union := int(rows[i] + columns[i] - both[i])) else None,
                )
                for i, name in enumerate(recording.classes.names)
            },
            recorded_engine_ms=before,
            engine_ms=now,
            ratio_p50=now.p50 / before.p50 if now.p50 and before.p50 else None,
        )
