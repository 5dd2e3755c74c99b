"""A recording holds what was published, and a replay finds what has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader

from edgeseg.cli.main import run
from edgeseg.core import artefacts
from edgeseg.core.errors import DataError, RequestError, VerifyError
from edgeseg.core.progress import Silent
from edgeseg.core.types import Classes, Size, State
from edgeseg.live import replay as replaying
from edgeseg.live.config import HealthConfig, LiveConfig
from edgeseg.live.recording import Recording
from edgeseg.live.replay import replay
from edgeseg.live.request import LiveRequest, LoadedEngine
from edgeseg.sinks.mcap import RecordSink

Make = Callable[..., Any]


def flat(kit: SimpleNamespace, number: int) -> Any:
    """A picture that JPEG keeps: two halves, whose blue value is 3 * number + 60."""
    image = np.full((*kit.SIZE, 3), 60 + 3 * number, np.uint8)
    image[:, 16:] = 150
    return kit.Shot(image)


@pytest.fixture
def recording(kit: SimpleNamespace, null: Make, tmp_path: Path) -> Path:
    steps = [flat(kit, i) for i in range(4)] + [kit.Shot(np.zeros((*kit.SIZE, 3), np.uint8))]
    request = LiveRequest(
        engine=LoadedEngine(null(latency_ms=1), "bundle-a 0123"),
        sources=[kit.ScriptedSource(steps, live=False, uri="rtsp://***@front")],
        sinks=[RecordSink(tmp_path / "out" / "drive.mcap")],
        config=LiveConfig(health=HealthConfig(stale_ms=0, late_ms=0)),
    )
    kit.play(request)
    return tmp_path / "out" / "drive.mcap"


def test_a_recording_is_what_foxglove_opens(recording: Path) -> None:
    with recording.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert {channel.topic: channel.message_encoding for channel in summary.channels.values()} == {
            "/camera/0/image": "json",
            "/camera/0/mask": "json",
            "/camera/0/result": "json",
        }
        assert {schema.name for schema in summary.schemas.values()} == {"foxglove.CompressedImage", "edgeseg.Result"}
        messages = [(channel.topic, message) for _, channel, message in reader.iter_messages()]
    images = [json.loads(message.data) for topic, message in messages if topic.endswith("image")]
    assert {image["format"] for image in images} == {"jpeg"}
    assert set(images[0]) == {"timestamp", "frame_id", "data", "format"}
    results = [json.loads(message.data) for topic, message in messages if topic.endswith("result")]
    assert [result["state"] for result in results] == ["ok"] * 4 + ["black"]
    assert all(result["clock"] == "driver" and result["age_ms"] > 0 for result in results)
    assert [topic for topic, _ in messages].count("/camera/0/mask") == 4, "no mask where none was published"


def test_it_reads_back_what_was_published(recording: Path) -> None:
    opened = Recording(recording)
    assert (opened.engine, opened.classes.names, opened.masks) == ("bundle-a 0123", ("road", "sky", "car"), 4)
    frames = list(opened.frames())
    assert [frame.result.frame_id for frame in frames] == [0, 1, 2, 3]
    for number, frame in enumerate(frames):
        assert (frame.mask_hw[:, :16] == (60 + 3 * number) % 3).all()
        assert np.abs(frame.image_hwc[:, :8].astype(int) - (60 + 3 * number)).max() <= 2
        assert State(frame.result.state) is State.OK


class Shifted:
    """An engine that says another class for the bright half."""

    name = "bundle-b 4567"

    def __init__(self, runner: Any, classes: Classes, change: bool) -> None:
        self.runner, self.classes, self.change = runner, classes, change

    takes = ("bgr", None)

    def load(self, camera_size: Size, *, throughput: bool = False) -> Any:
        real = self.runner.collect

        def collect(ticket: Any) -> Any:
            output = real(ticket)
            output.mask_nhw[:, :, :16] = 0
            output.mask_nhw[:, :, 16:] = 2 if self.change else 0
            return output

        self.runner.collect = collect
        return self.runner


@pytest.mark.parametrize("change", [False, True])
def test_a_replay_counts_disagreement_by_class(
    recording: Path,
    kit: SimpleNamespace,
    null: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: bool,
) -> None:
    engine = Shifted(null(latency_ms=2), kit.CLASSES, change)
    monkeypatch.setattr(replaying, "open_engine", lambda *args, **kwargs: engine)
    assert run(["replay", str(recording), "--engine", "b", "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["frames"], report["recorded_engine"], report["engine"]) == (4, "bundle-a 0123", "bundle-b 4567")
    assert report["agreement"] == (0.5 if change else 1.0)
    assert report["classes"]["road"]["disagreement"] == (0.5 if change else 0.0)
    assert report["classes"]["car"]["disagreement"] == (1.0 if change else None)
    assert report["engine_ms"]["n"] == report["recorded_engine_ms"]["n"] == 4


def test_the_estimate_begins_when_the_engine_is_built_and_loaded(
    recording: Path, kit: SimpleNamespace, null: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    class Slow(Shifted):
        def load(self, camera_size: Size, *, throughput: bool = False) -> Any:
            steps.append("build")
            runner = super().load(camera_size)
            enter = type(runner).__enter__
            monkeypatch.setattr(type(runner), "__enter__", lambda itself: steps.append("load") or enter(itself))
            return runner

    class Watched(Silent):
        def task(self, name: str, total: float | None = None) -> Any:
            steps.append(f"{name} {total}")
            return super().task(name, total)

    monkeypatch.setattr(replaying, "open_engine", lambda *args, **kwargs: Slow(null(), kit.CLASSES, False))
    replay(recording, "b", progress=Watched())
    assert steps == ["build", "load", "replay 4"]


def test_a_recording_without_masks_is_refused_before_an_engine_is_built(
    kit: SimpleNamespace, null: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dark = kit.Shot(np.zeros((*kit.SIZE, 3), np.uint8))
    sinks = [RecordSink(tmp_path / "dark.mcap")]
    sources = [kit.ScriptedSource([dark], live=False)]
    kit.play(LiveRequest(engine=LoadedEngine(null()), sources=sources, sinks=sinks))
    engine = Shifted(null(), kit.CLASSES, False)
    monkeypatch.setattr(engine, "load", lambda *args, **kwargs: pytest.fail("a build"))
    monkeypatch.setattr(replaying, "open_engine", lambda *args, **kwargs: engine)
    with pytest.raises(DataError, match="no frame with a mask"):
        replay(tmp_path / "dark.mcap", "b")


def test_other_classes_are_refused(
    recording: Path, kit: SimpleNamespace, null: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Classes(names=("a", "b", "c"), palette_rgb=((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    monkeypatch.setattr(replaying, "open_engine", lambda *args, **kwargs: Shifted(null(), other, False))
    with pytest.raises(RequestError, match="other classes"):
        replay(recording, "b")


def test_a_recording_that_is_not_whole_does_not_verify(recording: Path, tmp_path: Path) -> None:
    data = recording.read_bytes()
    for name, bad in (
        ("cut.mcap", data[: len(data) // 2]),
        ("foreign.mcap", b"\x89PNG" * 100),
        ("flipped.mcap", data[:400] + bytes([data[400] ^ 0xFF]) + data[401:]),
    ):
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(VerifyError):
            list(Recording(tmp_path / name).frames())
    with pytest.raises(RequestError, match="no such recording"):
        Recording(tmp_path / "nowhere.mcap")


def test_a_disk_that_fills_up_leaves_a_whole_recording(
    kit: SimpleNamespace, null: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "drive.mcap"
    monkeypatch.setattr(artefacts.shutil, "disk_usage", lambda folder: SimpleNamespace(total=1 << 30, free=0))
    request = LiveRequest(
        engine=LoadedEngine(null()),
        sources=[kit.ScriptedSource([flat(kit, i) for i in range(60)], live=False)],
        sinks=[RecordSink(path)],
    )
    with pytest.raises(DataError, match="disk is full"):
        kit.play(request)
    assert Recording(path).masks == 29
    assert [item.name for item in tmp_path.iterdir()] == ["drive.mcap"]


def test_a_name_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="mcap"):
        RecordSink(tmp_path / "drive.bag")
