"""The one stop event of a running loop, and the first error of any of its threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgeseg.core.log import get_logger

_log = get_logger(__name__)


class Stop:
    """Set once, by whoever wants the loop to end; every wait in the loop looks at it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._wakers: list[Callable[[], None]] = []

    def on_wake(self, wake: Callable[[], None]) -> None:
        """Call `wake` when the stop is set or something else has changed, so that waits look again at once."""
        self._wakers.append(wake)

    def is_set(self) -> bool:
        """Whether the loop is to end."""
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the stop; whether it is set."""
        return self._event.wait(timeout_s)

    def set(self) -> None:
        """End the loop."""
        self._event.set()
        self.wake()

    def wake(self) -> None:
        """Make every wait look again: something has changed."""
        for wake in self._wakers:
            wake()

    def fail(self, error: BaseException, *, end: bool = True) -> None:
        """Keep the first error for `reraise`; end the loop unless it can go on without that thread."""
        with self._lock:
            if self._error is None:
                self._error = error
        _log.debug("a thread failed", exc_info=error)
        if end:
            self.set()

    @property
    def error(self) -> BaseException | None:
        """The first error."""
        return self._error

    def reraise(self) -> None:
        """Raise the first error, if there was one."""
        if self._error is not None:
            raise self._error
