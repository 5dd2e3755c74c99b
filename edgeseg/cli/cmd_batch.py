"""`edgeseg batch`: many recordings through one engine."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import Ui, common_options


@click.command(short_help="Masks of many recordings; goes on where it was broken off.")
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.option("--engine", required=True, metavar="BUNDLE", help="A bundle, zoo:NAME or an ONNX file.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the results.")
@click.option("--overlay", is_flag=True, help="Write an overlay video of each source too.")
@common_options
def command(ui: Ui, sources: tuple[str, ...], engine: str, out: Path, overlay: bool) -> None:
    """Write the masks of every SRC (videos, images, folders, globs) to OUT/NAME/masks.

    A source that was finished with the same engine is skipped. Ends with exit code 1 when one failed; the others are
    done all the same.
    """
    import msgspec

    from edgeseg.batch import run_batch
    from edgeseg.core.errors import DataError

    with ui.progress() as progress:
        items = run_batch(engine, sources, out, overlay=overlay, progress=progress)
    ui.table("batch", ["source", "state", "frames", "folder"], [(i.source, i.state, i.frames, i.folder) for i in items])
    for item in items:
        if item.error:
            ui.say(f"{item.source}: {item.error}", style="red")
    ui.emit({"items": msgspec.to_builtins(items)})
    failed = [item.source for item in items if item.state == "failed"]
    if failed:
        raise DataError(f"{len(failed)} of {len(items)} sources failed", value=", ".join(failed))
