"""From the text a person typed to a kind of source; imports nothing heavy until one is made."""

from __future__ import annotations

import glob
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import msgspec

from edgeseg.core.config import unknown_name
from edgeseg.core.errors import RequestError
from edgeseg.core.types import Size, Source

S = TypeVar("S", bound=msgspec.Struct)

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")


@dataclass(frozen=True, slots=True)
class SourceKind:
    """One kind of source: where its class is, and whether it is played like a file (WAIT) or a camera (LATEST)."""

    name: str
    module: str
    attribute: str
    file_like: bool = False

    def make(self, uri: str) -> Source:
        """The source itself; imports its file."""
        factory = getattr(importlib.import_module(f"edgeseg.sources.{self.module}"), self.attribute)
        return cast(Callable[[str], Source], factory)(uri)


_VIDEO = SourceKind("video file", "video", "VideoSource", file_like=True)
_IMAGES = SourceKind("images", "images", "ImagesSource", file_like=True)
_V4L2 = SourceKind("V4L2 camera", "v4l2", "V4l2Source")
_SCHEMES = {
    "pattern:": SourceKind("test pattern", "pattern", "PatternSource"),
    "rtsp://": SourceKind("RTSP camera", "rtsp", "rtsp_source"),
    "rtsps://": SourceKind("RTSP camera", "rtsp", "rtsp_source"),
    "http://": SourceKind("HTTP camera", "mjpeg", "MjpegSource"),
    "https://": SourceKind("HTTP camera", "mjpeg", "MjpegSource"),
    "csi://": SourceKind("CSI camera", "csi", "CsiSource"),
    "gst:": SourceKind("GStreamer pipeline", "gst", "GstSource"),
    "street:": SourceKind("street scenes", "street", "StreetSource", file_like=True),
}


def source_kind(uri: str) -> SourceKind:
    """The kind of source that `uri` names.

    Raises:
        RequestError: Nothing of that name: no such scheme, file or folder.
    """
    from edgeseg.sources import KINDS

    for scheme, kind in _SCHEMES.items():
        if uri.startswith(scheme):
            return kind
    if uri.isdecimal() or uri.startswith("/dev/video"):
        return _V4L2
    scheme, colon, _ = uri.partition("://")
    if colon:
        raise RequestError("unknown kind of source", value=f"{scheme}://", allowed=KINDS)
    path = Path(uri).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES):
        return _IMAGES
    if path.is_file():
        return _VIDEO
    if glob.has_magic(uri):
        return _IMAGES
    raise RequestError("the source does not exist", value=uri, allowed=KINDS)


def parse_options(uri: str, kind: type[S]) -> S:
    """The `NAME=VALUE,…` after the colon of `pattern:` or `street:` as a `kind`.

    Raises:
        RequestError: An unknown name (with the nearest known one), or a value of another type.
    """
    scheme, _, text = uri.partition(":")
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    values: dict[str, str] = {}
    for item in filter(None, text.split(",")):
        name, equals, value = item.partition("=")
        if not equals or name not in known:
            raise unknown_name(f"option of {scheme}:", name, known)
        values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(f"an option of {scheme}: is not valid", value=f"{uri}: {error}") from None


def parse_size(text: str, origin: str) -> Size:
    """`540x960` as (540, 960).

    Raises:
        RequestError: Not HEIGHTxWIDTH.
    """
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise RequestError(f"not a size in {origin}", value=text, allowed="HEIGHTxWIDTH in pixels, for example 540x960")
    return int(height), int(width)
