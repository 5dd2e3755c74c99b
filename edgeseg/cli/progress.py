"""Two displays of progress: live bars on a terminal, one line now and then in a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from edgeseg.core import clock
from edgeseg.core.progress import Task


class _Bar:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, n: float = 1.0, note: str | None = None) -> None:
        if note is None:
            self._bars.advance(self._task, n)
        else:
            self._bars.update(self._task, advance=n, note=note)


class RichProgress:
    """Live bars with elapsed time and an estimate of what remains."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
        )

    def __enter__(self) -> RichProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @contextmanager
    def task(self, name: str, total: float | None = None) -> Iterator[Task]:
        """Show a bar for the time of the `with` block; it stays, finished, afterwards."""
        identifier = self._bars.add_task(name, total=total, note="")
        try:
            yield _Bar(self._bars, identifier)
        finally:
            self._bars.stop_task(identifier)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(text, markup=False, soft_wrap=True)


class _Lines:
    """Reports at the start, every ten seconds and at the end: a log stays readable."""

    EVERY_NS = 10_000_000_000

    def __init__(self, console: Console, name: str, total: float | None) -> None:
        self._console = console
        self._name = name
        self._total = total
        self._done = 0.0
        self._note = ""
        self._start_ns = self._last_ns = clock.now_ns()

    def advance(self, n: float = 1.0, note: str | None = None) -> None:
        self._done += n
        self._note = note if note is not None else self._note
        now = clock.now_ns()
        if now - self._last_ns >= self.EVERY_NS:
            self._last_ns = now
            self._console.print(self._line(now), markup=False, soft_wrap=True)

    def finish(self) -> None:
        self._console.print(self._line(clock.now_ns()), markup=False, soft_wrap=True)

    def _line(self, now_ns: int) -> str:
        seconds = (now_ns - self._start_ns) / 1e9
        text = f"{self._name}: {_count(self._done)}"
        if self._total:
            text += f"/{_count(self._total)}"
            if 0 < self._done < self._total:
                text += f", about {seconds * (self._total - self._done) / self._done:.0f} s left"
        return f"{text}, {seconds:.1f} s" + (f", {self._note}" if self._note else "")


def _count(value: float) -> str:
    """Three digits of seconds, which come in parts; of frames all."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


class LineProgress:
    """For pipes and logs: a line when a task starts to take long, and one when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def task(self, name: str, total: float | None = None) -> Iterator[Task]:
        """Report on one task for the time of the `with` block."""
        lines = _Lines(self._console, name, total)
        try:
            yield lines
        finally:
            lines.finish()

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, soft_wrap=True)
