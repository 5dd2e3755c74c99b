"""One run of the loop from start to summary, with clean stops on signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

from edgeseg.live.notify import Notifier
from edgeseg.live.pipeline import Pipeline
from edgeseg.live.request import LiveRequest
from edgeseg.live.stop import Stop
from edgeseg.live.summary import LiveSummary, summarise


def run_live(request: LiveRequest) -> LiveSummary:
    """See `edgeseg.live.run_live`."""
    pipeline = Pipeline(request)
    notifier = Notifier()
    with stop_on_signals(request.stop) if request.signals else nullcontext():
        try:
            pipeline.start()
            notifier.ready()
            _show(pipeline, notifier)
        finally:
            notifier.stopping()
            notifier.close()
        pipeline.join()
    return summarise(pipeline)


def _show(pipeline: Pipeline, notifier: Notifier) -> None:
    """Let it run, with a line of progress and a word to the service manager."""
    infos = [capture.info for capture in pipeline.captures]
    known = [info.frames for info in infos if info is not None and info.frames is not None]
    total = float(sum(known)) if len(known) == len(infos) else None
    shown = 0
    with pipeline.request.progress.task("live", total=total) as task:
        while pipeline.running():
            pipeline.pump()
            count, note = pipeline.log.count, _note(pipeline)
            task.advance(count - shown, note=note)
            shown = count
            notifier.alive(beat_ns=pipeline.beat_ns, status=note)


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM end the loop cleanly; a second SIGINT interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stop.is_set():
            raise KeyboardInterrupt
        # not from the handler itself: it may have interrupted a thread that holds the locks which `set` needs
        threading.Thread(target=stop.set, name="stop").start()

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _note(pipeline: Pipeline) -> str:
    """State and rate for the progress line."""
    states = [capture.health.state for capture in pipeline.captures]
    rate_hz = pipeline.log.recent_rate_hz()
    text = " ".join(state.name if state else "…" for state in states)
    return text if rate_hz is None else f"{text} {rate_hz:.0f}/s"
