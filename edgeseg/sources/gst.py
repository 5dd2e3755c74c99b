"""GStreamer pipelines as sources: through OpenCV where it was built with GStreamer, else through a child process.

The opencv-python wheel has no GStreamer; the distribution's python3-opencv and JetPack's do. Without it the pipeline
runs in `gst-launch-1.0` and its pictures come through a pipe: one more copy, and the capture time is the host's.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import subprocess
import tempfile
from typing import IO, Protocol

import cv2
import numpy as np

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.errors import DataError, RequestError, SourceLostError, UnavailableError
from edgeseg.core.gstreamer import opencv_has_gstreamer
from edgeseg.core.log import get_logger, redact
from edgeseg.core.packing import packed_shape, picture_size
from edgeseg.core.types import U8, InputFormat, Size, SourceInfo, format_size
from edgeseg.sources import pipelines
from edgeseg.sources.base import BaseSource

_OPEN_TIMEOUT_MS = 8000
_READ_TIMEOUT_MS = 1500
_NO_ANSWER_NS = 4_000_000_000  # what takes so long to fail did not fail for its format
_REMEDY = "sudo apt install gstreamer1.0-tools gstreamer1.0-plugins-good gstreamer1.0-libav"
_log = get_logger(__name__)


class _Reader(Protocol):
    """What runs a pipeline."""

    size: Size
    rate_hz: float | None
    form: InputFormat

    def grab(self) -> bool:
        """The next picture is there; False at the end or after the time-out."""

    def retrieve(self, out_hwc: U8 | None) -> U8:
        """That picture."""

    def close(self) -> None:
        """End the pipeline."""


class GstSource(BaseSource):
    """A free pipeline, `gst:PIPELINE`, without its sink.

    Args:
        uri: `gst:` and the pipeline.
        inter: Whether its video is inter-coded as far as is known.
    """

    def __init__(self, uri: str, *, inter: bool = False) -> None:
        super().__init__(uri)
        self._pipeline = uri.removeprefix("gst:").strip()
        if not self._pipeline:
            raise RequestError("an empty pipeline", value=uri, allowed="gst:ELEMENT ! ELEMENT …, without a sink")
        self._inter = inter
        self._wanted: InputFormat = "bgr"
        self._converts: bool | None = None  # whether it needs `videoconvert`; None until that was tried
        self._said = False
        self._reader: _Reader | None = None

    def suit(self, form: InputFormat, size: Size | None) -> None:
        """Give what an engine takes; see `Suitable`. The size is the pipeline's own."""
        del size
        self._wanted = form
        self._converts = True if self._surely_converts(form) else None

    def open(self) -> SourceInfo:
        """Start the pipeline and wait for its first picture.

        Raises:
            UnavailableError: No GStreamer here, an element that is missing, or no picture in time.
        """
        self.close()
        self._id = -1
        self._fresh = True
        if opencv_has_gstreamer():
            self._reader = self._open_in_opencv()
        else:
            _log.info("OpenCV has no GStreamer: %s runs in gst-launch-1.0", self.uri)
            self._reader = _LaunchReader(self._text(self._wanted), self._wanted, self.uri)
        self._form = self._reader.form
        return SourceInfo(
            uri=self.uri,
            size=self._reader.size,
            rate_hz=self._reader.rate_hz,
            live=True,
            coding="inter" if self._inter else "raw",
            clock=CaptureClock.HOST,  # OpenCV does not hand out a buffer's own time stamp
            form=self._form,
        )

    def _text(self, form: InputFormat) -> str:
        """The pipeline, for an engine that takes `form`."""
        del form
        return self._pipeline

    def _surely_converts(self, form: InputFormat) -> bool:
        """Whether it is known before it is tried that `form` only comes out of a `videoconvert`."""
        del form
        return False

    def _open_in_opencv(self) -> _OpenCvReader:
        """Without a conversion where the pipeline gives what is wanted, else with one, which is said once."""
        text, form, begin_ns = self._text(self._wanted), self._wanted, now_ns()
        if not self._converts:
            try:
                reader = _OpenCvReader(pipelines.to_appsink(text, form, convert=False), form, self.uri)
            except UnavailableError:
                if self._converts is False or now_ns() - begin_ns > _NO_ANSWER_NS:
                    raise
            else:
                self._converts = False
                return reader
        reader = _OpenCvReader(pipelines.to_appsink(text, form), form, self.uri)
        if not self._said:
            self._said = True
            _log.warning("%s: %s", self.uri, conversion_note(form, reader.size))
        self._converts = True
        return reader

    def close(self) -> None:
        """End the pipeline; may be called twice."""
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def _advance(self) -> bool:
        assert self._reader is not None, "grab() before open()"
        if self._fresh:  # the picture that open() waited for
            self._fresh = False
            return True
        if not self._reader.grab():
            raise SourceLostError("the stream has ended or stalled", value=self.uri)
        return True

    def _decode(self, out_hwc: U8 | None) -> U8:
        assert self._reader is not None, "retrieve() before open()"
        return self._reader.retrieve(out_hwc)


