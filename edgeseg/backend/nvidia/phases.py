"""Progress of a build whose runtime has no monitor (TensorRT 8.6), read from its log."""

from __future__ import annotations

import re

from edgeseg.backend.nvidia.api import ProgressSink

# 8.6 times every kernel of every layer in turn, and names the layer first; a layer is a step
_TIMING = re.compile(r"Timing Runner: (?P<layer>.+?) \(\w+(?:\[\w+\])?\)\s*$")
_STAGES = (
    ("Parsing node", "parsing the model"),
    ("Applying generic optimizations", "simplifying the graph"),
    ("After final dead-layer removal", "simplifying the graph"),
    ("Formats and tactics selection completed", "choosing kernels: done"),
    ("Engine generation completed", "writing the plan"),
)


class LogPhases:
    """Turns log lines into phases: stages by name, and layers as they are timed. Unknown lines change nothing.

    Args:
        progress: Takes (phase, steps done, 0: how many there will be is not known).
    """

    def __init__(self, progress: ProgressSink) -> None:
        self._progress = progress
        self._layer = ""
        self._layers = 0
        self._stage = ""

    def read(self, text: str) -> None:
        """Look at one line."""
        timing = _TIMING.search(text)
        if timing is not None:
            if timing["layer"] != self._layer:
                self._layer = timing["layer"]
                self._layers += 1
                self._progress(f"timing kernels, layer {self._layers}", self._layers, 0)
            return
        for words, stage in _STAGES:
            if words in text and stage != self._stage:
                self._stage = stage
                self._progress(stage, 0, 0)
