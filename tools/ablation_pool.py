"""Several rows side by side, each in a process of its own, from one queue."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import FrameType

from ablation_table import Job

from edgeseg.core.clock import now_ns

Start = Callable[[Job], "subprocess.Popen[bytes]"]
End = Callable[[Job, int | None, float], None]
"""Is told of a row that ended: its exit code, None where it was not begun because one that it needs failed; seconds."""


class Pool:
    """Runs rows until none is left.

    Args:
        start: Begins a row.
        end: Is told of each that ended, on the thread of `run`.
        width: Rows at a time.
    """

    def __init__(self, start: Start, end: End, width: int) -> None:
        self._start = start
        self._end = end
        self._width = width
        self._waiting: list[Job] = []
        self._running: dict[Future[int], Job] = {}
        self._begun: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        self._seconds: list[float] = []
        self._failed: set[str] = set()
        self._stopped = 0

    def run(self, jobs: Sequence[Job]) -> None:
        """Run the jobs in order; with several at a time what others need goes first.

        A failed row stops only the rows that need it. After Ctrl-C, which a terminal sends to the rows too, and
        SIGTERM, which is passed on to them, no row is begun and those that run are waited for: all that ended are told
        to `end`.

        Raises:
            KeyboardInterrupt: On either.
        """
        needed = {need.key for job in jobs for need in job.needs.values()}
        self._waiting = sorted(jobs, key=lambda job: self._width > 1 and job.key not in needed)
        with ThreadPoolExecutor(self._width) as threads, self._signals():
            while self._running or (self._waiting and not self._stopped):
                self._fill(threads)
                self._collect()
        if self._stopped:
            raise KeyboardInterrupt

    def left_s(self) -> float:
        """How long the rest will take, from how long rows took so far."""
        if not self._seconds:
            return 0.0
        mean = sum(self._seconds) / len(self._seconds)
        now = now_ns()
        spent = [min(mean, (now - self._begun[job.key][1]) / 1e9) for job in self._running.values()]
        unfinished = len(self._waiting) + len(spent)
        return (mean * unfinished - sum(spent)) / max(1, min(self._width, unfinished))

    def _fill(self, threads: ThreadPoolExecutor) -> None:
        for job in list(self._waiting):
            if len(self._running) == self._width or self._stopped:
                return
            needs = {need.key for need in job.needs.values()}
            if needs & self._failed:
                self._waiting.remove(job)
                self._failed.add(job.key)
                self._end(job, None, 0.0)
            elif not needs & {other.key for other in (*self._waiting, *self._running.values())}:
                self._waiting.remove(job)
                process = self._start(job)
                self._begun[job.key] = process, now_ns()
                self._running[threads.submit(process.wait)] = job
                if self._stopped == signal.SIGTERM:
                    process.terminate()  # it came while the row was begun

    def _collect(self) -> None:
        ended, _ = wait(self._running, return_when=FIRST_COMPLETED)
        for future in ended:
            job = self._running.pop(future)
            code, seconds = future.result(), (now_ns() - self._begun[job.key][1]) / 1e9
            if code:
                self._failed.add(job.key)
            else:
                self._seconds.append(seconds)
            self._end(job, code, seconds)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, _frame: FrameType | None) -> None:
            self._stopped = number
            for process, _ in list(self._begun.values()) if number == signal.SIGTERM else []:
                process.terminate()  # nothing happens to one that has ended

        previous = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                previous[number] = signal.signal(number, stop)
            except ValueError:
                break  # not the main thread: signals go elsewhere
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
