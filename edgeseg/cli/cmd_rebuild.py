"""`edgeseg rebuild`: a bundle again, from itself alone."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import Ui, common_options


@click.command(short_help="Build a bundle again for this machine, from the bundle alone.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="New folder; by default in the old bundle's place.")
@click.option("--trust", type=click.Path(path_type=Path), metavar="K", help="Public key that must have signed it.")
@common_options
def command(ui: Ui, bundle: Path, out: Path | None, trust: Path | None) -> None:
    """Build BUNDLE again for this machine: after a new driver or runtime, or on another board.

    It starts from the model, ranges and request that the bundle holds, keeps its golden frames, and gates again where
    the data is here. Only these must verify: a damaged engine is replaced. The old content becomes the last good one
    if it is whole: `edgeseg rollback BUNDLE` brings it back.
    """
    from edgeseg.deploy import rebuild_bundle

    with ui.progress() as progress:
        report = rebuild_bundle(bundle, progress, out=out, trust=trust)
    for note in report.notes:
        ui.say(f"note: {note}")
    ui.say(f"rebuilt {report.bundle}: {report.backend} {report.precision}")
    ui.emit({"path": report.bundle, "id": report.id, "backend": report.backend, "precision": report.precision})
