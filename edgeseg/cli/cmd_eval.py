"""`edgeseg eval`: scores of a run, a model or a bundle on labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeseg.cli.ui import OUT_FILE, Ui, common_options

if TYPE_CHECKING:
    from edgeseg.measure.robustness import Condition


@click.command(short_help="Score a run, a model or a bundle on labelled data.")
@click.argument("target", metavar="RUN|MODEL|BUNDLE")
@click.option("--data", required=True, metavar="DATA", help="camvid:PATH, folder:PATH or street:OPTIONS.")
@click.option("--split", default="val", show_default=True, help="Split of the data set.")
@click.option("--corrupt", multiple=True, metavar="KIND[:N]|all", help="Also under bad conditions: night, rain:2, all.")
@click.option("--save", type=OUT_FILE, help="Also write the result, with the confusion matrix.")
@common_options
def command(ui: Ui, target: str, data: str, split: str, corrupt: tuple[str, ...], save: Path | None) -> None:
    """Score RUN (torch), MODEL (an ONNX file or zoo:NAME: that graph in ONNX Runtime, the reference) or BUNDLE.

    Only a bundle evaluates an engine. Scores are at the size of the labels; unlabelled pixels do not count.
    """
    import msgspec

    from edgeseg.core.artefacts import write_bytes
    from edgeseg.data import open_dataset
    from edgeseg.deploy import open_target
    from edgeseg.measure import evaluate_corrupted, evaluate_runner, parse_conditions

    wanted = parse_conditions(corrupt) if corrupt else []
    dataset = open_dataset(data, split)
    height, width = dataset[0].label_hw.shape
    runner = open_target(target, frame_size=(height, width))
    with ui.progress() as progress:
        result = evaluate_runner(runner, dataset, progress=progress)
        conditions = evaluate_corrupted(runner, dataset, wanted, progress=progress) if wanted else []

    rows = [(name, _percent(result.iou[name]), _percent(result.boundary_iou_by_class[name])) for name in result.iou]
    rows.append(("mean", _percent(result.miou), _percent(result.boundary_iou)))
    ui.table(f"{target} on {dataset.name} {split}, {result.frames} frames", ["class", "IoU %", "boundary IoU %"], rows)
    p50 = "–" if result.engine_ms.p50 is None else f"{result.engine_ms.p50:.1f} ms"
    ui.say(
        f"pixel accuracy {_percent(result.pixel_accuracy)} %, engine p50 {p50} in passing "
        f"({runner.spec.backend}, {runner.spec.precision})"
    )
    if conditions:
        _show_conditions(ui, conditions, result.miou)
    if save:
        kept = {**msgspec.to_builtins(result), "corrupt": msgspec.to_builtins(conditions)}
        write_bytes(save, msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")
        ui.say(f"wrote {save}")
    answer: dict[str, object] = {
        "miou": result.miou,
        "iou": result.iou,
        "boundary_iou": result.boundary_iou,
        "pixel_accuracy": result.pixel_accuracy,
        "frames": result.frames,
        "engine_ms": msgspec.to_builtins(result.engine_ms),
    }
    if conditions:
        answer["corrupt"] = [{"kind": one.kind, "strength": one.strength, "miou": one.miou} for one in conditions]
    ui.emit(answer)


def _show_conditions(ui: Ui, conditions: list[Condition], clean: float | None) -> None:
    strengths = sorted({one.strength for one in conditions})
    found = {(one.kind, one.strength): one.miou for one in conditions}
    kinds = list(dict.fromkeys(one.kind for one in conditions))
    rows = [(kind, *(_percent(found.get((kind, strength))) for strength in strengths)) for kind in kinds]
    columns = ["mIoU % under", *(f"strength {strength}" for strength in strengths)]
    ui.table(f"bad conditions; {_percent(clean)} % without", columns, rows)


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.2f}"
