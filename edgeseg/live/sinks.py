"""Which sinks a person asked for, made and checked before anything else is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.deps import require
from edgeseg.core.types import Sink
from edgeseg.live.stop import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkChoice:
    """What the command line or a config file asks for.

    Attributes:
        show: A window.
        save: Overlay video.
        masks: Folder for mask PNGs.
        record: MCAP recording.
        web: Port of the web page.
        web_host: Address that it listens on; any but loopback has a token.
        web_token: The token; made where one is needed and none is given.
        ring: Name of a shared-memory ring.
        ros2: ROS 2 topics.
        flicker: Measure how much masks of a still scene change.
    """

    show: bool = False
    save: Path | None = None
    masks: Path | None = None
    record: Path | None = None
    web: int | None = None
    web_host: str = "127.0.0.1"
    web_token: str | None = None
    ring: str | None = None
    ros2: bool = False
    flicker: bool = False


def make_sinks(choice: SinkChoice, stop: Stop) -> list[Sink]:
    """The sinks of a choice.

    Args:
        choice: What was asked for.
        stop: Set when a person closes the window.

    Raises:
        UnavailableError: There is no display, or a package is missing.
        RequestError: A path that cannot be written to.
    """
    sinks: list[Sink] = []
    if choice.show:
        from edgeseg.sinks.window import WindowSink

        sinks.append(WindowSink(stop.set))
    if choice.save is not None:
        from edgeseg.sinks.video import VideoSink

        sinks.append(VideoSink(choice.save))
    if choice.masks is not None:
        from edgeseg.sinks.masks import MasksSink

        sinks.append(MasksSink(choice.masks))
    if choice.record is not None:
        require("mcap", what="--record")
        from edgeseg.sinks.mcap import RecordSink

        sinks.append(RecordSink(choice.record))
    if choice.web is not None:
        from edgeseg.sinks.web.sink import WebSink

        sinks.append(WebSink(choice.web, host=choice.web_host, token=choice.web_token))
    return sinks + _for_programs(choice)


def _for_programs(choice: SinkChoice) -> list[Sink]:
    """Sinks that other programs read, and that measure."""
    sinks: list[Sink] = []
    if choice.ring is not None:
        from edgeseg.sinks.ring import RingSink

        sinks.append(RingSink(choice.ring))
    if choice.ros2:
        from edgeseg.sinks.ros2 import Ros2Sink

        sinks.append(Ros2Sink())
    if choice.flicker:
        from edgeseg.sinks.flicker import FlickerSink

        sinks.append(FlickerSink())
    return sinks
