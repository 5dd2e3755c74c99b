"""The paced half: the live pipeline as it runs on a vehicle, with a sink that keeps times and nothing else.

An open loop: the source gives a frame each period whether or not the last one is done. A frame whose mask comes later
than one period after its capture missed its deadline, and so did a frame that was dropped.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.clock import CaptureClock, now_ns, sleep_until
from edgeseg.core.errors import DataError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, Frame, Result, Runner, SinkContext, Source, SourceInfo, Stage
from edgeseg.live import run_live
from edgeseg.live.request import LiveRequest, LoadedEngine
from edgeseg.live.summary import LiveSummary
from edgeseg.sources import open_source
from edgeseg.sources.memory import MemorySource
from edgeseg.sources.uri import source_kind

_STAGES = tuple(Stage)
_LEAD_IN_S = 1.0  # of masks that are made and not counted: caches, page faults and threads settle
_LEAD_IN_SHARE = 0.25  # of a run so short that a second would be most of it
_PATIENCE_NS = 60 * 10**9  # for a first mask
_FOR_EVER = 1 << 40
_OF_THE_ENDS = ("starting", "stopping")  # drops before the engine was there and after the time was up


@dataclass(frozen=True, slots=True, kw_only=True)
class PacedSamples:
    """Every frame with a mask, in order; arrays int64 [n], nanoseconds.

    Attributes:
        frame_id: Number of the frame at its source: a gap is a drop.
        capture_ns: Monotonic capture time.
        age_ns: Capture to mask.
        stages_ns: By stage, -1 where a frame did not go through it.
        summary: What the loop says of itself, lead-in included.
        rate_hz: Nominal rate of the source.
        source: Its name, credentials removed.
        clock: What capture times mean.
        deadline_misses: Counted frames that were late or dropped; None where the source has no rate.
        drops: By reason, lead-in included, without those of the start and the end.
    """

    frame_id: NDArray[np.int64]
    capture_ns: NDArray[np.int64]
    age_ns: NDArray[np.int64]
    stages_ns: dict[Stage, NDArray[np.int64]]
    summary: LiveSummary
    rate_hz: float | None
    source: str
    clock: str
    deadline_misses: int | None
    drops: dict[str, int]

    @property
    def fps(self) -> float | None:
        """Masks a second, from the first counted capture to the last."""
        span_ns = int(self.capture_ns[-1] - self.capture_ns[0]) if len(self.capture_ns) > 1 else 0
        return (len(self.capture_ns) - 1) * 1e9 / span_ns if span_ns else None


class TimesSink:
    """Keeps the times of each result and nothing else: what every other sink costs is not the engine's."""

    name = "null"
    lossless = False

    def __init__(self) -> None:
        self.first_ns: int | None = None
        self._rows = array("q")

    def open(self, context: SinkContext) -> None:
        """Nothing to open."""

    def write(self, result: Result) -> None:
        """Keep the times of a result that has a mask."""
        if result.mask_hw is None:
            return
        if self.first_ns is None:
            self.first_ns = now_ns()
        self._rows.extend((result.frame_id, result.t_capture_ns, result.age_ns))
        self._rows.extend(result.stages_ns.get(stage, -1) for stage in _STAGES)

    def close(self) -> None:
        """Nothing to close."""

    def rows(self) -> NDArray[np.int64]:
        """All rows: frame id, capture time, age, then one column a stage."""
        return np.array(self._rows, dtype=np.int64).reshape(-1, 3 + len(_STAGES))


class PacedFile:
    """A file that plays like a camera at a rate of one's choice, over and over; frame ids go on counting.

    Frame `i` exists from its due time on, which is its capture time (clock `pts`); frames that are more than a period
    late are skipped without decoding. Starting the file again shifts the due times: a camera has no such gap.
    """

    def __init__(self, source: Source, rate_hz: float) -> None:
        self.uri = str(getattr(source, "uri", "source"))
        self._source = source
        self._rate_hz = rate_hz
        self._period_ns = round(1e9 / rate_hz)
        self._id = -1
        self._due_ns = 0

    def open(self) -> SourceInfo:
        """Open the file; the clock starts with the first `grab`."""
        self._id = -1
        info = self._source.open()
        return replace(info, rate_hz=self._rate_hz, live=True, clock=CaptureClock.PTS, frames=None)

    def grab(self) -> bool:
        """Wait for the next frame that is due; False only for a file without frames."""
        first = self._id < 0
        while True:
            again = not self._source.grab()
            if again and not self._rewind():
                return False
            self._id += 1
            self._due_ns = now_ns() if first else self._due_ns + self._period_ns
            if again:
                self._due_ns = max(self._due_ns, now_ns())
            if now_ns() - self._due_ns <= self._period_ns:
                sleep_until(self._due_ns)
                return True

    def retrieve(self, out_hwc: U8 | None = None) -> Frame:
        """Decode the grabbed frame."""
        frame = self._source.retrieve(out_hwc)
        return replace(frame, id=self._id, t_capture_ns=self._due_ns, clock=CaptureClock.PTS)

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def _rewind(self) -> bool:
        self._source.close()
        self._source.open()
        return self._source.grab()