def conversion_note(form: InputFormat, size: Size) -> str:
    """What `videoconvert` does to a pipeline's pictures, and about what it costs."""
    if form != "bgr":
        return f"the pipeline does not give {form}: videoconvert makes it of every picture on the CPU"
    planes = np.full((size[0] // 2 * 3, size[1] // 2 * 2), 128, np.uint8)
    costs = []
    for _ in range(3):
        begin_ns = now_ns()
        cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_NV12)
        costs.append(now_ns() - begin_ns)
    return (
        "videoconvert makes BGR of every picture on the CPU (OpenCV takes "
        f"{min(costs) / 1e6:.1f} ms for one of {format_size(size)}); a bundle built with --input nv12 needs none"
    )


def _form_of(picture: U8, wanted: InputFormat) -> InputFormat | None:
    """The layout of what OpenCV gave; None where it is neither BGR nor `wanted`."""
    if picture.ndim == 3 and picture.shape[2] == 3:
        return "bgr"
    matches = picture.ndim == 2 and picture.shape[0] % 3 == 0 if wanted == "nv12" else picture.ndim == 3
    return wanted if wanted != "bgr" and matches else None


class _OpenCvReader:
    """A pipeline inside OpenCV."""

    def __init__(self, text: str, form: InputFormat, name: str) -> None:
        timeouts = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS),
        ]
        self._capture = cv2.VideoCapture(text, cv2.CAP_GSTREAMER, timeouts)
        if not self._capture.isOpened():
            # older OpenCV refuses the time-outs; its own are thirty seconds
            self._capture = cv2.VideoCapture(text, cv2.CAP_GSTREAMER)
        if not self._capture.isOpened() or not self._capture.grab():
            self._capture.release()
            raise UnavailableError("the pipeline gives no picture", value=name, fix="edgeseg doctor")
        ok, picture = self._capture.retrieve()
        if not ok:
            self._capture.release()
            raise UnavailableError("the first picture does not decode", value=name)
        given = _form_of(picture, form)
        if given is None:
            self._capture.release()
            raise UnavailableError(
                "the pipeline gives neither BGR nor what the engine takes", value=name, allowed="gst:… without appsink"
            )
        self.form: InputFormat = given
        self.size: Size = picture_size(picture, given)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate_hz = rate if 0 < rate < 1000 else None
        self._name = name

    def grab(self) -> bool:
        return bool(self._capture.grab())

    def retrieve(self, out_hwc: U8 | None) -> U8:
        ok, picture = self._capture.retrieve(out_hwc) if out_hwc is not None else self._capture.retrieve()
        if not ok:
            raise DataError("a picture of the stream does not decode", value=self._name)
        image: U8 = picture
        return image

    def close(self) -> None:
        self._capture.release()


