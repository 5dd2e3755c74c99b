"""Labelled frames of a data set, and frames of a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from edgeseg.core.clock import CaptureClock
from edgeseg.core.types.common import U8, Classes, InputFormat, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A labelled frame: `image_hwc` uint8 BGR, `label_hw` uint8 class ids (ignore id where unlabelled)."""

    name: str
    image_hwc: U8
    label_hw: U8


class Dataset(Protocol):
    """Labelled frames of one split; reading item `i` may read files."""

    @property
    def name(self) -> str:
        """The specification it was opened with, for example `camvid:PATH`."""

    @property
    def split(self) -> str:
        """`train`, `val`, or another split of that data set."""

    @property
    def classes(self) -> Classes:
        """The vocabulary of the labels."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture from a source.

    Attributes:
        id: Counts every frame that the source produced, from 0, dropped ones too: a gap is a drop.
        image_hwc: uint8 [H, W, 3] BGR. Valid until the source's next `retrieve` into the same memory. From a camera
            that was asked to `suit` an engine of another `form`, its own bytes: nv12 [3H/2, W], yuyv [H, W, 2].
        t_capture_ns: Monotonic time of capture.
        clock: What that time means.
        name: File stem for files and folders, else empty.
        form: Layout of `image_hwc`.
    """

    id: int
    image_hwc: U8
    t_capture_ns: int
    clock: CaptureClock
    name: str = ""
    form: InputFormat = "bgr"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What an opened source gives.

    Attributes:
        uri: The source, credentials removed.
        size: Camera size (height, width).
        rate_hz: Nominal frame rate; None where there is none (images, unknown).
        live: True for cameras and streams, whose newest frame counts (LATEST); False for files (WAIT).
        coding: `raw` and `intra` (MJPEG, images) repeat bytes only when the picture is frozen; `inter` does so by
            design.
        clock: Clock of `Frame.t_capture_ns`.
        frames: Number of frames where it is known, else None.
        form: Layout of its pictures.
    """

    uri: str
    size: Size
    rate_hz: float | None
    live: bool
    coding: Literal["raw", "intra", "inter"]
    clock: CaptureClock
    frames: int | None = None
    form: InputFormat = "bgr"


class Source(Protocol):
    """Frames in. One thread opens, grabs, retrieves and closes."""

    def open(self) -> SourceInfo:
        """Open the device or file.

        Raises:
            UnavailableError: A camera that is not there or gives no picture.
            DataError: A file that is not a video or picture.
        """

    def grab(self) -> bool:
        """Advance to the next frame, without decoding where the device allows; False at the end.

        Only what is finite has an end: a file, or a pattern of so many frames. Whatever it is that keeps a camera from
        giving another frame, its stream's own end too, it is lost.

        Raises:
            SourceLostError: The camera has gone or is silent; it may come back.
        """

    def retrieve(self, out_hwc: U8 | None = None) -> Frame:
        """Decode the grabbed frame, into `out_hwc` where it is given and fits."""

    def close(self) -> None:
        """Release the device; may be called twice."""


@runtime_checkable
class Suitable(Protocol):
    """A source that can give its pictures as an engine takes them, where its device has them so."""

    def suit(self, form: InputFormat, size: Size | None) -> None:
        """Before `open`: what the engine takes. A wish: `SourceInfo` says what became of it.

        Args:
            form: Layout of the engine's input; the device's own bytes are then handed out without conversion.
            size: The engine's frame size; None where an engine is built for whatever the source gives.
        """
