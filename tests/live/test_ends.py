"""What is finite ends and what is a camera is lost: of every kind of source, beside another one that goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest

from edgeseg.core.errors import DataError, SourceLostError, UnavailableError
from edgeseg.core.types import Source, State
from edgeseg.live.config import HealthConfig, LiveConfig
from edgeseg.live.pipeline import Pipeline
from edgeseg.live.request import LiveRequest, LoadedEngine
from edgeseg.live.summary import LiveSummary, summarise
from edgeseg.sinks.masks import MasksSink
from edgeseg.sinks.video import VideoSink
from edgeseg.sources import open_source
from edgeseg.sources.memory import MemorySource
from edgeseg.sources.realtime import RealtimeSource

COUNT = 4


@pytest.fixture(params=["video", "folder", "glob", "image", "street", "pattern", "memory", "paced", "realtime"])
def finite(request: pytest.FixtureRequest, kit: SimpleNamespace, tmp_path: Path) -> Source:
    pictures = [kit.picture(number) for number in range(COUNT)]
    folder, video = tmp_path / "frames", tmp_path / "drive.avi"
    folder.mkdir()
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 25, kit.SIZE[::-1])
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
        writer.write(picture)
    writer.release()
    makers: dict[str, Callable[[], Source]] = {
        "video": lambda: open_source(video),
        "folder": lambda: open_source(folder),
        "glob": lambda: open_source(f"{folder}/*.png"),
        "image": lambda: open_source(folder / "0.png"),
        "street": lambda: open_source(f"street:seed=3,frames={COUNT},size=24x32"),
        "pattern": lambda: open_source(f"pattern:size=24x32,rate=200,frames={COUNT}"),
        "memory": lambda: MemorySource(pictures),
        "paced": lambda: MemorySource(pictures, rate_hz=200),
        "realtime": lambda: RealtimeSource(MemorySource(pictures)),
    }
    return makers[request.param]()


def play_beside(
    kit: SimpleNamespace, runner: Any, source: Source, sinks: list[Any], *, goes_on_after: Callable[[Pipeline], Any]
) -> LiveSummary:
    """Play a source beside a file of which twenty more frames come after something has happened to the first."""
    pipeline: Pipeline
    steps = [kit.Shot(kit.picture(0)), kit.Shot(kit.picture(1), before=lambda: goes_on_after(pipeline))]
    steps += [kit.Shot(kit.picture(number)) for number in range(2, 22)]
    pipeline = Pipeline(
        LiveRequest(
            engine=LoadedEngine(runner),
            sources=[source, kit.ScriptedSource(steps, live=False)],
            sinks=sinks,
            config=LiveConfig(
                health=HealthConfig(late_ms=0, min_rate=0),
                sink_queue=64,
                retry_first_ms=1,
                retry_max_ms=2,
                lost_timeout_s=0.01,
            ),
        )
    )
    pipeline.start()
    if isinstance(source, kit.ScriptedSource):
        source.ready.set()
    try:
        pipeline.join_when_done()
    except SourceLostError:
        assert isinstance(source, kit.ScriptedSource)
    return summarise(pipeline)


def has_ended(pipeline: Pipeline) -> None:
    assert pipeline.captures[0].ended.wait(20)


def test_contract_what_is_finite_ends_and_is_not_lost(
    finite: Source, kit: SimpleNamespace, null: Callable[..., Any], tmp_path: Path
) -> None:
    keep, video, masks = kit.KeepSink(), VideoSink(tmp_path / "o.avi"), MasksSink(tmp_path / "masks")
    summary = play_beside(kit, null(), finite, [keep, video, masks], goes_on_after=has_ended)
    assert all(result.frame_id >= 0 for result in keep.results), "no result without a frame"
    first, second = summary.cameras
    assert first.results + sum(first.drops.values()) == first.frames > 0
    assert sum(first.states.values()) == first.results
    assert (second.results, second.states) == (22, {"ok": 22})
    assert [(sink.written, sink.dropped) for sink in summary.sinks] == [(summary.results, 0)] * 3
    assert len(list((tmp_path / "masks").rglob("*.png"))) == summary.results
    frames = 0
    for path in tmp_path.glob("o-*.avi"):
        reader = cv2.VideoCapture(str(path))
        frames += sum(1 for _ in iter(reader.grab, False))
        reader.release()
    assert frames == summary.results


def test_a_camera_that_is_unplugged_stays_lost_and_sinks_count_what_they_wrote(
    kit: SimpleNamespace, null: Callable[..., Any], tmp_path: Path
) -> None:
    keep, masks = kit.KeepSink(), MasksSink(tmp_path)
    camera = kit.ScriptedSource([kit.Shot(kit.picture(0)), SourceLostError("the cable was pulled")])
    camera.opens = [kit.SIZE, *[UnavailableError("no such camera")] * 1000]
    summary = play_beside(kit, null(), camera, [keep, masks], goes_on_after=has_ended)
    silent = [(result.camera, result.state) for result in keep.results if result.frame_id < 0]
    assert silent == [(0, State.LOST)]
    assert summary.cameras[0].states == {"ok": 1, "lost": 1}
    assert summary.cameras[1].states == {"ok": 22}
    assert [sink.written for sink in summary.sinks] == [24, 23], "a PNG a frame; the loss is no picture"
    assert len(list(tmp_path.rglob("*.png"))) == 23


def test_a_file_that_is_damaged_is_lost(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    keep = kit.KeepSink()

    def damaged() -> None:
        raise DataError("a frame of the video does not decode")

    file = kit.ScriptedSource([kit.Shot(kit.picture(0)), kit.Shot(kit.picture(1), before=damaged)], live=False)
    with pytest.raises(DataError, match="does not decode"):
        play_beside(kit, null(), file, [keep], goes_on_after=has_ended)
    lost = [result for result in keep.results if result.frame_id < 0]
    assert [(result.camera, result.state) for result in lost] == [(0, State.LOST)]
    assert "does not decode" in lost[0].reason
