"""What a run of the loop came to."""

from __future__ import annotations

import msgspec

from edgeseg.core.metrics import Series, series_ms
from edgeseg.core.types import Stage
from edgeseg.live.pipeline import Pipeline
from edgeseg.sinks.flicker import FlickerSink


class CameraSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One source.

    Attributes:
        uri: The source, credentials removed.
        frames: Frames that it produced; equals `results` plus all `drops`.
        results: Results with a frame.
        drops: Frames without a result, by reason.
        states: Results by state, those without a frame too.
        clock: What capture times mean.
        flicker: Share of still pixels that change class from frame to frame; None where it was not measured.
    """

    uri: str
    frames: int
    results: int
    drops: dict[str, int]
    states: dict[str, int]
    clock: str
    flicker: float | None = None


class SinkSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One sink: results that it wrote, results that it was too slow for, how it failed, and what it says of itself.

    `record`, `web`, `ring` and `ros2` write results without a frame too; `video` and `masks` do not.
    """

    name: str
    written: int
    dropped: int
    failed: str = ""
    note: str = ""


class LiveSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run.

    Attributes:
        engine: What made the masks.
        cameras: One a source.
        sinks: One a sink.
        frames: Frames of all sources.
        results: Results with a frame, of all sources.
        masks: Of those, the ones with a mask (of the last 65536 results).
        drops: Of all sources, by reason.
        fps: Results a second, first to last; None for fewer than two.
        capture_to_mask_ms: Age of the masks.
        beyond_engine_ms: Age minus each frame's own engine time: what the loop adds.
        stages_ms: By stage.
        first_ok_ms: From the start of the loop, opening included, to the first mask that is OK; None if none was.
    """

    engine: str
    cameras: tuple[CameraSummary, ...]
    sinks: tuple[SinkSummary, ...]
    frames: int
    results: int
    masks: int
    drops: dict[str, int]
    fps: float | None
    capture_to_mask_ms: Series
    beyond_engine_ms: Series
    stages_ms: dict[str, Series]
    first_ok_ms: float | None


def summarise(pipeline: Pipeline) -> LiveSummary:
    """The summary of a pipeline that has ended."""
    inference = pipeline.inference
    cameras = []
    flicker = next((w.sink.shares for w in pipeline.workers if isinstance(w.sink, FlickerSink)), None)
    for number, capture in enumerate(pipeline.captures):
        camera = inference.cameras[number] if inference is not None else None
        cameras.append(
            CameraSummary(
                uri=capture.info.uri if capture.info else capture.uri,
                frames=capture.grabbed,
                results=camera.results if camera else 0,
                drops=capture.drops.counts(),
                states={state.value: n for state, n in camera.states.items()} if camera else {},
                clock=capture.info.clock.value if capture.info else "",
                flicker=flicker[number] if flicker else None,
            )
        )
    drops: dict[str, int] = {}
    for one in cameras:
        for reason, n in one.drops.items():
            drops[reason] = drops.get(reason, 0) + n
    log = pipeline.log
    ages_ns = log.ages_ns()
    first_ns = inference.first_ok_ns if inference is not None else None
    return LiveSummary(
        engine=pipeline.request.engine.name,
        cameras=tuple(cameras),
        sinks=tuple(
            SinkSummary(
                name=worker.sink.name,
                written=worker.written,
                dropped=worker.dropped,
                failed=str(worker.failed) if worker.failed else "",
                note=str(getattr(worker.sink, "note", "")),
            )
            for worker in pipeline.workers
        ),
        frames=sum(one.frames for one in cameras),
        results=sum(one.results for one in cameras),
        masks=len(ages_ns),
        drops=drops,
        fps=log.rate_hz(),
        capture_to_mask_ms=series_ms(ages_ns),
        beyond_engine_ms=series_ms(log.engine_ages_ns()),
        stages_ms={stage.value: series_ms(log.stage_ns(stage)) for stage in Stage},
        first_ok_ms=None if first_ns is None else (first_ns - pipeline.started_ns) / 1e6,
    )
