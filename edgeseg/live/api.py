"""The loop as an iterator of results, for Python programs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from edgeseg.core.types import Result, Sink, SinkContext
from edgeseg.live.config import LiveConfig
from edgeseg.live.engine import open_engine
from edgeseg.live.pipeline import Pipeline
from edgeseg.live.request import LiveRequest
from edgeseg.live.summary import LiveSummary, summarise
from edgeseg.sources import open_source


class _Hand:
    """A sink that holds one result until the program asks for the next one."""

    name = "iterator"
    lossless = True
    queue = 1  # of a camera, the program gets the newest result, not one that waited behind others

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: Result | None = None
        self._asked = 0
        self._offered = 0
        self._closed = False

    def open(self, context: SinkContext) -> None:
        """Nothing to open."""

    def write(self, result: Result) -> None:
        """Offer one result, and keep its arrays until the next one is asked for."""
        with self._changed:
            self._held = result
            self._offered += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._asked > self._offered or self._closed)

    def take(self) -> Result | None:
        """The next result; None after the last."""
        with self._changed:
            self._asked += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._held is not None or self._closed)
            held, self._held = self._held, None
            return held

    def close(self) -> None:
        """No more results; may be called twice, and from any thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class LiveResults:
    """A context manager and an iterator. Files wait for the program; from cameras it always gets a fresh result.

    The arrays of a result are valid until the next result is asked for: copy what is kept longer.

    Args:
        request: What to run; one more sink is added to it.
    """

    def __init__(self, request: LiveRequest) -> None:
        self._hand = _Hand()
        self._pipeline = Pipeline(replace(request, sinks=(*request.sinks, self._hand)))
        request.stop.on_wake(self._stopped)

    def _stopped(self) -> None:
        if self._pipeline.stop.is_set():
            self._hand.close()

    def __enter__(self) -> LiveResults:
        self._pipeline.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipeline.stop.set()
        self._pipeline.end()
        if kind is None:  # else the program's own exception goes on
            self._pipeline.stop.reraise()

    def __iter__(self) -> Iterator[Result]:
        while (result := self._hand.take()) is not None:
            yield result
        self._pipeline.join()

    def summary(self) -> LiveSummary:
        """What the run came to; after the `with` block."""
        return summarise(self._pipeline)


def open_results(
    engine: str | Path,
    source: str | Path | int | Sequence[str | Path | int],
    *,
    sinks: Sequence[Sink],
    config: LiveConfig | None,
    realtime: bool,
) -> LiveResults:
    """See `edgeseg.live.open_live`."""
    many = [source] if isinstance(source, (str, Path, int)) else source
    return LiveResults(
        LiveRequest(
            engine=open_engine(str(engine)),
            sources=[open_source(one, realtime=realtime) for one in many],
            sinks=sinks,
            config=config or LiveConfig(),
        )
    )
