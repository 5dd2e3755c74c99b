"""Telling systemd how the service is: ready, alive, stopping (sd_notify(3)). Silent where nobody asked.

The watchdog is fed only while the engine thread goes round its loop: a camera that is lost does not stop the beat,
an engine that hangs does, and systemd restarts the service.
"""

from __future__ import annotations

import os
import socket

from edgeseg.core.clock import now_ns
from edgeseg.core.log import get_logger

_log = get_logger(__name__)


class Notifier:
    """One connection to the service manager, named by the environment.

    Args:
        environment: `NOTIFY_SOCKET` and `WATCHDOG_USEC`; the process's own by default.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        given = dict(os.environ) if environment is None else environment
        address = given.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._interval_ns = int(given.get("WATCHDOG_USEC", "0")) * 1000 // 3
        self._fed_ns = 0
        self._status = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None

    def ready(self) -> None:
        """Frames flow."""
        self._send("READY=1")

    def alive(self, *, beat_ns: int, status: str) -> None:
        """Feed the watchdog if the loop has gone round lately, and tell a new status.

        Args:
            beat_ns: When the engine thread last went round.
            status: One line for `systemctl status`.
        """
        if self._socket is None:
            return
        now = now_ns()
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")
        if self._interval_ns and now - self._fed_ns >= self._interval_ns and now - beat_ns < 2 * self._interval_ns:
            self._fed_ns = now
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Hang up; may be called twice."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:
            _log.warning("the service manager does not listen: %s", error)
