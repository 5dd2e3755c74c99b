"""A sink that keeps nothing: what benchmarks measure the loop with."""

from __future__ import annotations

from edgeseg.core.types import Result, SinkContext


class NullSink:
    """Takes every result at once."""

    name = "null"
    lossless = False

    def open(self, context: SinkContext) -> None:
        """Nothing to open."""

    def write(self, result: Result) -> None:
        """Nothing to keep."""

    def close(self) -> None:
        """Nothing to close."""
