"""What every source shares: frame ids that count all frames, and capture times taken at the right moment."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.log import redact
from edgeseg.core.types import U8, Frame, InputFormat, SourceInfo


class BaseSource(ABC):
    """A source whose subclass knows how to advance and how to decode.

    Args:
        uri: As the person typed it; credentials are removed before anything else sees it.
    """

    def __init__(self, uri: str) -> None:
        self.uri = redact(uri)
        self._id = -1
        self._t_capture_ns = 0
        self._form: InputFormat = "bgr"  # of what `_decode` gives

    @abstractmethod
    def open(self) -> SourceInfo:
        """Open the device or file."""

    @abstractmethod
    def close(self) -> None:
        """Release the device; may be called twice."""

    @abstractmethod
    def _advance(self) -> bool:
        """Go to the next frame; False at the end."""

    @abstractmethod
    def _decode(self, out_hwc: U8 | None) -> U8:
        """The picture of the frame that `_advance` went to, in `out_hwc` where it is given and fits."""

    def _stamp(self) -> tuple[int, CaptureClock]:
        """Capture time of the frame that `_advance` went to; called once, right after it returned."""
        return now_ns(), CaptureClock.HOST

    def _name(self) -> str:
        """File stem of the frame, where there is one."""
        return ""

    def grab(self) -> bool:
        """Advance to the next frame; False at the end."""
        if not self._advance():
            return False
        self._t_capture_ns, self._clock = self._stamp()
        self._id += 1
        return True

    def retrieve(self, out_hwc: U8 | None = None) -> Frame:
        """Decode the grabbed frame."""
        return Frame(
            id=self._id,
            image_hwc=self._decode(out_hwc),
            t_capture_ns=self._t_capture_ns,
            clock=self._clock,
            name=self._name(),
            form=self._form,
        )


def place(image_hwc: U8, out_hwc: U8 | None) -> U8:
    """`image_hwc` itself, or copied into `out_hwc` where that is given and has its shape."""
    if out_hwc is None or out_hwc.shape != image_hwc.shape:
        return image_hwc
    np.copyto(out_hwc, image_hwc)
    return out_hwc
