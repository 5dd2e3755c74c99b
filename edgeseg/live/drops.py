"""Every frame that a source produced and nobody got a result for, by reason."""

from __future__ import annotations

import enum
import threading
from collections import Counter


class Drop(enum.Enum):
    """Why a frame has no result."""

    REPLACED = "replaced"  # a newer one took its place in the slot: the engine is slower than the camera
    SOURCE = "source"  # the source itself skipped it: driver overrun, late frame of `--realtime`
    STARTING = "starting"  # grabbed while the engine was not ready
    BUFFERS = "buffers"  # sinks hold every picture buffer
    CORRUPT = "corrupt"  # it did not decode
    STOPPING = "stopping"  # still waiting when the loop was stopped


class DropCounter:
    """Counts of one camera, from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[Drop] = Counter()
        self._lock = threading.Lock()

    def add(self, reason: Drop, n: int = 1) -> None:
        """Count `n` frames."""
        with self._lock:
            self._counts[reason] += n

    def counts(self) -> dict[str, int]:
        """Counts by reason, without zeros."""
        with self._lock:
            return {reason.value: n for reason, n in sorted(self._counts.items(), key=lambda x: x[0].value) if n}
