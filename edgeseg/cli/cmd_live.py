"""`edgeseg live`: frames from cameras or files, masks of known age to a window, files, a web page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeseg.cli.ui import Ui, common_options

if TYPE_CHECKING:
    from edgeseg.live.summary import LiveSummary


@click.command(short_help="Masks from cameras or files, as they come.")
@click.argument("bundle", required=False)
@click.option("--source", "sources", multiple=True, help="Camera number, file, folder, URL; repeatable.")
@click.option("--show", is_flag=True, default=None, help="A window with the overlay.")
@click.option("--save", metavar="FILE", help="Overlay video (mp4, mkv, avi).")
@click.option("--masks", metavar="DIR", help="Folder for mask PNGs.")
@click.option("--record", metavar="FILE", help="MCAP recording, for `edgeseg replay`.")
@click.option(
    "--web",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Web page with the live overlay, and /metrics; this machine only.",
)
@click.option("--web-host", metavar="HOST", help="Let others in: the address to listen on; they need the token.")
@click.option("--web-token", metavar="TOKEN", help="The token for --web-host; made and shown where none is given.")
@click.option("--ring", metavar="NAME", help="Shared-memory ring for another process.")
@click.option("--ros2", is_flag=True, default=None, help="ROS 2 topics: masks, label info, diagnostics.")
@click.option("--flicker", is_flag=True, default=None, help="Measure how much masks of a still scene change.")
@click.option("--late-ms", type=float, help="A mask older than this is LATE; 0 is off. Default: two frame intervals.")
@click.option("--min-confidence", type=float, help="Pixels the engine is less sure of (0 to 1) become 'no class'.")
@click.option("--smooth", type=float, metavar="C", help="Pixels it is less sure of keep their class for 3 frames.")
@click.option("--resize", type=click.Choice(["stretch", "crop", "letterbox"]), help="What to do where sizes differ.")
@click.option("--realtime", is_flag=True, default=None, help="Play files at their own rate, like cameras.")
@click.option("--keep-trying", is_flag=True, default=None, help="Start with cameras missing; never give one up.")
@click.option("--open-timeout", type=float, metavar="S", help="A source must open within so many seconds (10).")
@click.option("--trust", metavar="KEY", help="Public key that must have signed the bundle.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="All of this from a TOML file.")
@common_options
def command(ui: Ui, bundle: str | None, sources: tuple[str, ...], config_file: Path | None, **options: Any) -> None:
    """Run BUNDLE (a bundle, zoo:NAME or an ONNX file) over one or several sources.

    Every result carries the age and the state of its frame; Ctrl-C ends the run cleanly, with a summary.
    """
    import msgspec

    from edgeseg.core.deps import require

    require("cv2", "PIL", what="edgeseg live")
    from edgeseg.live import run_live
    from edgeseg.live.engine import open_engine
    from edgeseg.live.request import LiveRequest
    from edgeseg.live.settings import load_settings
    from edgeseg.live.sinks import make_sinks
    from edgeseg.live.stop import Stop
    from edgeseg.sources import open_source

    settings = load_settings(config_file, _tables(bundle, sources, options))
    assert settings.engine is not None
    opened = [open_source(uri, realtime=settings.realtime) for uri in settings.sources]
    stop = Stop()
    sinks = make_sinks(settings.sinks.choice(), stop, sources=settings.sources, engine=settings.engine)
    for sink in sinks:
        if address := getattr(sink, "url", None):
            ui.say(f"web page: {address}", style="bold")
    with ui.progress() as progress:
        trust = Path(settings.trust) if settings.trust else None
        summary = run_live(
            LiveRequest(
                engine=open_engine(settings.engine, trust=trust, progress=progress),
                sources=opened,
                sinks=sinks,
                config=settings.loop,
                stop=stop,
                signals=True,
                progress=progress,
            )
        )
    _show(ui, summary)
    ui.emit(msgspec.to_builtins(summary))


def _tables(bundle: str | None, sources: tuple[str, ...], options: Mapping[str, Any]) -> dict[str, object]:
    """The command line as the tables of the config file; None is what was not given."""
    of_sinks = ("show", "save", "masks", "record", "web", "web_host", "web_token", "ring", "ros2", "flicker")
    return {
        "engine": bundle,
        "sources": list(sources) or None,
        "realtime": options["realtime"],
        "trust": options["trust"],
        "sinks": {name: options[name] for name in of_sinks},
        "loop": {
            "health": {"late_ms": options["late_ms"]},
            "min_confidence": options["min_confidence"],
            "smooth_confidence": options["smooth"],
            "resize": options["resize"],
            "open_timeout_s": options["open_timeout"],
            "keep_trying": options["keep_trying"],
        },
    }


def _show(ui: Ui, summary: LiveSummary) -> None:
    rows = [
        (
            camera.uri,
            camera.frames,
            camera.results,
            _counts(camera.drops) or "none",
            _counts(camera.states),
            camera.clock,
        )
        for camera in summary.cameras
    ]
    ui.table("frames", ["source", "frames", "results", "drops", "states", "clock"], rows)
    ages, beyond = summary.capture_to_mask_ms, summary.beyond_engine_ms
    shown = [("capture to mask", ages), ("of it outside the engine", beyond)]
    shown += [(name, series) for name, series in summary.stages_ms.items() if series.n]
    ui.table(
        "milliseconds",
        ["", "p50", "p99", "max"],
        [(name, _ms(series.p50), _ms(series.p99), _ms(series.max)) for name, series in shown],
    )
    for sink in summary.sinks:
        name = f"{sink.name} ({sink.note})" if sink.note else sink.name
        ui.say(f"{name}: {sink.written} written, {sink.dropped} dropped{' ' + sink.failed if sink.failed else ''}")
    for camera in summary.cameras:
        if camera.flicker is not None:
            ui.say(f"flicker of {camera.uri}: {camera.flicker:.3%} of the still pixels change class a frame")
    fps = "–" if summary.fps is None else f"{summary.fps:.1f}"
    first = "no mask was OK" if summary.first_ok_ms is None else f"first OK mask after {summary.first_ok_ms:.0f} ms"
    ui.say(f"{summary.results} results, {fps} a second; {first}", style="bold")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"
