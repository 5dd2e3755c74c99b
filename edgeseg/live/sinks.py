"""Which sinks a person asked for, made and checked before anything else is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.deps import require
from edgeseg.core.errors import RequestError
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


def make_sinks(choice: SinkChoice, stop: Stop, *, sources: Sequence[str] = (), engine: str | None = None) -> list[Sink]:
    """The sinks of a choice, each checked as far as that goes before anything is opened.

    Args:
        choice: What was asked for.
        stop: Set when a person closes the window.
        sources: What the run reads, as it was named; nothing of it is overwritten.
        engine: As it was named; nothing is written into a bundle.

    Raises:
        UnavailableError: There is no display, or a package is missing.
        RequestError: A path that cannot be written to, or must not be.
    """
    _check_overwrites(choice, sources, engine)
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


def _check_overwrites(choice: SinkChoice, sources: Sequence[str], engine: str | None) -> None:
    """Refuse to write over what the run reads, into a bundle, or two results to one place."""
    if choice.save is not None and choice.masks is not None and choice.save.resolve() == choice.masks.resolve():
        raise RequestError("--save and --masks name one place", value=choice.save, allowed="a file, and a folder")
    inputs = {path.resolve() for uri in sources for path in _files_of(uri)}
    places = list(_places(choice, cameras=max(1, len(sources))))
    folders = {place.resolve() for option, place in places if option == "--masks"}
    bundle = Path(engine).expanduser().resolve() if engine is not None else None
    for option, place in places:
        whole = place.resolve()
        over = whole in inputs or (whole in folders and any(p.parent == whole and p.suffix == ".png" for p in inputs))
        if over:
            raise RequestError(f"{option} would overwrite what the run reads", value=place, allowed="another place")
        if bundle is not None and bundle.is_dir() and whole.is_relative_to(bundle):
            raise RequestError(f"{option} would write into the engine", value=place, allowed="a place outside of it")


def _places(choice: SinkChoice, *, cameras: int) -> Iterator[tuple[str, Path]]:
    """What is written: the option and the file, or for masks the folder that they lie in."""
    if choice.record is not None:
        yield "--record", choice.record
    if choice.save is not None:
        from edgeseg.sinks.video import file_of

        for number in range(cameras):
            yield "--save", file_of(choice.save, number, cameras)
    if choice.masks is not None:
        from edgeseg.sinks.masks import folder_of

        for number in range(cameras):
            yield "--masks", folder_of(choice.masks, number, cameras)


def _files_of(uri: str) -> list[Path]:
    """The files that a source reads; none for a camera."""
    from edgeseg.sources.images import find_pictures
    from edgeseg.sources.uri import source_kind

    name = source_kind(uri).name
    if name == "images":
        return find_pictures(uri)
    return [Path(uri).expanduser()] if name == "video file" else []
