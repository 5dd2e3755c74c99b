"""Results to a web page: draws and encodes a view once for all its viewers, and only while it has any."""

from __future__ import annotations

import cv2
import numpy as np

from edgeseg.core.errors import RequestError
from edgeseg.core.types import U8, Result, SinkContext
from edgeseg.sinks.overlay import OverlayPainter
from edgeseg.sinks.web.broadcast import View
from edgeseg.sinks.web.server import Server, Site, needs_token, new_token

_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 80)
_WIDEST = 1280


class WebSink:
    """The page at `url`.

    Args:
        port: Port; 0 takes a free one.
        host: Address to listen on. Loopback by default; any other address has a token.
        token: The token to ask for; a new one is made where one is needed and none is given.
    """

    name = "web"
    lossless = False
    queue = 1  # people look at the newest picture

    def __init__(self, port: int, *, host: str = "127.0.0.1", token: str | None = None) -> None:
        if not 0 <= port <= 65535:
            raise RequestError("not a port", value=port, allowed="0 to 65535")
        self._host = host
        self._port = port
        self._token = token or (new_token() if needs_token(host) else None)
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """What to open in a browser."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/" + (f"?token={self._token}" if self._token else "")

    def open(self, context: SinkContext) -> None:
        """Start to listen.

        Raises:
            RequestError: The port is taken, or the address is not of this machine.
        """
        self._site = Site(context.classes, [info.uri for info in context.cameras], context.engine, self._token)
        self._painters = [OverlayPainter(context.classes) for _ in context.cameras]
        self._server = Server(self._host, self._port, self._site)
        self._port = self._server.port

    def write(self, result: Result) -> None:
        """Count the result, and encode what somebody watches."""
        self._site.counters.add(result)
        for view in self._site.broadcast.wanted(result.camera):
            ok, jpeg = cv2.imencode(".jpg", _fitting(self._picture(result, view)), _JPEG)
            if ok:
                self._site.broadcast.put((result.camera, view), jpeg.tobytes())

    def close(self) -> None:
        """Stop listening; may be called twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _picture(self, result: Result, view: View) -> U8:
        painter = self._painters[result.camera]
        if view == "overlay":
            picture = painter.paint(result)
        elif view == "mask":
            picture = painter.colours(result)
        else:
            picture = result.image_hwc
        return _nothing(result) if picture is None else picture


def _nothing(result: Result) -> U8:
    """What is shown where there is no picture, or no mask: a grey field with the state, never an earlier mask."""
    size = result.size or (360, 640)
    field = np.full((*size, 3), 48, np.uint8)
    text = f"{result.state.name}  {result.reason}"
    cv2.putText(field, text, (16, size[0] // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (230, 230, 230), 1, cv2.LINE_AA)
    return field


def _fitting(picture: U8) -> U8:
    height, width = picture.shape[:2]
    if width <= _WIDEST:
        return picture
    size = (_WIDEST, round(height * _WIDEST / width))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)  # type: ignore[no-any-return]