def paced_source(uri: str, rate_hz: float) -> Source:
    """A camera as it is; a file over and over at `rate_hz`."""
    source = open_source(uri)
    return PacedFile(source, rate_hz) if source_kind(uri).file_like else source


def street_source(frames: list[U8], rate_hz: float) -> Source:
    """Frames in memory, paced like a camera."""
    return MemorySource(frames, rate_hz=rate_hz, count=_FOR_EVER, name="street: rendered before the clock starts")


def measure_paced(runner: Runner, source: Source, *, name: str, duration_s: float, progress: Progress) -> PacedSamples:
    """Run the live pipeline for `duration_s` after a lead-in, with its default settings.

    Args:
        runner: Not entered yet; the pipeline's engine thread enters it.
        source: Not opened yet.
        name: Of the engine.
        duration_s: Measured time, from the end of the lead-in, which starts with the first mask.
        progress: Where to show it.

    Raises:
        DataError: No frame got a mask.
    """
    lead_in_s = min(_LEAD_IN_S, _LEAD_IN_SHARE * duration_s)
    sink = TimesSink()
    timed = _Timed(source, sink, duration_s + lead_in_s)
    request = LiveRequest(
        engine=LoadedEngine(runner, name),
        sources=[timed],
        sinks=[sink],
        signals=threading.current_thread() is threading.main_thread(),
        progress=progress,
    )
    summary = run_live(request)
    rows = sink.rows()
    if not len(rows):
        raise DataError("no frame of the source got a mask", value=timed.uri, fix="edgeseg live BUNDLE --source SRC")
    rows = rows[rows[:, 1] - rows[0, 1] >= min(lead_in_s * 1e9, rows[-1, 1] - rows[0, 1])]
    rate_hz = timed.info.rate_hz if timed.info else None
    return PacedSamples(
        frame_id=rows[:, 0],
        capture_ns=rows[:, 1],
        age_ns=rows[:, 2],
        stages_ns={stage: rows[:, 3 + i] for i, stage in enumerate(_STAGES)},
        summary=summary,
        rate_hz=rate_hz,
        source=summary.cameras[0].uri,
        clock=summary.cameras[0].clock,
        deadline_misses=_misses(rows, rate_hz) if rate_hz else None,
        drops={reason: n for reason, n in summary.drops.items() if reason not in _OF_THE_ENDS},
    )


def _misses(rows: NDArray[np.int64], rate_hz: float) -> int:
    late = int((rows[:, 2] > 1e9 / rate_hz).sum())
    frames = int(rows[-1, 0] - rows[0, 0]) + 1
    return late + frames - len(rows)


class _Timed:
    """A source that ends some time after the first mask, so that cameras stop as files do."""

    def __init__(self, source: Source, sink: TimesSink, duration_s: float) -> None:
        self.info: SourceInfo | None = None
        self.uri = str(getattr(source, "uri", "source"))
        self._source = source
        self._sink = sink
        self._duration_ns = int(duration_s * 1e9)
        self._begin_ns = 0

    def open(self) -> SourceInfo:
        """Open the source."""
        self._begin_ns = now_ns()
        info = self._source.open()
        expected = round(info.rate_hz * self._duration_ns / 1e9) if info.rate_hz else None
        self.info = replace(info, frames=expected)  # for the display alone
        return self.info

    def grab(self) -> bool:
        """The next frame, unless the time is over."""
        waiting = self._sink.first_ns is None
        begin_ns = self._begin_ns + _PATIENCE_NS if waiting else self._sink.first_ns or 0
        return now_ns() < begin_ns + self._duration_ns and self._source.grab()

    def retrieve(self, out_hwc: U8 | None = None) -> Frame:
        """Decode the grabbed frame."""
        return self._source.retrieve(out_hwc)

    def close(self) -> None:
        """Close the source."""
        self._source.close()
