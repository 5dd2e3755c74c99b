"""`edgeseg data`: render, check, describe and pack labelled frames."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import OUT_FILE, Ui, common_options, parse_size


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


_DATA = click.argument("data", metavar="DATA")
_SPLITS = click.option("--split", "splits", multiple=True, help="Only this split; may be given several times.")


@command.command(short_help="Check files, labels and splits.")
@_DATA
@_SPLITS
@common_options
def lint(ui: Ui, data: str, splits: tuple[str, ...]) -> None:
    """Read every frame of DATA and list what is wrong.

    Errors (exit code 1): frames that cannot be used. Warnings: masks without an image, sizes that differ, classes that
    never show, frames without a label, and near-duplicates across splits, by perceptual hash.
    """
    import msgspec

    from edgeseg.core.errors import DataError
    from edgeseg.data import dataset_splits, survey_dataset
    from edgeseg.data.lint import lint as check

    with ui.progress() as progress:
        names = splits or dataset_splits(data)
        report = check([survey_dataset(data, split, progress=progress)[1] for split in names])
    rows = [(finding.severity, finding.split, finding.text) for finding in report.findings]
    if rows:
        ui.table(f"{data}: {len(rows)} findings", ["severity", "split", "what"], rows)
    classes = next(iter(report.shares.values()))
    shares = [(name, *(f"{100 * split.get(name, 0):.2f}" for split in report.shares.values())) for name in classes]
    ui.table("pixels %", ["class", *report.shares], shares)
    counts = ", ".join(f"{count} {split}" for split, count in report.frames.items())
    ui.say(f"{counts} frames can be used; {report.errors} errors, {len(report.duplicates)} near-duplicates")
    ui.emit({"data": data, **msgspec.to_builtins(report)})
    if report.errors:
        raise DataError("the data set has errors", value=f"{data}: {report.errors}", allowed="none")


@command.command(short_help="Describe classes, sizes and light; optionally as a picture page.")
@_DATA
@_SPLITS
@click.option("--html", "page", type=OUT_FILE, help="Also write a picture page.")
@common_options
def stats(ui: Ui, data: str, splits: tuple[str, ...], page: Path | None) -> None:
    """Say what DATA holds: frames, sizes, share of each class, mean and spread of the colours."""
    import msgspec

    from edgeseg.core.artefacts import write_text
    from edgeseg.data import dataset_splits, survey_dataset
    from edgeseg.data.stats import stats as sum_up

    with ui.progress() as progress:
        surveys = [survey_dataset(data, split, progress=progress) for split in splits or dataset_splits(data)]
    parts = [(dataset, survey, sum_up(survey)) for dataset, survey in surveys]
    for _, survey, numbers in parts:
        rows = [(name, f"{100 * entry.share:.2f}", entry.frames) for name, entry in numbers.classes.items()]
        ui.table(f"{survey.split}: {numbers.frames} frames", ["class", "pixels %", "frames"], rows)
        sizes = ", ".join(f"{size} ({count})" for size, count in numbers.sizes.items())
        ui.say(
            f"sizes {sizes}; {numbers.unreadable} frames unreadable, {100 * numbers.ignored:.2f} % of pixels ignored"
        )
        colour = [" ".join(f"{value:.0f}" for value in values) for values in (numbers.mean_rgb, numbers.std_rgb)]
        light = " / ".join(f"{value:.0f}" for value in numbers.brightness)
        ui.say(f"RGB {colour[0]}, spread {colour[1]}; brightness of 5/50/95 % of the frames {light}")
    if page:
        from edgeseg.data.page import picture_page

        write_text(page, picture_page(data, parts))
        ui.say(f"wrote {page}")
    ui.emit(
        {
            "data": data,
            "splits": {survey.split: msgspec.to_builtins(numbers) for _, survey, numbers in parts},
            "html": str(page) if page else None,
        }
    )


@command.command(short_help="Pack a data set into one file.")
@_DATA
@_SPLITS
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to write; must not exist.")
@click.option("--quality", default=95, show_default=True, help="JPEG quality of the pictures; masks are kept exactly.")
@common_options
def pack(ui: Ui, data: str, splits: tuple[str, ...], out: Path, quality: int) -> None:
    """Pack DATA into one file, which `packed:OUT` reads without OpenCV and without unpacking."""
    from edgeseg.core.errors import RequestError
    from edgeseg.data import dataset_splits, open_dataset
    from edgeseg.data import pack as pack_dataset

    if out.exists():
        raise RequestError("the file exists", value=out, allowed="a path that does not exist yet")
    datasets = {split: open_dataset(data, split) for split in splits or dataset_splits(data)}
    with ui.progress() as progress:
        packed = pack_dataset(out, datasets, quality=quality, progress=progress)
    size_mb = out.stat().st_size / 1e6
    counts = ", ".join(f"{count} {split}" for split, count in packed.items())
    ui.say(f"wrote {out}: {counts} frames, {size_mb:.1f} MB; read it as packed:{out}")
    ui.emit({"out": str(out), "data": f"packed:{out}", "frames": packed, "size_mb": round(size_mb, 3)})
