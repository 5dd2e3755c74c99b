"""`edgeseg live`: frames from cameras or files, masks of known age to a window, files, a web page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeseg.cli.ui import Ui, common_options

if TYPE_CHECKING:
    from edgeseg.live.summary import LiveSummary


@click.command(short_help="Masks from cameras or files, as they come.")
@click.argument("bundle")
@click.option("--source", "sources", multiple=True, required=True, help="Camera number, file, folder, URL; repeatable.")
@click.option("--show", is_flag=True, help="A window with the overlay.")
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), help="Overlay video (mp4, mkv, avi).")
@click.option("--masks", type=click.Path(path_type=Path, file_okay=False), help="Folder for mask PNGs.")
@click.option("--record", type=click.Path(path_type=Path, dir_okay=False), help="MCAP recording, for `edgeseg replay`.")
@click.option(
    "--web", type=int, metavar="PORT", help="A web page with the live overlay, and /metrics; this machine only."
)
@click.option("--web-host", default="127.0.0.1", help="Let others in: the address to listen on; they need the token.")
@click.option("--web-token", help="The token for --web-host; made and shown where none is given.")
@click.option("--late-ms", type=float, help="A mask older than this is LATE; 0 is off. Default: two frame intervals.")
@click.option("--min-confidence", type=float, help="Pixels the engine is less sure of (0 to 1) become 'no class'.")
@click.option("--resize", help="Where sizes differ: stretch, crop or letterbox.")
@click.option("--realtime", is_flag=True, help="Play files at their own rate, like cameras.")
@click.option("--keep-trying", is_flag=True, help="Start with cameras missing, and never give one up.")
@click.option("--open-timeout", type=float, metavar="S", help="A source must open within so many seconds (10).")
@click.option("--trust", type=click.Path(path_type=Path), help="Public key that must have signed the bundle.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Settings of the loop, as TOML.")
@common_options
def command(
    ui: Ui,
    bundle: str,
    sources: tuple[str, ...],
    show: bool,
    save: Path | None,
    masks: Path | None,
    record: Path | None,
    web: int | None,
    web_host: str,
    web_token: str | None,
    late_ms: float | None,
    min_confidence: float | None,
    resize: str | None,
    realtime: bool,
    keep_trying: bool,
    open_timeout: float | None,
    trust: Path | None,
    config_file: Path | None,
) -> None:
    """Run BUNDLE (a bundle, zoo:NAME or an ONNX file) over one or several sources.

    Every result carries the age and the state of its frame; Ctrl-C ends the run cleanly, with a summary.
    """
    from edgeseg.core.config import load_config
    from edgeseg.live import run_live
    from edgeseg.live.config import LiveConfig
    from edgeseg.live.engine import open_engine
    from edgeseg.live.request import LiveRequest
    from edgeseg.live.sinks import SinkChoice, make_sinks
    from edgeseg.live.stop import Stop
    from edgeseg.sources import open_source

    given: dict[str, object] = {
        "health": {"late_ms": late_ms},
        "min_confidence": min_confidence,
        "resize": resize,
        "open_timeout_s": open_timeout,
        "keep_trying": keep_trying or None,
    }
    config = load_config(config_file, LiveConfig, _without_none(given))
    opened = [open_source(uri, realtime=realtime) for uri in sources]
    stop = Stop()
    choice = SinkChoice(
        show=show, save=save, masks=masks, record=record, web=web, web_host=web_host, web_token=web_token
    )
    sinks = make_sinks(choice, stop)
    for sink in sinks:
        if address := getattr(sink, "url", None):
            ui.say(f"web page: {address}", style="bold")
    with ui.progress() as progress:
        summary = run_live(
            LiveRequest(
                engine=open_engine(bundle, trust=trust, progress=progress),
                sources=opened,
                sinks=sinks,
                config=config,
                stop=stop,
                signals=True,
                progress=progress,
            )
        )
    _show(ui, summary)
    import msgspec

    ui.emit(msgspec.to_builtins(summary))


def _without_none(tables: dict[str, object]) -> dict[str, object]:
    plain = {key: _without_none(value) if isinstance(value, dict) else value for key, value in tables.items()}
    return {key: value for key, value in plain.items() if value is not None}


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
        ui.say(f"{sink.name}: {sink.written} written, {sink.dropped} dropped{' ' + sink.failed if sink.failed else ''}")
    fps = "–" if summary.fps is None else f"{summary.fps:.1f}"
    first = "no mask was OK" if summary.first_ok_ms is None else f"first OK mask after {summary.first_ok_ms:.0f} ms"
    ui.say(f"{summary.results} results, {fps} a second; {first}", style="bold")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"
