"""A window with the overlay, one a camera. Windows belong to the main thread: whoever waits for the loop steps it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from edgeseg.core.errors import UnavailableError
from edgeseg.core.types import Result, SinkContext
from edgeseg.sinks.display import probe_display
from edgeseg.sinks.overlay import OverlayPainter

_QUIT_KEYS = (ord("q"), 27)  # q and Escape


class WindowSink:
    """Shows overlays; q, Escape or closing a window ends the loop.

    Args:
        on_quit: Called when the person is done.

    Raises:
        UnavailableError: There is no display.
    """

    name = "window"
    lossless = False
    main_thread = True
    queue = 1  # a person wants to see the newest one

    def __init__(self, on_quit: Callable[[], None]) -> None:
        found = probe_display()
        if not found.ok:
            raise UnavailableError("there is no display to show a window on", value=found.detail, allowed=found.remedy)
        self._on_quit = on_quit
        self._titles: list[str] = []

    def open(self, context: SinkContext) -> None:
        """Open one window a camera."""
        self._painters = [OverlayPainter(context.classes) for _ in context.cameras]
        self._titles = [f"edgeseg {number}: {info.uri}" for number, info in enumerate(context.cameras)]
        for title in self._titles:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def write(self, result: Result) -> None:
        """Show one result; one without a picture shows a grey field with its state."""
        picture = self._painters[result.camera].paint(result)
        if picture is None:
            picture = np.full((240, 640, 3), 64, np.uint8)
            text = f"{result.state.name}: {result.reason}"
            cv2.putText(picture, text, (12, 128), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
        cv2.imshow(self._titles[result.camera], picture)
        closed = cv2.waitKey(1) & 0xFF in _QUIT_KEYS or any(
            cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1 for title in self._titles
        )
        if closed:
            self._on_quit()

    def close(self) -> None:
        """Close the windows; may be called twice."""
        if self._titles:
            cv2.destroyAllWindows()
        self._titles = []
