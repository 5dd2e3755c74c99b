"""`edgeseg replay`: a recording through another engine, before an upgrade is decided."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import Ui, common_options


@click.command(short_help="A recording through another engine: where masks differ, how latency changed.")
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--engine", required=True, help="Bundle, zoo:NAME or ONNX file.")
@click.option("--trust", type=click.Path(path_type=Path), help="Public key that must have signed the bundle.")
@common_options
def command(ui: Ui, recording: Path, engine: str, trust: Path | None) -> None:
    """Run RECORDING, an MCAP file of `edgeseg live --record`, through another engine."""
    import msgspec

    from edgeseg.core.deps import require

    require("mcap", "cv2", "PIL", what="edgeseg replay")
    from edgeseg.live.replay import replay

    with ui.progress() as progress:
        report = replay(recording, engine, trust=trust, progress=progress)
    ui.table(
        f"{report.recorded_engine} -> {report.engine}",
        ["class", "recorded", "replayed", "disagreement"],
        [
            (
                name,
                f"{change.recorded:.2%}",
                f"{change.replayed:.2%}",
                None if change.disagreement is None else f"{change.disagreement:.2%}",
            )
            for name, change in report.classes.items()
        ],
    )
    ui.say(f"{report.agreement:.3%} of the pixels of {report.frames} frames agree; {report.note}", style="bold")
    before, now = report.recorded_engine_ms.p50, report.engine_ms.p50
    if before is not None and now is not None:
        ui.say(f"engine p50: {before:.2f} ms as recorded, {now:.2f} ms here")
    ui.emit(msgspec.to_builtins(report))