class _LaunchReader:
    """A pipeline in `gst-launch-1.0`, whose pictures come through a pipe as YUV4MPEG2."""

    def __init__(self, pipeline: str, form: InputFormat, name: str) -> None:
        tool = shutil.which("gst-launch-1.0")
        if tool is None:
            raise UnavailableError(
                "this OpenCV has no GStreamer, and gst-launch-1.0 is missing", value=name, fix=_REMEDY
            )
        self._name = name
        self.form: InputFormat = "nv12" if form == "nv12" else "bgr"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process that writes it
        # a `!` is one argument, quotes are the shell's: exactly what a person would type after gst-launch-1.0
        arguments = [tool, "-q", *shlex.split(pipelines.to_pipe(pipeline))]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=self._log, stdin=subprocess.DEVNULL)
        assert self._process.stdout is not None
        self._out: IO[bytes] = self._process.stdout
        self._pending = bytearray()
        try:
            self._read_header(now_ns() + _OPEN_TIMEOUT_MS * 1_000_000)
            if not self.grab(timeout_ms=_OPEN_TIMEOUT_MS):
                raise UnavailableError("the pipeline gives no picture", value=self._why())
        except BaseException:
            self.close()
            raise

    def grab(self, timeout_ms: int = _READ_TIMEOUT_MS) -> bool:
        wanted = len(b"FRAME\n") + self._planes.size
        deadline_ns = now_ns() + timeout_ms * 1_000_000
        while len(self._pending) < wanted:
            if not self._fill(deadline_ns):
                return False
        if not self._pending.startswith(b"FRAME\n"):
            return False
        self._planes.reshape(-1)[:] = np.frombuffer(memoryview(self._pending)[6:wanted], np.uint8)
        del self._pending[:wanted]
        return True

    def retrieve(self, out_hwc: U8 | None) -> U8:
        shape = packed_shape(self.size, self.form)
        fits = out_hwc is not None and out_hwc.shape == shape
        if self.form == "nv12":  # the same planes, but u and v in turn
            out = out_hwc if fits and out_hwc is not None else np.empty(shape, np.uint8)
            height, width = self.size
            out[:height] = self._planes[:height]
            u_and_v = self._planes[height:].reshape(2, height // 2, width // 2)
            np.copyto(out[height:].reshape(height // 2, width // 2, 2), u_and_v.transpose(1, 2, 0))
            return out
        image: U8 = cv2.cvtColor(self._planes, cv2.COLOR_YUV2BGR_I420, dst=out_hwc if fits else None)
        return image

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(timeout=5)
        self._out.close()
        self._log.close()

    # ------------------------------------------------------------ inside

    def _read_header(self, deadline_ns: int) -> None:
        while b"\n" not in self._pending:
            if not self._fill(deadline_ns):
                raise UnavailableError("the pipeline does not start", value=self._why(), fix="edgeseg doctor")
        line, _, rest = bytes(self._pending).partition(b"\n")
        self._pending[:] = rest
        fields = {item[:1]: item[1:] for item in line.decode("latin-1").split(" ")[1:]}
        if not line.startswith(b"YUV4MPEG2") or not {"W", "H"} <= fields.keys():
            raise UnavailableError("the pipeline gives no video", value=self._why())
        self.size: Size = (int(fields["H"]), int(fields["W"]))
        if self.size[0] % 2 or self.size[1] % 2:
            raise UnavailableError("the pipeline's picture has an odd size", value=self._name, allowed="even sizes")
        numerator, _, denominator = fields.get("F", "0:1").partition(":")
        rate = int(numerator) / max(1, int(denominator or 1))
        self.rate_hz: float | None = rate if 0 < rate < 1000 else None
        self._planes = np.empty((self.size[0] * 3 // 2, self.size[1]), np.uint8)

    def _fill(self, deadline_ns: int) -> bool:
        left_s = (deadline_ns - now_ns()) / 1e9
        if left_s <= 0 or not select.select([self._out], [], [], left_s)[0]:
            return False
        data = os.read(self._out.fileno(), 1 << 20)
        self._pending += data
        return bool(data)

    def _why(self) -> str:
        """What gst-launch said, in one line."""
        self._log.seek(0)
        said = self._log.read().decode("utf-8", "replace").strip().splitlines()
        errors = [line for line in said if "ERROR" in line or "erroneous" in line]
        return f"{self._name}: {redact((errors or said or ['no picture in time'])[0])}"
