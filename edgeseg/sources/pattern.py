"""`pattern:` — a camera stand-in that needs no camera: a moving test picture at a steady rate.

    pattern:size=540x960,rate=30,frames=100

It is a simulated camera and says so in its URI; frames come at the rate whether or not anyone takes them.
"""

from __future__ import annotations

import cv2
import msgspec
import numpy as np

from edgeseg.core.clock import CaptureClock, now_ns, sleep_until
from edgeseg.core.errors import RequestError
from edgeseg.core.types import U8, SourceInfo
from edgeseg.sources.base import BaseSource, place
from edgeseg.sources.uri import parse_options, parse_size

_BARS_BGR = (
    (192, 192, 192),
    (0, 192, 192),
    (192, 192, 0),
    (0, 192, 0),
    (192, 0, 192),
    (0, 0, 192),
    (192, 0, 0),
)


class PatternOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options after `pattern:`.

    Attributes:
        size: HEIGHTxWIDTH.
        rate: Frames a second, 1 to 1000.
        frames: Stop after so many; 0 goes on for ever.
    """

    size: str = "480x640"
    rate: float = 30.0
    frames: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.rate <= 1000:
            raise ValueError(f"rate={self.rate}; allowed: 1 to 1000")
        if self.frames < 0:
            raise ValueError(f"frames={self.frames}; allowed: 0 or more")


class PatternSource(BaseSource):
    """Colour bars with a moving block, the frame number and a little noise, so that no two frames are alike."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._options = parse_options(uri, PatternOptions)
        self._height, self._width = parse_size(self._options.size, uri)
        if self._height < 16 or self._width < 16:
            raise RequestError("the pattern is too small", value=self._options.size, allowed="16x16 and larger")
        self._period_ns = round(1e9 / self._options.rate)
        self._start_ns = 0

    def open(self) -> SourceInfo:
        """Draw what does not move and start the clock."""
        self._id = -1
        rng = np.random.default_rng(0)
        columns = np.arange(self._width) * len(_BARS_BGR) // self._width
        bars = np.array(_BARS_BGR, np.uint8)[columns]
        self._still = np.ascontiguousarray(np.broadcast_to(bars, (self._height, self._width, 3)))
        self._noise = rng.integers(0, 8, (64, self._width, 3), np.uint8)
        self._start_ns = now_ns()
        return SourceInfo(
            uri=self.uri,
            size=(self._height, self._width),
            rate_hz=self._options.rate,
            live=True,
            coding="raw",
            clock=CaptureClock.HOST,
            frames=self._options.frames or None,
        )

    def close(self) -> None:
        """Nothing to release."""

    def _advance(self) -> bool:
        if self._options.frames and self._id + 1 >= self._options.frames:
            return False
        due = self._start_ns + (self._id + 2) * self._period_ns
        late = now_ns() - due
        if late > self._period_ns:  # nobody asked for a while: a camera does not make up for it either
            self._start_ns += late
        sleep_until(due)
        return True

    def _decode(self, out_hwc: U8 | None) -> U8:
        image = place(self._still, out_hwc)
        if image is self._still:
            image = self._still.copy()
        side = max(8, self._height // 6)
        left = (self._id * 5) % (self._width - side + 1)
        top = (self._height - side) // 2
        image[top : top + side, left : left + side] = (32, 64, 224)
        rows = min(64, self._height)
        image[:rows] ^= np.roll(self._noise[:rows], self._id * 7, axis=1)
        cv2.putText(
            image, str(self._id), (4, self._height - 6), cv2.FONT_HERSHEY_SIMPLEX, self._height / 480, (255, 255, 255)
        )
        return image
