"""Many recordings through one engine: masks (and overlays) of each in a folder of its own.

A source that is finished has a `summary.json`; running the same command again goes on with the others, so that a
broken night's work is not done twice. One bad file does not stop the rest: it is named at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgeseg.core.artefacts import write_bytes
from edgeseg.core.errors import EdgesegError, RequestError
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import Sink
from edgeseg.live import run_live
from edgeseg.live.engine import open_engine
from edgeseg.live.request import LiveRequest
from edgeseg.live.run import stop_on_signals
from edgeseg.live.sinks import SinkChoice, make_sinks
from edgeseg.live.stop import Stop
from edgeseg.live.summary import LiveSummary
from edgeseg.sources import open_source

_SUMMARY = "summary.json"


class BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """One source of a batch.

    Attributes:
        source: As it was named, credentials removed.
        folder: Where its results are.
        frames: Results written; 0 where it failed.
        state: `done`, `skipped` (it was finished before) or `failed`.
        error: Why it failed.
    """

    source: str
    folder: str
    frames: int = 0
    state: str = "done"
    error: str = ""


class _Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What `summary.json` of a source holds: the engine it was made with, and how the run went."""

    engine: str
    source: str
    live: LiveSummary


def run_batch(
    engine: str, sources: Sequence[str], out: Path, *, overlay: bool = False, progress: Progress | None = None
) -> list[BatchItem]:
    """Segment every source with one engine.

    Args:
        engine: A bundle, `zoo:NAME` or an ONNX file.
        sources: Anything that `open_source` takes that ends: videos, images, folders, globs.
        out: Results land in `out/NAME/masks/*.png`, and `out/NAME/overlay.mp4` with `overlay`.
        overlay: Write overlay videos too.
        progress: Display.

    Returns:
        One item a source, in order; failed ones are among them.

    Raises:
        RequestError: No such engine, or a camera among the sources.
        VerifyError: The bundle does not verify or fit.
    """
    shown = progress or Silent()
    loaded = open_engine(engine, progress=shown)  # refuse a bad engine before the first source
    items = []
    with shown.task("batch", len(sources)) as task:
        for source, folder in zip(sources, _folders(sources, out), strict=True):
            items.append(_one(loaded.name, engine, source, folder, overlay, shown))
            task.advance(note=f"{source}: {items[-1].state}")
    return items


def _one(name: str, engine: str, source: str, folder: Path, overlay: bool, progress: Progress) -> BatchItem:
    old = _finished(folder)
    if old is not None and (old.engine, old.source) == (name, source):
        return BatchItem(source=source, folder=str(folder), frames=old.live.results, state="skipped")
    stop, asked = Stop(), Stop()
    asked.on_wake(stop.set)
    try:
        opened = open_source(source)
        choice = SinkChoice(masks=folder / "masks", save=folder / "overlay.mp4" if overlay else None)
        sinks: list[Sink] = make_sinks(choice, stop, sources=[source], engine=engine)
        request = LiveRequest(engine=open_engine(engine, progress=progress), sources=[opened], sinks=sinks, stop=stop)
        with stop_on_signals(asked):
            summary = run_live(request)
    except EdgesegError as error:
        return BatchItem(source=source, folder=str(folder), state="failed", error=str(error))
    if asked.is_set():
        raise KeyboardInterrupt  # a signal ended this source half way: it is not finished, and the rest is not wanted
    finished = _Finished(engine=name, source=source, live=summary)
    write_bytes(folder / _SUMMARY, msgspec.json.encode(finished))
    return BatchItem(source=source, folder=str(folder), frames=summary.results)


def _finished(folder: Path) -> _Finished | None:
    try:
        return msgspec.json.decode((folder / _SUMMARY).read_bytes(), type=_Finished)
    except (OSError, msgspec.DecodeError):
        return None


def _folders(sources: Sequence[str], out: Path) -> list[Path]:
    """A folder a source, named for its last part; the same name twice gets a number."""
    names: list[str] = []
    for source in sources:
        if re.match(r"(\d+$|/dev/video|csi:|rtsp:|https?:|gst:)", source):
            raise RequestError(
                "a batch needs sources that end", value=source, allowed="files, folders, globs", fix="edgeseg live"
            )
        names.append(re.sub(r"[^\w.-]+", "-", Path(source).stem).strip("-") or "source")
    unique = [name if names.index(name) == index else f"{name}-{index + 1}" for index, name in enumerate(names)]
    return [out / name for name in unique]
