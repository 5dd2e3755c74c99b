"""The newest picture of each view, encoded once for all who look at it, and not at all while nobody does."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

View = Literal["overlay", "mask", "frame"]
VIEWS: tuple[View, ...] = ("overlay", "mask", "frame")
Key = tuple[int, View]


class Broadcast:
    """Pictures by (camera, view). Viewers wait for newer ones; a slow viewer misses some and holds up nobody."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._viewers: Counter[Key] = Counter()
        self._pictures: dict[Key, tuple[int, bytes]] = {}
        self._closed = False

    @contextmanager
    def watching(self, key: Key) -> Iterator[None]:
        """Count as a viewer of one view."""
        with self._changed:
            self._viewers[key] += 1
        try:
            yield
        finally:
            with self._changed:
                self._viewers[key] -= 1

    @property
    def viewers(self) -> int:
        """How many are watching."""
        with self._changed:
            return sum(self._viewers.values())

    def wanted(self, camera: int) -> list[View]:
        """Views of a camera that somebody watches."""
        with self._changed:
            return [view for view in VIEWS if self._viewers[camera, view]]

    def put(self, key: Key, jpeg: bytes) -> None:
        """A newer picture."""
        with self._changed:
            number, _ = self._pictures.get(key, (0, b""))
            self._pictures[key] = (number + 1, jpeg)
            self._changed.notify_all()

    def newer(self, key: Key, than: int, timeout_s: float) -> tuple[int, bytes] | None:
        """The newest picture if it is newer than number `than`; None when none came in time or it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._pictures.get(key, (0, b""))[0] > than, timeout_s)
            number, jpeg = self._pictures.get(key, (0, b""))
            return (number, jpeg) if number > than and not self._closed else None

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self._closed

    def close(self) -> None:
        """Wake every viewer for the last time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
