"""A camera's own bytes on their way to the sinks, and the same as BGR once a sink asks."""

from __future__ import annotations

import threading

import numpy as np

from edgeseg.core.packing import picture_size, unpack
from edgeseg.core.types import U8, Colour, InputFormat, Size
from edgeseg.live.buffers import BufferPool, Lease


class CameraPicture:
    """Converted once, by whoever asks first, and not at all where nobody asks.

    Args:
        data: The bytes, leased to whoever holds this picture.
        form: Their layout.
        colour: What they mean.
        pool: Pictures [H, W, 3] of this size.
    """

    def __init__(self, data: U8, form: InputFormat, colour: Colour, pool: BufferPool) -> None:
        self.size: Size = picture_size(data, form)
        self._data = data
        self._form = form
        self._colour = colour
        self._pool = pool
        self._lock = threading.Lock()
        self._bgr: U8 | None = None
        self._lease: Lease | None = None

    def bgr(self) -> U8:
        """uint8 [H, W, 3], as long as the bytes themselves are leased; from any thread."""
        with self._lock:
            if self._bgr is None:
                lent = self._pool.take()
                out, self._lease = lent if lent is not None else (np.empty((*self.size, 3), np.uint8), None)
                self._bgr = unpack(self._data, self._form, out, self._colour)
            return self._bgr

    def release(self) -> None:
        """Nobody holds this picture any more."""
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()
