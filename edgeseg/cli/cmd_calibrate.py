"""`edgeseg calibrate`: real frames to a range file for INT8."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import OUT_FILE, Ui, common_options


@click.command(short_help="Measure INT8 ranges on real frames.")
@click.argument("model")
@click.option("--frames", metavar="SRC", help="Frames: a video, a folder or glob of pictures, camvid:PATH, street:… .")
@click.option("--recipe", metavar="NAME", help="Calibration recipe (see calibration/) instead of --frames.")
@click.option("--method", metavar="M", help="minmax, percentile, entropy or mse.  [default: mse]")
@click.option("--percentile", type=float, help="Per cent of the values inside the range, for --method percentile.")
@click.option("--count", type=click.IntRange(min=1), help="Frames to measure, at most.  [default: 128]")
@click.option("--network-size", metavar="HxW", help="What the layers see; by default the trained height.")
@click.option(
    "--corrupt", multiple=True, metavar="KIND[:N]|all", help="See some frames under bad conditions: night, rain:2."
)
@click.option("--as-is", is_flag=True, help="Measure the weights as they are: no equalisation, no layer left in float.")
@click.option("--out", type=OUT_FILE, help="Range file.  [default: calibration/NAME.ranges.json]")
@common_options
def command(
    ui: Ui,
    model: str,
    frames: str | None,
    recipe: str | None,
    method: str | None,
    percentile: float | None,
    count: int | None,
    network_size: str | None,
    corrupt: tuple[str, ...],
    as_is: bool,
    out: Path | None,
) -> None:
    """Measure the ranges of MODEL's tensors (an exported ONNX file or zoo:NAME) on real frames.

    Frames are chosen, not taken: black and repeated ones are left out, noise is refused. The file keeps histograms, so
    one calibration serves every method and every target. Channels that share a scale are brought to like ranges where
    that is exact and keeps the logits better, and the few layers that integers would cost most stay in float.
    """
    from edgeseg.cli.ui import parse_size
    from edgeseg.deploy import CalibrationRequest, calibrate_model

    request = CalibrationRequest(
        model=model,
        frames=frames,
        recipe=recipe,
        method=method,
        percentile=percentile,
        count=count,
        network_size=parse_size(network_size) if network_size else None,
        as_is=as_is,
        corrupt=corrupt,
    )
    with ui.progress() as progress:
        file, ranges = calibrate_model(request, out, progress)
    report = ranges.frames
    rows = [
        ("frames", f"{report.count} of {report.offered}"),
        ("left out", f"{report.duplicates} repeated, {report.blank} blank"),
        ("brightness 5/50/95 %", "{:.0f} / {:.0f} / {:.0f}".format(*report.brightness)),
        ("tensors", len(ranges.tensors)),
        ("method", ranges.method),
        ("equalised", f"{len(ranges.equalisation)} groups of channels" if ranges.equalisation else "no"),
        *((f"in float, {kind}", ", ".join(layers)) for kind, layers in ranges.in_float.items()),
        ("id", ranges.id[:16]),
    ]
    ui.table("", ["calibration", ""], rows)
    for warning in report.warnings:
        ui.say(f"note: {warning}")
    ui.say(f"wrote {file}")
    ui.emit(
        {
            "path": file,
            "id": ranges.id,
            "weights_sha256": ranges.weights_sha256,
            "method": str(ranges.method),
            "frames": report.count,
            "tensors": len(ranges.tensors),
            "equalised": len(ranges.equalisation),
            "in_float": ranges.in_float,
            "class_shares": report.class_shares,
            "warnings": list(report.warnings),
        }
    )
