"""The GStreamer pipelines that this toolkit writes itself, so that nobody has to.

All end the same way: nothing queues. A leaky queue of one frame keeps the newest; `sync=false` shows it at once.
Decoding is the board's own where it has one. An engine that was built for NV12 or YUYV gets just that, which cameras
and hardware decoders give. Any other gets BGR from a `videoconvert`, the one conversion on the CPU: `GstSource` says
so, and what it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from edgeseg.core.gstreamer import has_element, quote
from edgeseg.core.types import InputFormat, Size

FORMATS: Mapping[InputFormat, str] = {"bgr": "BGR", "nv12": "NV12", "yuyv": "YUY2"}
"""GStreamer's names."""
NEWEST = "queue max-size-buffers=1 max-size-bytes=0 max-size-time=0 leaky=downstream"
"""A queue of one frame, in which the newer one replaces the older one."""
_RTSP_LATENCY_MS = 50


@dataclass(frozen=True, slots=True)
class Elements:
    """Which of the elements that matter this machine has."""

    nvidia: bool

    @classmethod
    def probe(cls) -> Elements:
        """Ask GStreamer's registry; nothing is there without its tools."""
        return cls(nvidia=has_element("nvvidconv"))


def csi(sensor: int, size: Size, rate_hz: int, form: InputFormat = "bgr") -> str:
    """A CSI camera through NVIDIA's Argus: debayered and scaled by the board's image processor."""
    height, width = size
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},framerate={rate_hz}/1 ! "
        f"{NEWEST} ! nvvidconv ! {_from_board(form)}"
    )


def _from_board(form: InputFormat) -> str:
    """What NVIDIA's converter writes to ordinary memory; it has no BGR, but BGRx."""
    return f"video/x-raw,format={'BGRx' if form == 'bgr' else FORMATS[form]}"


def rtsp(address: str, elements: Elements, form: InputFormat = "bgr") -> str:
    """An RTSP camera: over TCP, with a short jitter buffer that drops instead of growing.

    `decodebin` picks the decoder of the highest rank, which is the hardware's where there is one; it starts at a key
    frame, and damaged frames before one are not shown.
    """
    parts = urlsplit(address)
    place = f"{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
    location = f"{parts.scheme}://{place}{f'?{parts.query}' if parts.query else ''}"
    source = f"rtspsrc location={quote(location)} protocols=tcp latency={_RTSP_LATENCY_MS} drop-on-latency=true"
    if parts.username is not None:
        source += f" user-id={quote(unquote(parts.username))} user-pw={quote(unquote(parts.password or ''))}"
    convert = f" ! nvvidconv ! {_from_board(form)}" if elements.nvidia else ""
    return f"{source} ! decodebin ! {NEWEST}{convert}"


def to_appsink(pipeline: str, form: InputFormat = "bgr", *, convert: bool = True) -> str:
    """The end of a pipeline that OpenCV reads.

    Args:
        pipeline: What comes before.
        form: What the engine takes.
        convert: Whether a `videoconvert` may make that of something else.
    """
    if "appsink" in pipeline:
        return pipeline
    converted = " ! videoconvert" if convert else ""
    # an element of its own: gst-launch's grammar has no two filters in the short form one after the other
    wanted = f"capsfilter caps=video/x-raw,format={FORMATS[form]}"
    return f"{pipeline}{converted} ! {wanted} ! appsink max-buffers=1 drop=true sync=false"


def to_pipe(pipeline: str) -> str:
    """The end of a pipeline whose pictures come through a pipe, self-describing (YUV4MPEG2)."""
    return (
        f"{pipeline} ! {NEWEST} ! videoconvert ! video/x-raw,format=I420 ! y4menc ! fdsink fd=1 sync=false async=false"
    )
