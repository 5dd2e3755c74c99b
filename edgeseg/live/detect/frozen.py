"""FROZEN: a camera that goes on sending, but nothing new.

What is watched is *novelty*: the time since the last picture that is unlike each of the last few. That finds a
picture that repeats, and also the loop of a few frames that stuck drivers replay. Inter-coded video repeats pixels
in a still scene by design (an encoder skips blocks that did not change), so there only time stamps that stall, or
sameness beyond two key-frame intervals, count.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict

import numpy as np

from edgeseg.core.types import U8, Frame, State
from edgeseg.live.detect.verdict import Verdict

_RECENT = 8  # a loop of up to so many frames is found
_STRIDE = 251  # prime, so that the samples do not line up with columns


class Novelty:
    """Tells whether a picture is byte-identical to one of the last few.

    A hash of every 251st byte decides nearly always; a hash of all bytes is computed only for pictures whose samples
    were seen before, so a moving scene costs next to nothing.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[int, int | None] = OrderedDict()

    def is_new(self, image_hwc: U8) -> bool:
        """Whether the picture is unlike the last few; the second sight of the same samples still counts as new."""
        flat = np.ascontiguousarray(image_hwc).reshape(-1)
        samples = zlib.crc32(np.ascontiguousarray(flat[::_STRIDE]).data)
        if samples not in self._seen:
            self._seen[samples] = None
            if len(self._seen) > _RECENT:
                self._seen.popitem(last=False)
            return True
        self._seen.move_to_end(samples)
        whole = zlib.adler32(flat.data) << 32 | zlib.crc32(flat.data)
        known, self._seen[samples] = self._seen[samples], whole
        return known != whole


class FrozenDetector:
    """Watches one camera.

    Args:
        repeats_by_design: True for inter-coded video.
        frozen_ns: How long nothing new may come, where pictures do not repeat by design; and how long time stamps
            may stall in every case.
        keyframe_ns: Longest key-frame interval of inter-coded video.
    """

    def __init__(self, *, repeats_by_design: bool, frozen_ns: int, keyframe_ns: int) -> None:
        self._frozen_ns = frozen_ns
        self._same_ns = 2 * keyframe_ns if repeats_by_design else frozen_ns
        self._novelty = Novelty()
        self._t_new_ns = 0  # the first picture is new in any case
        self._last_stamp_ns: int | None = None
        self._t_stamp_ns = 0

    def check(self, frame: Frame, t_host_ns: int) -> Verdict | None:
        """FROZEN where the picture or its time stamp has not moved for too long.

        Args:
            frame: The decoded frame.
            t_host_ns: When the host had it.
        """
        if self._novelty.is_new(frame.image_hwc):
            self._t_new_ns = t_host_ns
        if self._last_stamp_ns is None or frame.t_capture_ns > self._last_stamp_ns:
            self._t_stamp_ns = t_host_ns
        self._last_stamp_ns = frame.t_capture_ns
        stalled_ns = t_host_ns - self._t_stamp_ns
        if stalled_ns > self._frozen_ns:
            return Verdict(State.FROZEN, f"time stamps have not advanced for {stalled_ns / 1e6:.0f} ms")
        same_ns = t_host_ns - self._t_new_ns
        if same_ns > self._same_ns:
            return Verdict(State.FROZEN, f"no new picture for {same_ns / 1e6:.0f} ms")
        return None
