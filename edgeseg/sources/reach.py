"""Why a network camera gives no picture: what its address answers when it is asked plainly.

FFmpeg and GStreamer say only that it does not open. This is asked after they have given up, never before: cameras
serve few connections.
"""

from __future__ import annotations

import shlex
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from edgeseg.core.errors import UnavailableError
from edgeseg.core.log import redact

_ASK_S = 0.5
_PORTS = {"rtsp": 554, "rtsps": 322}


@dataclass(frozen=True, slots=True)
class Reach:
    """What is known of an RTSP address.

    Attributes:
        address: As the person typed it; its credentials are neither sent nor shown.
        connects: Whether something takes connections there.
        why: What is wrong with it; empty where that cannot be seen from outside.
    """

    address: str
    connects: bool
    why: str

    def error(self, *, within_s: float) -> UnavailableError:
        """For a camera that has not given a picture in so many seconds."""
        uri, (host, port) = redact(self.address), _endpoint(self.address)
        return UnavailableError(
            "the camera does not answer",
            value=f"{uri}: {self.why or 'it takes the connection and sends no picture'}",
            allowed=f"an RTSP server that sends a picture within {within_s:g} s; `live --keep-trying` waits for one",
            fix=f"ffprobe -rtsp_transport tcp {shlex.quote(uri)}" if self.connects else f"nc -vz {host} {port}",
        )


def reach(address: str) -> Reach:
    """Ask an RTSP address; takes up to a second, and longer where names are not found."""
    parts, (host, port) = urlsplit(address), _endpoint(address)
    try:
        with socket.create_connection((host, port), _ASK_S) as connection:
            connection.settimeout(_ASK_S)
            why = "" if parts.scheme == "rtsps" else _complaint(connection, f"rtsp://{host}:{port}{parts.path}")
        if why.startswith("401"):
            given = parts.username is not None
            why = "it does not take this user and password" if given else "it wants rtsp://USER:PASSWORD@HOST/PATH"
        return Reach(address, True, why)
    except (OSError, UnicodeError) as error:  # a name that IDNA cannot encode is the latter
        return Reach(address, False, (getattr(error, "strerror", None) or str(error)).lower())


def _endpoint(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 554)


def _complaint(connection: socket.socket, url: str) -> str:
    """What the server has against this address; empty where it has nothing, or says nothing in time."""
    request = f"DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\nUser-Agent: edgeseg\r\n\r\n"
    try:
        connection.sendall(request.encode())
        line = connection.recv(4096).split(b"\r\n", 1)[0].decode("latin-1")
    except OSError:
        return ""
    version, _, status = line.partition(" ")
    if not version.startswith("RTSP/"):
        return "what answers is no RTSP server" if line else ""
    return "" if status.startswith("200") else status
