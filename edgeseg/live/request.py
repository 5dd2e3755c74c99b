"""What the loop is asked to do, and the engine that it is asked to do it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import Classes, InputFormat, Runner, Sink, Size, Source
from edgeseg.live.config import LiveConfig
from edgeseg.live.stop import Stop


class Engine(Protocol):
    """An engine that is known before it is loaded, so that sources and sinks are checked first."""

    @property
    def name(self) -> str:
        """Bundle, model or backend, for people and recordings."""

    @property
    def classes(self) -> Classes:
        """Vocabulary of the masks."""

    @property
    def takes(self) -> tuple[InputFormat, Size | None]:
        """Format and size of its frames; no size where it is built for the camera's."""

    def load(self, camera_size: Size, *, throughput: bool = False) -> Runner:
        """A runner, not yet entered; builds it for this camera size where that is what was asked for.

        `throughput` asks for more frames a second rather than each one soon: what files want and cameras do not.
        """


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A runner that is there already: what benchmarks and tests hand in."""

    runner: Runner
    name: str = "runner"

    @property
    def classes(self) -> Classes:
        """Vocabulary of the masks."""
        return self.runner.spec.classes

    @property
    def takes(self) -> tuple[InputFormat, Size | None]:
        """Format and size of its frames."""
        return self.runner.spec.input_format, self.runner.spec.frame_size

    def load(self, camera_size: Size, *, throughput: bool = False) -> Runner:
        """The runner as it is."""
        del camera_size, throughput
        return self.runner


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRequest:
    """One run of the loop.

    Attributes:
        engine: What makes the masks.
        sources: One or several, not yet opened.
        sinks: Where results go; none is allowed.
        config: Settings.
        stop: Set it from any thread to end the loop.
        signals: Let SIGINT and SIGTERM end the loop cleanly (only from the main thread).
        progress: Shown while frames come.
    """

    engine: Engine
    sources: Sequence[Source]
    sinks: Sequence[Sink] = ()
    config: LiveConfig = field(default_factory=LiveConfig)
    stop: Stop = field(default_factory=Stop)
    signals: bool = False
    progress: Progress = field(default_factory=Silent)
