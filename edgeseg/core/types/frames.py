"""Labelled frames of a data set, and frames of a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from edgeseg.core.clock import CaptureClock
from edgeseg.core.types.common import U8, Classes, Size


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
        image_hwc: uint8 [H, W, 3] BGR. Valid until the source's next `retrieve` into the same memory.
        t_capture_ns: Monotonic time of capture.
        clock: What that time means.
        name: File stem for files and folders, else empty.
    """

    id: int
    image_hwc: U8
    t_capture_ns: int
    clock: CaptureClock
    name: str = ""


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
    """

    uri: str
    size: Size
    rate_hz: float | None
    live: bool
    coding: Literal["raw", "intra", "inter"]
    clock: CaptureClock
    frames: int | None = None


class Source(Protocol):
    """Frames in. One thread opens, grabs, retrieves and closes."""

    def open(self) -> SourceInfo:
        """Open the device or file.

        Raises:
            UnavailableError: A camera that is not there or gives no picture.
            DataError: A file that is not a video or picture.
        """

    def grab(self) -> bool:
        """Advance to the next frame, without decoding where the device allows; False at the end."""

    def retrieve(self, out_hwc: U8 | None = None) -> Frame:
        """Decode the grabbed frame, into `out_hwc` where it is given and fits."""

    def close(self) -> None:
        """Release the device; may be called twice."""
