"""Which encoder writes a video: the board's own where it has one that works, else OpenCV's in software.

An encoder in hardware takes the work off the processors, which the engine and the decoders need. That one is listed
does not mean that it works (a Jetson Orin Nano has the element and no encoder), so each is tried first: in a process
of its own, since a driver may hang.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edgeseg.core.gstreamer import has_element, opencv_has_gstreamer, quote
from edgeseg.core.log import get_logger
from edgeseg.core.types import Size

SOFTWARE = {".mp4": "mp4v", ".m4v": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
"""Suffix to code of the software encoder."""
_MUXERS = {".mp4": "mp4mux", ".m4v": "mp4mux", ".mkv": "matroskamux"}
_TRIAL_FRAMES = 8
_TRIAL_S = 15.0
_TRIAL = "import sys; from edgeseg.sinks.encoder import trial; sys.exit(not trial(*sys.argv[1:]))"
_log = get_logger(__name__)


class Encoder(msgspec.Struct, frozen=True, kw_only=True):
    """One way to encode.

    Attributes:
        name: For people.
        element: GStreamer's encoder; empty for one of OpenCV's FFmpeg.
        before: The elements before it, from BGR on.
        acceleration: `cv2.VIDEO_ACCELERATION_*` for FFmpeg; 0 is software.
    """

    name: str
    element: str = ""
    before: str = "videoconvert ! video/x-raw,format=NV12"
    acceleration: int = 0

    @property
    def hardware(self) -> bool:
        """Whether it is the board's own."""
        return bool(self.element or self.acceleration)

    def open(self, path: Path, rate_hz: float, size: Size) -> cv2.VideoWriter:
        """A writer; `isOpened()` says whether it could be."""
        suffix, shape = path.suffix.lower(), (size[1], size[0])
        if self.element:
            chain = f"appsrc ! {self.before} ! {self.element} ! h264parse ! {_MUXERS[suffix]}"
            text = f"{chain} ! filesink location={quote(str(path))}"
            return cv2.VideoWriter(text, cv2.CAP_GSTREAMER, 0, rate_hz, shape)
        if self.acceleration:
            code = cv2.VideoWriter.fourcc(*"avc1")
            wish = [cv2.VIDEOWRITER_PROP_HW_ACCELERATION, self.acceleration]
            return cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, rate_hz, shape, wish)
        return cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*SOFTWARE[suffix]), rate_hz, shape)


HARDWARE = (
    Encoder(
        name="nvv4l2h264enc",  # Jetson
        element="nvv4l2h264enc",
        before="videoconvert ! video/x-raw,format=BGRx ! nvvidconv ! video/x-raw(memory:NVMM),format=NV12",
    ),
    Encoder(name="nvh264enc", element="nvh264enc"),  # a graphics card of NVIDIA
    Encoder(name="vah264enc", element="vah264enc"),  # Intel and AMD
    Encoder(name="vaapih264enc", element="vaapih264enc"),  # the same on older systems
)
"""Elements that encode H.264 in hardware, the fastest first."""
VAAPI = Encoder(name="h264 through VAAPI", acceleration=cv2.VIDEO_ACCELERATION_VAAPI)
"""OpenCV's FFmpeg on hardware of Intel and AMD."""


def software(suffix: str) -> Encoder:
    """OpenCV's own encoder for a container."""
    return Encoder(name=f"{SOFTWARE[suffix]} in software")


def choose_encoder(suffix: str, size: Size) -> Encoder:
    """The first encoder that is here and works.

    Args:
        suffix: Of the file: one of `SOFTWARE`.
        size: Of the pictures.
    """
    for encoder in present(suffix, size):
        if _works(encoder, suffix, size):
            return encoder
        _log.warning("%s is here but does not encode: the video is encoded in software", encoder.name)
    return software(suffix)


def present(suffix: str, size: Size) -> list[Encoder]:
    """Encoders in hardware that this machine says it has, for a container and a size; not tried yet."""
    if suffix not in _MUXERS or size[0] % 2 or size[1] % 2:
        return []
    found = [one for one in HARDWARE if has_element(one.element)] if opencv_has_gstreamer() else []
    if not found and any(Path("/dev/dri").glob("renderD*")):
        found.append(VAAPI)
    return found


def trial(encoder: str, suffix: str, height: str, width: str) -> bool:
    """Encode a few frames and count them in the file; run in a process of its own.

    Args:
        encoder: An `Encoder` as JSON.
        suffix: Of the file.
        height: Of the pictures.
        width: Of the pictures.
    """
    size = (int(height), int(width))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"trial{suffix}"
        one = msgspec.json.decode(encoder, type=Encoder)
        writer = one.open(path, 30.0, size)
        if not writer.isOpened():
            return False
        if one.acceleration and int(writer.get(cv2.VIDEOWRITER_PROP_HW_ACCELERATION)) != one.acceleration:
            return False  # it would encode in software
        for _ in range(_TRIAL_FRAMES):
            writer.write(rng.integers(0, 255, (*size, 3), np.uint8))
        writer.release()
        return count_frames(path) == _TRIAL_FRAMES


def count_frames(path: Path) -> int:
    """What the container's index says; an index is written last, so a file that has it is whole."""
    reader = cv2.VideoCapture(str(path))
    try:
        return int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
    finally:
        reader.release()


def _works(encoder: Encoder, suffix: str, size: Size) -> bool:
    arguments = [msgspec.json.encode(encoder).decode(), suffix, str(size[0]), str(size[1])]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL, *arguments], capture_output=True, timeout=_TRIAL_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
