"""How long work reports itself: a Protocol that any room takes, without knowing who draws it.

The command line hands in a display (rich); tests and library users may leave the silent default.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol


class Task(Protocol):
    """One piece of work with a known or unknown length."""

    def advance(self, n: float = 1.0, note: str | None = None) -> None:
        """Say that `n` more units are done; `note` replaces the short text beside the bar."""


class Progress(Protocol):
    """Where tasks are shown."""

    def task(self, name: str, total: float | None = None) -> AbstractContextManager[Task]:
        """Open a task; it closes with the `with` block. `total` is None where the length is not known."""

    def say(self, text: str) -> None:
        """Show one line that stays."""


class _SilentTask:
    def __enter__(self) -> Task:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def advance(self, n: float = 1.0, note: str | None = None) -> None:
        """Say nothing."""


class Silent:
    """A `Progress` that shows nothing."""

    def task(self, name: str, total: float | None = None) -> AbstractContextManager[Task]:
        """Open a task that shows nothing."""
        del name, total
        return _SilentTask()

    def say(self, text: str) -> None:
        """Say nothing."""
