"""The HTTP side: one page, picture streams, a stream of numbers, `/metrics`. Standard library only.

Loopback needs no token, but only answers to its own name (a page elsewhere could point a foreign name at it). Any
other address needs the token: once in the URL, from then on in a cookie.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from urllib.parse import parse_qs, urlsplit

from edgeseg.core.errors import RequestError
from edgeseg.core.log import get_logger
from edgeseg.core.types import Classes
from edgeseg.sinks.counters import Counters
from edgeseg.sinks.web.broadcast import VIEWS, Broadcast, View

_MOST_VIEWERS = 16
_SEND_TIMEOUT_S = 3.0  # a viewer that reads nothing for so long is let go
_BEAT_S = 0.25
_BOUNDARY = "edgeseg"
_POLICY = "default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
_COOKIE = "edgeseg-token"
_log = get_logger(__name__)


class Site:
    """What the page shows, and who may see it.

    Args:
        classes: For the legend.
        cameras: URIs for the camera list.
        engine: Name of the engine.
        token: Needed by everybody; None for loopback.
    """

    def __init__(self, classes: Classes, cameras: Sequence[str], engine: str, token: str | None) -> None:
        self.broadcast = Broadcast()
        self.counters = Counters(cameras)
        self.token = token
        self.about: Mapping[str, object] = {
            "engine": engine,
            "cameras": list(cameras),
            "classes": [
                {"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*rgb)}
                for name, rgb in zip(classes.names, classes.palette_rgb, strict=True)
            ],
        }
        self.page = resources.files("edgeseg.sinks.web").joinpath("page.html").read_bytes()


class Server:
    """A running web server.

    Args:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        site: What it shows.

    Raises:
        RequestError: The address cannot be listened on.
    """

    def __init__(self, host: str, port: int, site: Site) -> None:
        self._site = site
        try:
            self._http = _Http((host, port), partial(_Handler, site=site))
        except (OSError, OverflowError) as error:
            raise RequestError(
                "cannot listen on this address", value=f"{host}:{port}: {error}", allowed="a free port"
            ) from None
        self.port = int(self._http.server_address[1])
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), name="web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._site.broadcast.close()
        self._http.shutdown()
        self._http.end_connections()
        self._http.server_close()
        self._thread.join(2)


def needs_token(host: str) -> bool:
    """Whether listening there lets others than this machine in."""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(18)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True  # server_close waits for the threads of connections, which end_connections ends
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: partial[_Handler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        with self._lock:
            still = list(self._open)
        for connection in still:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # gone by itself

    def handle_error(self, request: object, client_address: object) -> None:
        del request
        _log.debug("a viewer at %s went away", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server_version = "edgeseg"
    sys_version = ""
    timeout = _SEND_TIMEOUT_S

    def __init__(self, *args: object, site: Site) -> None:
        self._site = site
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if not self._may_enter(query):
            return
        if url.path == "/":
            self._send(self._site.page, "text/html; charset=utf-8")
        elif url.path == "/about":
            self._send(json.dumps(self._site.about).encode(), "application/json")
        elif url.path == "/metrics":
            self._send(self._site.counters.prometheus().encode(), "text/plain; version=0.0.4; charset=utf-8")
        elif url.path == "/numbers":
            self._numbers()
        elif url.path == "/stream":
            self._stream(query)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
        _log.debug("%s " + format, self.address_string(), *args)

    # ------------------------------------------------------------ who may see it

    def _may_enter(self, query: Mapping[str, str]) -> bool:
        token = self._site.token
        if token is None:
            name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
            if name == "localhost" or not needs_token(name):
                return True
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return False
        if hmac.compare_digest(query.get("token", "").encode(), token.encode()):
            self._new_cookie = token
            return True
        cookies = (item.strip().partition("=") for item in self.headers.get("Cookie", "").split(";"))
        if any(name == _COOKIE and hmac.compare_digest(value.encode(), token.encode()) for name, _, value in cookies):
            return True
        self.send_error(HTTPStatus.UNAUTHORIZED, "open the address that edgeseg live printed, with its token")
        return False

    # ------------------------------------------------------------ answers

    def end_headers(self) -> None:
        """Headers that every answer has."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Referrer-Policy", "no-referrer")
        if getattr(self, "_new_cookie", None):
            self.send_header("Set-Cookie", f"{_COOKIE}={self._new_cookie}; HttpOnly; SameSite=Strict; Path=/")
        super().end_headers()

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _numbers(self) -> None:
        """States and latencies as server-sent events, four times a second."""
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        wait = threading.Event()
        while not self._site.broadcast.closed:
            self.wfile.write(b"data: " + json.dumps(self._site.counters.snapshot()).encode() + b"\n\n")
            wait.wait(_BEAT_S)

    def _stream(self, query: Mapping[str, str]) -> None:
        camera, name = query.get("camera", "0"), query.get("view", "overlay")
        cameras = self._site.about["cameras"]
        assert isinstance(cameras, list)
        if not camera.isdecimal() or int(camera) >= len(cameras) or name not in VIEWS:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        if self._site.broadcast.viewers >= _MOST_VIEWERS:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_VIEWERS} viewers already")
            return
        view: View = name
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.end_headers()
        with self._site.broadcast.watching((int(camera), view)):
            self._send_pictures((int(camera), view))

    def _send_pictures(self, key: tuple[int, View]) -> None:
        number = 0
        while not self._site.broadcast.closed:
            newer = self._site.broadcast.newer(key, number, timeout_s=1.0)
            if newer is None:
                continue
            number, jpeg = newer
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
