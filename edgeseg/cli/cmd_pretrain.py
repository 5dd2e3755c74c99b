"""`edgeseg pretrain`: frames without labels to a run that a training can start from."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import Ui, common_options, resumable


@click.command(short_help="Learn from frames without labels, for `train --init`.")
@click.option("--frames", help="A data set, a video file, or a folder or glob of pictures.")
@click.option("--model", default="", help="Preset: edge-s, edge-m, edge-l, …")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run folder.")
@click.option("--config", type=click.Path(path_type=Path), help="Recipe as TOML: [pretrain], [train], [augment] ….")
@click.option("--epochs", type=int, help="Passes over the frames.")
@click.option("--batch", type=int, help="Frames in a step.")
@click.option("--lr", type=float, help="Peak learning rate.")
@click.option("--mask", type=float, help="Share of the patches that are hidden; 0 is a plain auto-encoder.")
@click.option("--set", "values", multiple=True, metavar="TABLE.FIELD=VALUE", help="Any other field, value as in TOML.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, bit for bit.")
@common_options
def command(
    ui: Ui,
    frames: str | None,
    model: str,
    out: Path,
    config: Path | None,
    epochs: int | None,
    batch: int | None,
    lr: float | None,
    mask: float | None,
    values: tuple[str, ...],
    device: str,
    resume: bool,
) -> None:
    """Learn from frames without labels: an auto-encoder gives each frame back, from itself or from what is left of it.

    A training starts from its encoder with `edgeseg train --init RUN`.
    """
    import json

    from edgeseg.train import pretrain_model
    from edgeseg.train.overrides import parse_overrides
    from edgeseg.train.request import TrainRequest

    named = {
        "data.train": frames,
        "train.epochs": epochs,
        "train.batch": batch,
        "train.lr": lr,
        "pretrain.mask": mask,
    }
    request = TrainRequest(
        out=out,
        model=model,
        config=config,
        overrides=parse_overrides(values, {name: value for name, value in named.items() if value is not None}),
        resume=resume,
        device=device,
    )
    with resumable("pretrain", out), ui.progress() as progress:
        run = pretrain_model(request, progress)
    answer = {"run": str(run), **json.loads((run / "done.json").read_text(encoding="utf-8"))}
    ui.say(f"pretrained: {run}, PSNR {answer['scores']['val']['psnr_db']:.1f} dB; next: edgeseg train … --init {run}")
    ui.emit(answer)
