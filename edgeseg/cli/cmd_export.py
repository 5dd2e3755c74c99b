"""`edgeseg export`: from a training run to the canonical ONNX graph."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import OUT_FILE, Ui, common_options, parse_size


@click.command(short_help="Write a trained network as an ONNX graph, proven against torch.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=OUT_FILE, help="The ONNX file to write.")
@click.option("--size", metavar="HxW", help="Fix the frame size; by default height and width stay symbolic.")
@click.option("--frames", metavar="SRC", help="Frames that torch and the graph must agree on; by default RUN/frames.")
@common_options
def command(ui: Ui, run: Path, out: Path, size: str | None, frames: str | None) -> None:
    """Write the network of RUN as one self-contained ONNX file.

    Camera bytes go in (`frame`, uint8 BGR), class ids come out (`mask`, uint8); all else is in the graph. Nothing is
    written where ONNX Runtime and torch disagree on more than 0.1 % of the pixels (exit code 3).
    """
    import msgspec

    from edgeseg.core.types import format_size
    from edgeseg.export import export_run

    fixed = parse_size(size) if size else None
    with ui.progress() as progress:
        report = export_run(run, out, size=fixed, frames=frames, progress=progress)
    parity = report.parity
    ui.say(
        f"{report.path}: {report.name}, {report.parameters / 1e6:.2f} M parameters, {report.bytes / 1e6:.1f} MB, "
        f"frame size {format_size(report.frame_size) if report.frame_size else 'free'}"
    )
    ui.say(
        f"agrees with torch on {parity.agreement:.3%} of the pixels of {parity.frames} frames "
        f"(logits within {parity.logits_difference:.1g})"
    )
    ui.emit(msgspec.to_builtins(report))
