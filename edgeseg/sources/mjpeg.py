"""`http://…`: a camera that sends JPEG pictures one after another (multipart/x-mixed-replace, RFC 2046).

Read with the standard library, so that every wait has a time-out and no decoder queues frames behind our back.
"""

from __future__ import annotations

import base64
import shlex
import socket
import ssl
from typing import NoReturn
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.errors import DataError, SourceLostError, UnavailableError
from edgeseg.core.types import U8, SourceInfo
from edgeseg.sources.base import BaseSource, place

_READ_TIMEOUT_S = 1.5
_OPEN_TIMEOUT_S = 5.0
_WAITS = "`live --keep-trying` waits for one"
_CHUNK = 1 << 16
_LARGEST = 32 << 20  # bytes of one picture: more is no camera
_START, _END = b"\xff\xd8\xff", b"\xff\xd9"


class MjpegSource(BaseSource):
    """A stream of JPEG pictures over HTTP. When several wait, all but the newest are skipped and counted.

    Args:
        uri: Address; user and password go into the request and nowhere else.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._address = uri
        self._socket: socket.socket | None = None
        self._pending = bytearray()
        self._picture = b""
        self._first: bytes | None = None
        self._t_host_ns = 0

    def open(self) -> SourceInfo:
        """Connect and wait for the first picture.

        Raises:
            UnavailableError: No connection, an answer that is no picture stream, or no picture.
        """
        self.close()
        try:
            self._connect()
            self._first = self._next_picture()
            height, width = _jpeg(self._first, self.uri).shape[:2]
        except (OSError, SourceLostError, DataError) as error:
            self.close()
            raise UnavailableError(
                "the camera does not answer",
                value=f"{self.uri}: {getattr(error, 'strerror', None) or error}",
                allowed=f"a connection within {_OPEN_TIMEOUT_S:g} s, a picture every {_READ_TIMEOUT_S:g} s; {_WAITS}",
                fix=self._look,
            ) from None
        self._id = -1
        return SourceInfo(
            uri=self.uri, size=(height, width), rate_hz=None, live=True, coding="intra", clock=CaptureClock.HOST
        )

    @property
    def _look(self) -> str:
        """The command that shows what the camera answers."""
        return f"curl -v --max-time {_OPEN_TIMEOUT_S:g} -o /dev/null {shlex.quote(self.uri)}"

    def close(self) -> None:
        """Hang up; may be called twice."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._first = None
        self._pending.clear()

    def _advance(self) -> bool:
        assert self._socket is not None, "grab() before open()"
        if self._first is not None:
            self._picture, self._first = self._first, None
            self._t_host_ns = now_ns()
            return True
        try:
            self._picture = self._next_picture()
        except OSError as error:
            raise SourceLostError("the camera has gone", value=f"{self.uri}: {error}") from None
        self._t_host_ns = now_ns()
        return True

    def _stamp(self) -> tuple[int, CaptureClock]:
        return self._t_host_ns, CaptureClock.HOST

    def _decode(self, out_hwc: U8 | None) -> U8:
        return place(_jpeg(self._picture, f"{self.uri}, frame {self._id}"), out_hwc)

    # ------------------------------------------------------------ HTTP

    def _connect(self) -> None:
        parts = urlsplit(self._address)
        secure = parts.scheme == "https"
        host = parts.hostname or ""
        plain = socket.create_connection((host, parts.port or (443 if secure else 80)), _OPEN_TIMEOUT_S)
        self._socket = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secure else plain
        self._socket.settimeout(_READ_TIMEOUT_S)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {path} HTTP/1.0", f"Host: {parts.netloc.rpartition('@')[2]}", "User-Agent: edgeseg"]
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            lines.append(f"Authorization: Basic {base64.b64encode(login.encode()).decode()}")
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        header = self._read_header()
        status = header.split(b"\r\n", 1)[0].decode("latin-1", "replace")
        if " 200" not in status:
            self._refuse(status)
        if b"multipart/x-mixed-replace" not in header.lower():
            self._refuse("the answer is no stream of pictures (multipart/x-mixed-replace)")

    def _read_header(self) -> bytes:
        while b"\r\n\r\n" not in self._pending:
            if len(self._pending) > _CHUNK:
                self._refuse("no end of the header")
            self._receive()
        header, _, rest = bytes(self._pending).partition(b"\r\n\r\n")
        self._pending[:] = rest
        return header

    def _refuse(self, why: str) -> NoReturn:
        self.close()
        raise UnavailableError(
            "the camera gives no pictures",
            value=f"{self.uri}: {why}",
            allowed="an address that answers with multipart/x-mixed-replace",
            fix=self._look,
        )

    def _next_picture(self) -> bytes:
        """The newest whole picture that has arrived; waits for one. Pictures before it are counted as skipped."""
        while True:
            found = self._cut()
            if found is None:
                if len(self._pending) > _LARGEST:
                    raise SourceLostError("the camera sends no pictures", value=self.uri)
                self._receive()
                continue
            self._drain()
            while (newer := self._cut()) is not None:
                found = newer
                self._id += 1
            return found

    def _cut(self) -> bytes | None:
        """The first whole picture in what was received: from a start mark to the end mark before the next part.

        Marks inside a picture (a thumbnail has its own) are told apart by what follows the end: a boundary.
        """
        start = self._pending.find(_START)
        if start < 0:
            return None
        end = self._pending.find(b"\r\n--", start)
        while end >= 0 and self._pending.rfind(_END, start, end) < 0:
            end = self._pending.find(b"\r\n--", end + 4)
        if end < 0:
            return None
        picture = bytes(self._pending[start:end])
        del self._pending[:end]
        return picture

    def _drain(self) -> None:
        """Take in what has arrived already, without waiting."""
        assert self._socket is not None
        self._socket.setblocking(False)
        try:
            while len(self._pending) < _LARGEST:
                self._receive()
        except (BlockingIOError, ssl.SSLWantReadError, ConnectionError):
            return  # nothing more now; a lost connection shows at the next wait
        finally:
            self._socket.settimeout(_READ_TIMEOUT_S)

    def _receive(self) -> None:
        assert self._socket is not None
        data = self._socket.recv(_CHUNK)
        if not data:
            raise ConnectionError("the connection was closed")
        self._pending += data


def _jpeg(data: bytes, origin: str) -> U8:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None or _END not in data[-64:]:
        raise DataError("a picture of the camera does not decode", value=origin)
    picture: U8 = image
    return picture
