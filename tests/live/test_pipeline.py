"""The loop on scripted sources and a null engine: what is promised of drops, states, errors and stops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeseg.core.clock import now_ns
from edgeseg.core.errors import DataError, RequestError, SourceLostError, UnavailableError
from edgeseg.core.types import Result, Stage, State
from edgeseg.live import run_live
from edgeseg.live.api import LiveResults
from edgeseg.live.config import HealthConfig, LiveConfig
from edgeseg.live.request import LiveRequest, LoadedEngine

# cameras in these tests speak when a test lets them, so silence is news only where a test asks for it
QUIET = HealthConfig(stale_ms=0, late_ms=0, min_rate=0)


def shots(kit: SimpleNamespace, count: int, first: int = 0) -> list[Any]:
    return [kit.Shot(kit.picture(first + i)) for i in range(count)]


def request(runner: object, sources: list[Any], sinks: list[Any], **config: Any) -> LiveRequest:
    config.setdefault("health", QUIET)
    return LiveRequest(
        engine=LoadedEngine(runner),  # type: ignore[arg-type]
        sources=sources,
        sinks=sinks,
        config=LiveConfig(**config),
    )


def test_a_file_loses_nothing_and_every_mask_is_of_its_own_frame(
    kit: SimpleNamespace, null: Callable[..., Any]
) -> None:
    sink = kit.KeepSink()
    summary = kit.play(request(null(), [kit.ScriptedSource(shots(kit, 50), live=False)], [sink]))
    assert [result.frame_id for result in sink.results] == list(range(50))
    for result in sink.results:
        assert result.state is State.OK
        assert (result.mask_hw == result.frame_id % 3).all()
        assert np.array_equal(result.image_hwc, kit.picture(result.frame_id))
    assert (summary.frames, summary.results, summary.masks, summary.drops) == (50, 50, 50, {})
    assert (sink.closed, summary.sinks[0].written) == (1, 50)


def test_the_stages_of_a_mask_add_up_to_its_age(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    sink = kit.KeepSink()
    kit.play(request(null(size=(12, 16), latency_ms=2), [kit.ScriptedSource(shots(kit, 20), live=False)], [sink]))
    assert all(set(result.stages_ns) == set(Stage) - {Stage.SINK} for result in sink.results)
    between_ns = sorted(result.age_ns - sum(result.stages_ns.values()) for result in sink.results)
    assert between_ns[0] >= 0
    assert between_ns[len(between_ns) // 2] < 2_000_000, "only the steps between stages are unaccounted for"


def test_a_camera_gets_the_newest_frame_and_drops_are_counted(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    runner, sink = null(), kit.KeepSink()
    runner.permits = threading.Semaphore(0)
    played = threading.Event()
    steps = [*shots(kit, 1), runner.started, *shots(kit, 9, first=1), kit.Shot(kit.picture(10), before=played.set)]
    source = kit.ScriptedSource(steps)
    pipeline = kit.start(request(runner, [source], [sink]))
    assert played.wait(20)
    pipeline.captures[0].join(20)
    runner.permits.release(2)
    pipeline.join_when_done()
    numbers = [result.frame_id for result in sink.results]
    assert numbers[-1] == 10, "the newest one, not the oldest that waited"
    counts = pipeline.captures[0].drops.counts()
    assert len(numbers) + sum(counts.values()) == 11
    assert counts["replaced"] == 9


def test_what_the_source_itself_skipped_is_a_counted_drop(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    steps = [*shots(kit, 2), kit.Shot(kit.picture(2), skipped=3), *shots(kit, 1, first=3)]
    summary = kit.play(request(null(), [kit.ScriptedSource(steps, live=False)], []))
    assert summary.drops == {"source": 3}
    assert summary.frames == 7
    assert summary.results == 4


def test_a_black_picture_is_published_without_a_mask(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    runner, sink = null(), kit.KeepSink()
    dark = kit.Shot(np.zeros((*kit.SIZE, 3), np.uint8))
    kit.play(request(runner, [kit.ScriptedSource([*shots(kit, 2), dark, *shots(kit, 1, first=3)], live=False)], [sink]))
    assert [result.state for result in sink.results] == [State.OK, State.OK, State.BLACK, State.OK]
    assert sink.results[2].mask_hw is None
    assert runner.calls == 3, "the engine never saw the black frame"


def test_a_frozen_picture_is_published_without_a_mask(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    """Three frames in a loop; the limit is so small that any time between two frames exceeds it."""
    sink = kit.KeepSink()
    steps = [kit.Shot(kit.picture(i % 3)) for i in range(40)]
    health = HealthConfig(stale_ms=0, late_ms=0, frozen_ms=0.001)
    kit.play(request(null(), [kit.ScriptedSource(steps, live=False)], [sink], health=health))
    states = [result.state for result in sink.results]
    assert states[:3] == [State.OK] * 3
    assert set(states[8:]) == {State.FROZEN}
    assert all(result.mask_hw is None for result in sink.results[8:])


def test_silence_is_published_as_stale_and_ends_with_the_next_frame(
    kit: SimpleNamespace, null: Callable[..., Any]
) -> None:
    sink, stale = kit.KeepSink(), threading.Event()

    def look(result: Result) -> None:
        if result.state is State.STALE:
            stale.set()

    sink.on_write = look
    steps = [*shots(kit, 3), kit.Shot(kit.picture(3), after=stale)]
    health = HealthConfig(stale_ms=150, late_ms=0, min_rate=0)
    kit.play(request(null(), [kit.ScriptedSource(steps)], [sink], health=health, sink_queue=16))
    silent = [result for result in sink.results if result.state is State.STALE]
    assert [(result.frame_id, result.mask_hw) for result in silent] == [(-1, None)], "once, not again and again"
    assert sink.results[-1].state is State.OK


def test_a_stream_of_which_nothing_decodes_is_stale(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    stale, damaged = threading.Event(), kit.picture(9)

    class Damaged(kit.ScriptedSource):  # type: ignore[misc, name-defined]
        def retrieve(self, out_hwc: Any = None) -> Any:
            if self._shot.image is damaged:
                raise DataError("a frame does not decode")
            return super().retrieve(out_hwc)

    def steps() -> Any:
        yield from shots(kit, 1)
        while not stale.is_set():  # frames go on coming, every ten milliseconds
            yield kit.Shot(damaged, before=lambda: stale.wait(0.01))
        yield from shots(kit, 1, first=1)

    sink = kit.KeepSink()
    sink.on_write = lambda result: stale.set() if result.state is State.STALE else None
    health = HealthConfig(stale_ms=60, late_ms=0, min_rate=0, frozen_ms=0)
    summary = kit.play(request(null(), [Damaged(steps())], [sink], health=health))
    assert [result.state for result in sink.results] == [State.OK, State.STALE, State.OK]
    assert all(result.mask_hw is None for result in sink.results if result.state is State.STALE)
    assert summary.drops["corrupt"] >= 1


def test_a_lost_camera_is_published_and_comes_back_with_ids_that_go_on(
    kit: SimpleNamespace, null: Callable[..., Any]
) -> None:
    sink = kit.KeepSink()
    lost = threading.Event()
    sink.on_write = lambda result: lost.set() if result.state is State.LOST else None
    first, third = threading.Event(), UnavailableError("no such camera")
    steps = [*shots(kit, 1), first, SourceLostError("the cable was pulled"), lost, *shots(kit, 2, first=1)]
    source = kit.ScriptedSource(steps, opens=[kit.SIZE, third, kit.SIZE])
    pipeline = kit.start(request(null(), [source], [sink], retry_first_ms=150, sink_queue=16))
    sink.wait_for(lambda results: len(results) == 1)
    first.set()
    pipeline.join_when_done()
    assert [result.state for result in sink.results if result.frame_id < 0] == [State.LOST]
    numbers = [result.frame_id for result in sink.results if result.frame_id >= 0]
    assert numbers[0] == 0
    assert numbers[-1] == 2
    assert source.opened == 3
    assert sink.results[1].reason == "the cable was pulled"


def test_a_size_with_the_same_aspect_ratio_is_renegotiated_and_another_one_refused(
    kit: SimpleNamespace, null: Callable[..., Any]
) -> None:
    runner, sink = null(), kit.KeepSink()
    steps = [
        kit.Shot(kit.picture(0)),
        kit.Shot(kit.picture(1, size=(48, 64))),
        kit.Shot(kit.picture(2, size=(48, 30))),
        kit.Shot(kit.picture(3)),
    ]
    kit.play(request(runner, [kit.ScriptedSource(steps, live=False)], [sink]))
    assert [result.state for result in sink.results] == [State.OK, State.DEGRADED, State.LOST, State.OK]
    assert sink.results[1].mask_hw.shape == (48, 64)
    assert "24x32 to 48x64" in sink.results[1].reason
    assert sink.results[2].mask_hw is None
    assert "another view" in sink.results[2].reason


def test_an_engine_that_fails_ends_everything_and_no_camera_stays_ok(
    kit: SimpleNamespace, null: Callable[..., Any]
) -> None:
    runner, sink = null(), kit.KeepSink()
    runner.fail_at = 3
    with pytest.raises(RuntimeError, match="the device is gone"):
        kit.play(request(runner, [kit.ScriptedSource(shots(kit, 10), live=False)], [sink]))
    assert sink.results[-1].state is State.LOST
    assert "the device is gone" in sink.results[-1].reason
    assert sink.closed == 1


def test_a_sink_that_fails_ends_a_file(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    sink = kit.KeepSink()

    def full(result: Result) -> None:
        if result.frame_id == 2:
            raise DataError("the disk is full")

    sink.on_write = full
    with pytest.raises(DataError, match="the disk is full"):
        kit.play(request(null(), [kit.ScriptedSource(shots(kit, 400), live=False)], [sink]))
    assert sink.closed == 1
    assert len(sink.results) < 400


def test_a_sink_that_fails_does_not_end_a_camera_but_the_run_ends_with_its_error(
    kit: SimpleNamespace, null: Callable[..., Any]
) -> None:
    bad, good = kit.KeepSink(), kit.KeepSink()
    failed = threading.Event()

    def full(result: Result) -> None:
        failed.set()
        raise DataError("the disk is full")

    bad.on_write = full
    steps = [*shots(kit, 1), failed, *shots(kit, 1, first=1)]
    with pytest.raises(DataError, match="the disk is full"):
        kit.play(request(null(), [kit.ScriptedSource(steps)], [bad, good]))
    assert [result.frame_id for result in good.results] == [0, 1]
    assert len(bad.results) == 1


def test_a_sink_that_holds_a_mask_keeps_its_bytes_and_stalls_nobody(
    kit: SimpleNamespace, null: Callable[..., Any]
) -> None:
    """One sink sits on frame 0 while 50 more frames go through the engine."""
    slow, fast = kit.KeepSink(lossless=False), kit.KeepSink(lossless=False)
    held, done = threading.Event(), threading.Event()
    seen: dict[str, Any] = {}

    def hold(result: Result) -> None:
        if result.frame_id == 0:
            held.set()
            assert done.wait(20)
            seen["mask"], seen["image"] = result.mask_hw.copy(), result.image_hwc.copy()

    slow.on_write = hold
    pace = [threading.Event() for _ in range(51)]
    fast.on_write = lambda result: pace[result.frame_id].set()
    steps: list[Any] = []
    for i in range(51):
        steps += [kit.Shot(kit.picture(i)), pace[i]]
    steps.insert(1, held)  # else frame 1 may come before the slow one has taken frame 0, and takes its place
    steps.append(kit.Shot(kit.picture(51), before=done.set))
    pace.append(threading.Event())
    summary = kit.play(request(null(), [kit.ScriptedSource(steps)], [slow, fast]))
    assert [result.frame_id for result in fast.results] == list(range(52))
    assert (seen["mask"] == 0).all()
    assert np.array_equal(seen["image"], kit.picture(0))
    assert summary.drops == {}
    assert summary.sinks[0].dropped > 40


def test_two_cameras_share_an_engine_and_losing_one_changes_nothing_for_the_other(
    kit: SimpleNamespace, null: Callable[..., Any]
) -> None:
    sink = kit.KeepSink()
    lost = threading.Event()
    sink.on_write = lambda result: lost.set() if result.state is State.LOST else None
    dead = kit.ScriptedSource([*shots(kit, 1), SourceLostError("gone")])
    dead.opens = [kit.SIZE, *[UnavailableError("gone")] * 1000]
    alive = kit.ScriptedSource([*shots(kit, 2), lost, *shots(kit, 3, first=2)])
    pipeline = kit.start(
        request(null(batch=2), [dead, alive], [sink], retry_first_ms=1, retry_max_ms=2, lost_timeout_s=0.05)
    )
    with pytest.raises(SourceLostError, match="did not come back"):
        pipeline.join_when_done()
    mine = [result for result in sink.results if result.camera == 1 and result.frame_id >= 0]
    assert mine[-1].frame_id == 4
    assert {result.state for result in mine} == {State.OK}
    assert all((result.mask_hw == result.frame_id % 3).all() for result in mine)
    assert {result.state for result in sink.results if result.camera == 0 and result.frame_id < 0} == {State.LOST}


def test_a_missing_camera_ends_the_start_unless_it_is_kept_trying(
    kit: SimpleNamespace, null: Callable[..., Any]
) -> None:
    absent = kit.ScriptedSource([], opens=[UnavailableError("no such camera")] * 1000)
    runner = null()
    with pytest.raises(UnavailableError, match="no such camera"):
        kit.play(request(runner, [absent], []))
    assert not runner.started.is_set(), "sources are checked before an engine is touched"

    late = kit.ScriptedSource(shots(kit, 2), opens=[UnavailableError("no such camera")] * 3 + [kit.SIZE])
    sink = kit.KeepSink()
    pipeline = kit.start(
        request(null(), [late, kit.ScriptedSource(shots(kit, 2))], [sink], keep_trying=True, retry_first_ms=1)
    )
    pipeline.join_when_done()
    assert {result.camera for result in sink.results if result.mask_hw is not None} == {0, 1}


def test_a_source_that_hangs_while_opening_ends_the_start(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    hang = threading.Event()

    class Hanging(kit.ScriptedSource):  # type: ignore[misc, name-defined]
        def open(self) -> Any:
            hang.wait(20)
            return super().open()

    with pytest.raises(UnavailableError, match=r"does not open.*--open-timeout.*--keep-trying"):
        try:
            kit.play(request(null(), [Hanging([])], [], open_timeout_s=0.05))
        finally:
            hang.set()


def test_a_stop_from_another_thread_ends_at_once(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    sink = kit.KeepSink()
    asked = request(null(), [kit.ScriptedSource((kit.Shot(kit.picture(i)) for i in range(10**9)), live=False)], [sink])
    sink.on_write = lambda result: threading.Thread(target=asked.stop.set).start() if result.frame_id == 5 else None
    begin_ns = now_ns()
    summary = kit.play(asked)
    assert now_ns() - begin_ns < 5_000_000_000
    assert summary.frames == summary.results + sum(summary.drops.values())


def test_no_source_is_refused(null: Callable[..., Any]) -> None:
    with pytest.raises(RequestError, match="no source"):
        run_live(request(null(), [], []))


def test_low_confidence_becomes_no_class(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    """The null engine is sure of everything, so only a limit above 1 could mask; the plane comes along."""
    sink = kit.KeepSink()
    kit.play(
        request(null(confidence=True), [kit.ScriptedSource(shots(kit, 2), live=False)], [sink], min_confidence=1.0)
    )
    assert (sink.results[1].mask_hw == 1).all()


# ---------------------------------------------------------------- the iterator


def test_the_iterator_gives_every_frame_of_a_file(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    source = kit.ScriptedSource(shots(kit, 20), live=False)
    with LiveResults(request(null(), [source], [])) as results:
        numbers = [(result.frame_id, int(result.mask_hw[0, 0])) for result in results]
    assert numbers == [(i, i % 3) for i in range(20)]
    assert results.summary().results == 20


@pytest.mark.parametrize("how", ["break", "exception"])
def test_leaving_the_iterator_stops_every_thread(kit: SimpleNamespace, null: Callable[..., Any], how: str) -> None:
    source = kit.ScriptedSource((kit.Shot(kit.picture(i)) for i in range(10**9)), live=False)

    def use() -> None:
        with LiveResults(request(null(), [source], [])) as results:
            for result in results:
                if result.frame_id == 3:
                    if how == "break":
                        break
                    raise KeyError("mine")

    if how == "break":
        use()
    else:
        with pytest.raises(KeyError, match="mine"):
            use()
    assert source.closed


def test_the_iterator_raises_what_went_wrong_in_a_thread(kit: SimpleNamespace, null: Callable[..., Any]) -> None:
    runner = null()
    runner.fail_at = 4
    with (
        pytest.raises(RuntimeError, match="the device is gone"),
        LiveResults(request(runner, [kit.ScriptedSource(shots(kit, 9), live=False)], [])) as results,
    ):
        for _ in results:
            pass
