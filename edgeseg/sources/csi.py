"""`csi://N`: a camera on the board's CSI connector, through NVIDIA's Argus.

csi://0?size=720x1280&rate=30
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from edgeseg.core.config import unknown_name
from edgeseg.core.errors import RequestError, UnavailableError
from edgeseg.core.gstreamer import has_element
from edgeseg.core.types import InputFormat, SourceInfo
from edgeseg.sources import pipelines
from edgeseg.sources.gst import GstSource
from edgeseg.sources.uri import parse_size

_DEFAULTS = {"size": "720x1280", "rate": "30"}


class CsiSource(GstSource):
    """A CSI camera of a Jetson.

    Args:
        uri: `csi://` and the number of the sensor.

    Raises:
        RequestError: No number, or an unknown option.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        options = dict(_DEFAULTS)
        for name, value in parse_qsl(parts.query):
            if name not in options:
                raise unknown_name("option of csi://", name, list(options))
            options[name] = value
        sensor = parts.netloc or "0"
        if not sensor.isdecimal() or not options["rate"].isdecimal() or not int(options["rate"]):
            raise RequestError("not a CSI camera", value=uri, allowed="csi://N?size=720x1280&rate=30")
        super().__init__(uri)
        self._sensor = int(sensor)
        self._size = parse_size(options["size"], uri)
        self._rate_hz = int(options["rate"])

    def _text(self, form: InputFormat) -> str:
        return pipelines.csi(self._sensor, self._size, self._rate_hz, form)

    def _surely_converts(self, form: InputFormat) -> bool:
        return form == "bgr"  # the board's converter has no BGR

    def open(self) -> SourceInfo:
        """Start the camera.

        Raises:
            UnavailableError: Not a Jetson, or no picture.
        """
        if not has_element("nvarguscamerasrc"):
            raise UnavailableError(
                "a CSI camera needs NVIDIA's nvarguscamerasrc, which only a Jetson has",
                value=self.uri,
                fix="edgeseg doctor",
            )
        return super().open()
