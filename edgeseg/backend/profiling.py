"""Where a runtime's time goes, layer by layer, in the runtime's own words and the model's names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from edgeseg.core.types import U8, EngineSpec


class LayerTime(msgspec.Struct, frozen=True, kw_only=True):
    """One layer as the runtime executes it, often several of the model's in one.

    Attributes:
        name: The runtime's name.
        layers: Names of the model's layers that the runtime says are inside; it may leave some out.
        kind: The runtime's operator.
        implementation: Its kernel, where it tells.
        precision: What it computes in: fp32, bf16, fp16, int8, or the runtime's own word for anything else.
        moves: True where it only moves or converts data: a reformat, a reorder, a quantisation on the way.
        time_ns: Median over the profiled runs. Profiling itself slows small layers.
    """

    name: str
    layers: tuple[str, ...]
    kind: str
    implementation: str
    precision: str
    moves: bool
    time_ns: int


@runtime_checkable
class Profiler(Protocol):
    """A builder whose runtime tells times by layer."""

    def profile(self, engine: Path, spec: EngineSpec, frames: Sequence[U8], runs: int) -> list[LayerTime]:
        """Open an engine with profiling on, run it, and give its layers in order of execution.

        Args:
            engine: As for `Builder.open`.
            spec: As for `Builder.open`.
            frames: Submissions [N, …], played in turn.
            runs: Profiled runs, after as many again to warm up.
        """
