"""`edgeseg train`: labelled frames to a run folder."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import Ui, common_options, resumable


@click.command(short_help="Train a model on labelled frames; resumable.")
@click.option("--data", help="Labelled frames: camvid:PATH, folder:PATH, street:seed=1,frames=200 …")
@click.option("--model", default="", help="Preset: edge-s, edge-m, edge-l, …")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run folder.")
@click.option("--config", type=click.Path(path_type=Path), help="Recipe as TOML: [train], [data], [augment], [loss] ….")
@click.option("--epochs", type=int, help="Passes over the training frames.")
@click.option("--minutes", type=float, help="Time to train, in place of --epochs; schedule trapezoid.")
@click.option("--batch", type=int, help="Frames in a step.")
@click.option("--lr", type=float, help="Peak learning rate.")
@click.option("--seed", type=int, help="Everything random follows from it.")
@click.option("--crop", help="HEIGHTxWIDTH of the training crops.")
@click.option("--set", "values", multiple=True, metavar="TABLE.FIELD=VALUE", help="Any other field, value as in TOML.")
@click.option("--init", help="Run folder (or zoo:NAME) whose weights are started from.")
@click.option("--encoder-weights", help="FILE.safetensors, torchvision:NAME or timm:NAME for the encoder.")
@click.option("--teacher", help="Run folder of a model that teaches this one.")
@click.option("--qat", help="Exported run folder to fine-tune with the roundings of integers.")
@click.option("--ranges", help="Range file for --qat.")
@click.option("--placement", metavar="P", help="For --qat: where integers are, cpu or nvidia.  [default: cpu]")
@click.option("--learn-scales", is_flag=True, default=None, help="For --qat: the scales of activations learn too.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, bit for bit.")
@common_options
def command(
    ui: Ui,
    data: str | None,
    model: str,
    out: Path,
    config: Path | None,
    epochs: int | None,
    minutes: float | None,
    batch: int | None,
    lr: float | None,
    seed: int | None,
    crop: str | None,
    values: tuple[str, ...],
    init: str | None,
    encoder_weights: str | None,
    teacher: str | None,
    qat: str | None,
    ranges: str | None,
    placement: str | None,
    learn_scales: bool | None,
    device: str,
    resume: bool,
) -> None:
    """Train a model on labelled frames.

    The run folder holds the resolved config, the averaged weights, a checkpoint, metrics and a TensorBoard log.
    Ctrl-C leaves a checkpoint to go on from.
    """
    import json

    from edgeseg.cli.ui import parse_size
    from edgeseg.core.errors import RequestError
    from edgeseg.train import train_model
    from edgeseg.train.overrides import parse_overrides
    from edgeseg.train.request import TrainRequest

    if minutes and epochs:
        lengths = f"--epochs {epochs} --minutes {minutes:g}"
        raise RequestError("two lengths of one run", value=lengths, allowed="one of them")
    if not qat and (ranges or placement or learn_scales):
        raise RequestError(
            "only fine-tuning with integers has that",
            value="--ranges" if ranges else "--placement" if placement else "--learn-scales",
            allowed="--qat RUN --ranges R beside it",
        )
    named = {
        "data.train": data,
        "train.epochs": epochs,
        "train.minutes": minutes,
        # one of --set stands as it is, and is refused where it needs a length
        "train.schedule": None if not minutes or any(v.startswith("train.schedule") for v in values) else "trapezoid",
        "train.batch": batch,
        "train.lr": lr,
        "train.seed": seed,
        "augment.crop": list(parse_size(crop)) if crop else None,
        "qat.placement": placement,
        "qat.learn_scales": learn_scales,
    }
    request = TrainRequest(
        out=out,
        model=model,
        config=config,
        overrides=parse_overrides(values, {name: value for name, value in named.items() if value is not None}),
        init=init or "",
        encoder_weights=encoder_weights or "",
        teacher=teacher or "",
        qat=qat or "",
        ranges=ranges or "",
        resume=resume,
        device=device,
    )
    with resumable("train", out), ui.progress() as progress:
        run = train_model(request, progress)
    answer = {"run": str(run), **json.loads((run / "done.json").read_text(encoding="utf-8"))}
    then = f"edgeseg export {run} --out MODEL.onnx"
    for split, score in answer["scores"].items():
        if "iou" not in score:  # a pretraining that was gone on with
            ui.say(f"{run}: {split}, PSNR {score['psnr_db']:.1f} dB")
            then = f"edgeseg train … --init {run}"
            continue
        columns = ["class", "IoU"]
        ui.table(f"{run}: {split}, mIoU {score['miou']:.3f}", columns, [(k, _cell(v)) for k, v in score["iou"].items()])
    ui.say(f"trained: {run}; next: {then}")
    ui.emit(answer)


def _cell(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
