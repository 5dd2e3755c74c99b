"""`edgeseg data`: render, check, describe and pack labelled frames."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import Ui, common_options, parse_size


@click.group(name="data", short_help="Render, check, describe and pack labelled frames.")
def command() -> None:
    """Labelled frames: render a street (synth), check files (lint), describe (stats), pack into one file (pack)."""


@command.command(short_help="Render a labelled drive through a street into a folder.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write; must not exist.")
@click.option("--seed", default=1, show_default=True, help="Which town, weather and traffic.")
@click.option("--frames", default=200, show_default=True, help="Frames of the split train; val has a fifth of them.")
@click.option("--size", default="360x480", show_default=True, metavar="HxW", help="Frame size, height first.")
@click.option("--step", "step_m", default=0.0, metavar="METRES", help="Driven from frame to frame.  [default: 4]")
@common_options
def synth(ui: Ui, out: Path, seed: int, frames: int, size: str, step_m: float) -> None:
    """Render a labelled drive as images, masks and a class file, which `folder:OUT` reads."""
    from edgeseg.core.errors import RequestError
    from edgeseg.core.types import format_size
    from edgeseg.data import open_dataset, write_folder

    if out.exists():
        raise RequestError("the folder exists", value=out, allowed="a path that does not exist yet")
    spec = f"street:seed={seed},frames={frames},size={format_size(parse_size(size))},step_m={step_m}"
    with ui.progress() as progress:
        written = write_folder(out, {split: open_dataset(spec, split) for split in ("train", "val")}, progress=progress)
    counts = ", ".join(f"{count} {split}" for split, count in written.items())
    ui.say(f"wrote {out}: {counts} frames; read it as folder:{out}")
    ui.emit({"out": str(out), "data": f"folder:{out}", "frames": written})
