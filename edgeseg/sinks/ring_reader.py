"""Reading the shared-memory ring from another Python process. Imports nothing but NumPy and the layout."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeseg.core.clock import now_ns
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.core.types import U8, State
from edgeseg.sinks.ring_layout import HEADER_BYTES, MAGIC, STATES, VERSION, Header, SlotHeader

_TRIES = 8


@dataclass(frozen=True, slots=True)
class RingResult:
    """One result, copied out of the ring: `mask_hw` is uint8 [H, W] class ids, or None with the reason."""

    camera: int
    number: int
    frame_id: int
    t_capture_ns: int
    t_result_ns: int
    state: State
    reason: str
    mask_hw: U8 | None


class RingReader:
    """A mapped ring.

    Args:
        name: Name or path, as given to the writer.
        dead_ms: Dead-man time-out: a mask whose frame is older than this is not handed out, whatever its state says,
            since the process that made it may be gone.

    Raises:
        RequestError: There is no such ring.
        VerifyError: It is no ring, or of another version.
    """

    def __init__(self, name: str, *, dead_ms: float) -> None:
        self._path = Path(name) if "/" in name else Path("/dev/shm") / name
        self._dead_ns = round(dead_ms * 1e6)
        try:
            with self._path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):
            raise RequestError("there is no such ring", value=self._path, allowed="edgeseg live --ring NAME") from None
        header = self._header()
        if header.magic != MAGIC or header.version != VERSION:
            raise VerifyError("not a ring of this version", value=self._path, allowed=f"version {VERSION}")
        self._slot_bytes = int(header.slot_bytes)
        self._started_ns = int(header.started_ns)
        self.class_names = header.names.decode().split("\n")

    def newest(self, camera: int = 0) -> RingResult | None:
        """The last result of a camera; None before the first, or while the writer overtakes every attempt to copy.

        A result that is older than the dead-man time-out comes without its mask, in state LOST.
        """
        for _ in range(_TRIES):
            slot = int(self._header().newest[camera])
            if not slot:
                return None
            found = self._copy(HEADER_BYTES + (slot - 1) * self._slot_bytes)
            if found is not None and found.camera == camera:
                return self._alive(found)
        return None

    @property
    def over(self) -> bool:
        """Whether the writer has ended, or another one has taken its place: make a new reader then."""
        if self._header().closed:
            return True
        try:
            with self._path.open("rb") as file:
                return int(Header.from_buffer_copy(file.read(ctypes.sizeof(Header))).started_ns) != self._started_ns
        except (FileNotFoundError, ValueError):
            return True

    def close(self) -> None:
        """Unmap."""
        self._map.close()

    def _header(self) -> Header:
        return Header.from_buffer_copy(self._map[: ctypes.sizeof(Header)])

    def _copy(self, at: int) -> RingResult | None:
        """One whole result, or None where it was being written."""
        size = ctypes.sizeof(SlotHeader)
        head = SlotHeader.from_buffer_copy(self._map[at : at + size])
        if head.sequence % 2:
            return None
        pixels = head.height * head.width if head.has_mask else 0
        mask = None
        if pixels and pixels <= self._slot_bytes - size:
            mask = np.frombuffer(self._map[at + size : at + size + pixels], np.uint8).reshape(head.height, head.width)
        if SlotHeader.from_buffer_copy(self._map[at : at + size]).sequence != head.sequence:
            return None
        return RingResult(
            camera=int(head.camera),
            number=int(head.number),
            frame_id=int(head.frame_id),
            t_capture_ns=int(head.t_capture_ns),
            t_result_ns=int(head.t_result_ns),
            state=STATES[head.state],
            reason=head.reason.decode("utf-8", "replace"),
            mask_hw=mask,
        )

    def _alive(self, found: RingResult) -> RingResult:
        age_ns = now_ns() - found.t_capture_ns
        if found.mask_hw is None or age_ns <= self._dead_ns:
            return found
        return RingResult(
            camera=found.camera,
            number=found.number,
            frame_id=found.frame_id,
            t_capture_ns=found.t_capture_ns,
            t_result_ns=found.t_result_ns,
            state=State.LOST,
            reason=f"the last mask is {age_ns / 1e6:.0f} ms old",
            mask_hw=None,
        )
