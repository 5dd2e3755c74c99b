"""Masks to another process, a planner for example: a ring in shared memory that no reader can hold up."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from pathlib import Path

from edgeseg.core.artefacts import check_place
from edgeseg.core.clock import now_ns
from edgeseg.core.errors import RequestError
from edgeseg.core.log import get_logger
from edgeseg.core.types import Result, SinkContext
from edgeseg.sinks.ring_layout import (
    HEADER_BYTES,
    MAGIC,
    MOST_CAMERAS,
    STATES,
    VERSION,
    Header,
    SlotHeader,
    slot_bytes,
)

_SLOTS_A_CAMERA = 4
_LARGEST = 3840 * 2160  # pixels of a camera that has not shown its size yet
_FOLDER = Path("/dev/shm")
_log = get_logger(__name__)


class RingSink:
    """Writes every result into `/dev/shm/NAME`; layout in `ring_layout`, readers in `tools/ring_reader.{py,cpp}`.

    A reader must judge the age of what it reads: a writer that was killed leaves its last result behind.

    Args:
        name: Name of the ring, or a path.

    Raises:
        RequestError: No shared memory here, or a path that cannot be written to.
    """

    name = "ring"
    lossless = False
    queue = 2

    def __init__(self, name: str) -> None:
        self._path = Path(name) if "/" in name else _FOLDER / name
        if not self._path.parent.is_dir():
            raise RequestError("no shared memory here", value=self._path, allowed="a name, or a path in a folder")
        check_place(self._path)
        self._map: mmap.mmap | None = None
        self._fence = threading.Lock()

    def open(self, context: SinkContext) -> None:
        """Make the ring under a name of its own, then put it in its place: a reader never maps a half-made one."""
        if len(context.cameras) > MOST_CAMERAS:
            raise RequestError("too many cameras for a ring", value=len(context.cameras), allowed=f"{MOST_CAMERAS}")
        pixels = max(info.size[0] * info.size[1] or _LARGEST for info in context.cameras)
        self._pixels = pixels
        self._slots = _SLOTS_A_CAMERA * len(context.cameras)
        self._stride = slot_bytes(pixels)
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        size = HEADER_BYTES + self._slots * self._stride
        handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.ftruncate(handle, size)
            self._map = mmap.mmap(handle, size)
        finally:
            os.close(handle)
        self._header = Header.from_buffer(self._map)
        self._header.version = VERSION
        self._header.slots, self._header.slot_bytes = self._slots, self._stride
        self._header.cameras, self._header.classes = len(context.cameras), len(context.classes)
        self._header.ignore_id = context.classes.ignore_id
        self._header.started_ns = now_ns()
        self._header.names = "\n".join(context.classes.names).encode()[:2047]
        self._header.engine = context.engine.encode()[:255]
        self._header.magic = MAGIC
        partial.replace(self._path)
        self._heads = [
            SlotHeader.from_buffer(self._map, HEADER_BYTES + index * self._stride) for index in range(self._slots)
        ]

    def write(self, result: Result) -> None:
        """Write one result over the oldest slot."""
        assert self._map is not None
        number = int(self._header.written)
        index = number % self._slots
        head = self._heads[index]
        head.sequence += 1
        self._barrier()
        head.number, head.frame_id = number, result.frame_id
        head.t_capture_ns, head.t_result_ns = result.t_capture_ns, result.t_result_ns
        head.camera, head.state = result.camera, STATES.index(result.state)
        head.reason = result.reason.encode()[:127]
        self._write_mask(head, HEADER_BYTES + index * self._stride + ctypes.sizeof(SlotHeader), result)
        self._barrier()
        head.sequence += 1
        self._header.newest[result.camera] = index + 1
        self._header.written = number + 1

    def close(self) -> None:
        """Say that it is over and remove the ring; who has it mapped sees `closed`. May be called twice."""
        if self._map is None:
            return
        self._header.closed = 1
        self._map = None  # unmapped when the structures over it are gone
        del self._header, self._heads
        self._path.unlink(missing_ok=True)

    def _write_mask(self, head: SlotHeader, at: int, result: Result) -> None:
        mask = result.mask_hw
        if mask is not None and mask.size > self._pixels:
            _log.warning("camera %d now gives larger masks than the ring has room for", result.camera)
            mask = None
        head.has_mask = int(mask is not None)
        head.height, head.width = (0, 0) if mask is None else mask.shape
        if mask is not None:
            assert self._map is not None
            self._map[at : at + mask.size] = mask.tobytes()

    def _barrier(self) -> None:
        """Order the writes before against those after, also on Arm: a release, then an acquire, of one lock."""
        with self._fence:
            pass
        with self._fence:
            pass
