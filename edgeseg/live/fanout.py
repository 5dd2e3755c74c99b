"""From the engine to the sinks: each behind a bounded queue of its own, so that none can stall the loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from edgeseg.core.clock import now_ns
from edgeseg.core.log import get_logger
from edgeseg.core.types import Result, Sink, SinkContext
from edgeseg.live.buffers import Lease
from edgeseg.live.stop import Stop

_POLL_S = 0.2
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """A result on its way to the sinks; `lease` keeps its picture and mask until the last of them returned."""

    result: Result
    lease: Lease


class SinkWorker:
    """One sink, its queue and its thread.

    Args:
        sink: Not yet opened.
        queue: Results that may wait.
        wait: Whether a full queue makes the loop wait (files into a lossless sink); else the oldest result that
            waits is dropped and counted, so that the newest is never behind.
        stop: The loop's stop.
        fatal: Whether a failure of this sink ends the loop at once, rather than only this sink.
    """

    def __init__(self, sink: Sink, *, queue: int, wait: bool, stop: Stop, fatal: bool) -> None:
        self.sink = sink
        self.written = 0
        self.dropped = 0
        self.failed: BaseException | None = None
        self.opened: Future[None] = Future()
        self._room = queue
        self._wait = wait
        self._stop = stop
        self._fatal = fatal
        self._changed = threading.Condition()
        self._queue: deque[Published] = deque()
        self._finished = False
        self._thread: threading.Thread | None = None
        stop.on_wake(self._wake)

    @property
    def runs_on_main_thread(self) -> bool:
        """Windows belong to the main thread; such a sink is stepped by whoever waits for the loop."""
        return bool(getattr(self.sink, "main_thread", False))

    @property
    def frames_only(self) -> bool:
        """Whether the sink takes no results without a frame."""
        return bool(getattr(self.sink, "frames_only", False))

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, context: SinkContext) -> None:
        """Open the sink; `opened` tells how that went."""
        if self.runs_on_main_thread:
            self._open(context)
            return
        self._thread = threading.Thread(target=self._run, args=(context,), name=f"sink-{self.sink.name}", daemon=True)
        self._thread.start()

    def offer(self, published: Published) -> None:
        """Hand over one result; takes a share of its lease. Blocks only where `wait` was asked for."""
        dropped: Published | None = None
        with self._changed:
            if self._wait:
                self._changed.wait_for(lambda: len(self._queue) < self._room or self._finished or self._stop.is_set())
            if self._finished or self.failed is not None:
                self.dropped += 1
                return
            if len(self._queue) >= self._room:
                dropped = self._queue.popleft()
                self.dropped += 1
            published.lease.retain()
            self._queue.append(published)
            self._changed.notify_all()
        if dropped is not None:
            dropped.lease.release()

    def step(self, timeout_s: float) -> bool:
        """Write one result if one comes in time; False when there is nothing more to come."""
        with self._changed:
            if not self._queue and not self._finished:
                self._changed.wait(timeout_s)
            if not self._queue:
                return not self._finished
            published = self._queue.popleft()
            self._changed.notify_all()
        try:
            if self.failed is None:
                self.sink.write(published.result)
                self.written += 1
        except BaseException as error:
            self._fail(error)
        finally:
            published.lease.release()
        return True

    def finish(self) -> None:
        """Nothing more will be offered: write what waits, then close."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Close the sink, in the thread that wrote to it."""
        try:
            self.sink.close()
        except BaseException as error:
            self._fail(error)

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; whether it has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    # ------------------------------------------------------------ inside

    def _run(self, context: SinkContext) -> None:
        self._open(context)
        if self.failed is None:
            while self.step(_POLL_S):
                pass
        self._drain()
        self.close()

    def _open(self, context: SinkContext) -> None:
        try:
            self.sink.open(context)
        except BaseException as error:
            self.failed = error
            self.opened.set_exception(error)
        else:
            self.opened.set_result(None)

    def _fail(self, error: BaseException) -> None:
        if self.failed is None:
            _log.error("the sink %s has failed and takes no more results: %s", self.sink.name, error)
        self.failed = self.failed or error
        with self._changed:
            self._changed.notify_all()
        self._drain()
        self._stop.fail(error, end=self._fatal)

    def _drain(self) -> None:
        with self._changed:
            rest, self._queue = list(self._queue), deque()
            self.dropped += len(rest)
            self._changed.notify_all()
        for published in rest:
            published.lease.release()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Fanout:
    """All sinks.

    Args:
        workers: One per sink.
        on_done: Called with a result and the nanoseconds from mask to the last sink's return.
    """

    def __init__(self, workers: Sequence[SinkWorker], on_done: Callable[[Result, int], None]) -> None:
        self.workers = workers
        self._on_done = on_done

    def publish(self, result: Result, lease: Lease) -> None:
        """Offer a result to every sink.

        Args:
            result: The result.
            lease: The caller's claim on its arrays, which is taken over.
        """

        def done() -> None:
            self._on_done(result, now_ns() - result.t_result_ns)
            lease.release()

        shared = Lease(done)
        published = Published(result, shared)
        for worker in self.workers:
            if result.frame_id >= 0 or not worker.frames_only:
                worker.offer(published)
        shared.release()

    def finish(self) -> None:
        """Nothing more will be published."""
        for worker in self.workers:
            worker.finish()
