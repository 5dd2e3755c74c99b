"""`edgeseg demo`: the whole pipeline on rendered streets."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import Ui, common_options


@click.command(short_help="The whole pipeline on rendered streets.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="New folder.")
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="How much of everything, as TOML.")
@common_options
def command(ui: Ui, out: Path, plan_file: Path | None) -> None:
    """Render streets, train edge-s on them, export, calibrate, build an INT8 bundle, drive and bench.

    Takes a few minutes on two cores; needs no GPU, camera, download or display. Ends with exit code 3 when the
    bundle scores under 0.60 mIoU on streets of another seed.
    """
    import msgspec

    from edgeseg.bench.table import latency_table, summary_lines
    from edgeseg.core.config import load_config
    from edgeseg.demo import DemoPlan, run_demo

    plan = load_config(plan_file, DemoPlan)
    with ui.progress() as progress:
        result, bench = run_demo(out, plan, progress)
    ui.table("latency", *latency_table(bench))
    for line in summary_lines(bench):
        ui.say(line)
    seconds = ", ".join(f"{name} {time:.0f} s" for name, time in result.seconds.items())
    ui.say(f"{seconds}; in all {sum(result.seconds.values()):.0f} s")
    ui.say(
        f"mIoU on streets of another seed: FP32 {result.miou['fp32']:.3f}, INT8 {result.miou['int8']:.3f}", style="bold"
    )
    ui.say("open these:", style="bold")
    for path in (result.picture, result.overlay["path"], out / "summary.json", out / "run" / "tensorboard"):
        ui.say(f"  {path}")
    ui.emit(msgspec.to_builtins(result))
