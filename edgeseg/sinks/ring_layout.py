"""The shared-memory ring: its bytes as a C compiler on 64-bit Linux lays them out, as in `tools/ring_reader.cpp`.

    offset      what
    0           Header, 4096 bytes
    4096        slot 0: SlotHeader (192 bytes), then max_height * max_width mask bytes, padded to 64
    4096 + i*S  slot i; S = slot_bytes

All numbers are little-endian. The writer goes round the slots. A slot is protected by a seqlock: `sequence` is odd
while the slot is written and goes up by two with each result, so a reader that sees the same even number before and
after it has copied has a whole result. `newest[camera]` is the slot of a camera's last result plus one; 0 is none.
"""

from __future__ import annotations

import ctypes

from edgeseg.core.types import State

MAGIC = b"EDGESEGR"
VERSION = 1
HEADER_BYTES = 4096
MOST_CAMERAS = 32
STATES: tuple[State, ...] = (
    *(State.OK, State.LATE, State.DEGRADED),
    *(State.BLACK, State.FROZEN, State.STALE, State.LOST),
)
"""Numbers of states: below 3 there is a mask."""


class Header(ctypes.Structure):
    """The first 4096 bytes."""

    _fields_ = (
        ("magic", ctypes.c_char * 8),
        ("version", ctypes.c_uint32),
        ("slots", ctypes.c_uint32),
        ("slot_bytes", ctypes.c_uint64),
        ("cameras", ctypes.c_uint32),
        ("classes", ctypes.c_uint32),
        ("ignore_id", ctypes.c_uint32),
        ("closed", ctypes.c_uint32),  # 1: the writer has ended in an orderly way
        ("started_ns", ctypes.c_int64),  # monotonic; another value means another writer: map the file again
        ("written", ctypes.c_uint64),  # results so far
        ("newest", ctypes.c_uint64 * MOST_CAMERAS),
        ("names", ctypes.c_char * 2048),  # class names, one a line
        ("engine", ctypes.c_char * 256),
    )


class SlotHeader(ctypes.Structure):
    """What comes before the mask bytes of a slot."""

    _fields_ = (
        ("sequence", ctypes.c_uint64),
        ("number", ctypes.c_uint64),  # counts results
        ("frame_id", ctypes.c_int64),  # -1: no frame
        ("t_capture_ns", ctypes.c_int64),  # CLOCK_MONOTONIC
        ("t_result_ns", ctypes.c_int64),
        ("camera", ctypes.c_uint32),
        ("state", ctypes.c_uint32),  # index in STATES
        ("height", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("has_mask", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("reason", ctypes.c_char * 128),
    )


def slot_bytes(pixels: int) -> int:
    """Bytes of one slot, a whole number of cache lines."""
    return -(-(ctypes.sizeof(SlotHeader) + pixels) // 64) * 64
