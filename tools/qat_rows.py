"""What quantisation-aware fine-tuning is worth: FP32, FP32 fine-tuned for the same steps, PTQ of both, QAT.

    python tools/qat_rows.py RUN --data camvid:PATH --work FOLDER [--epochs 2] [--crop 192x256] [--out docs/int8.md]

The run is exported and calibrated, then fine-tuned three times for the same steps from the same weights on the same
batches: in float, with the roundings of its integers, and with scales that learn too. All graphs are executed by ONNX
Runtime with nothing fused. A fine-tuning that exists in --work is taken as it is.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from quantizer_report import command, interval, iou, watched_classes, write_between_marks
from rich.console import Console

from edgeseg.cli.progress import LineProgress
from edgeseg.core.clock import wall_iso
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import EdgesegError
from edgeseg.core.metrics import Confusion
from edgeseg.core.types import U8, Sample
from edgeseg.data import open_dataset
from edgeseg.export import export_run
from edgeseg.graph import default_network_size, fix_frame_size, load_model, read_meta
from edgeseg.quant import calibrate, load_ranges, open_pool, quantize, save_ranges
from edgeseg.quant.placement import get_placement
from edgeseg.train import train_model
from edgeseg.train.request import TrainRequest

_MARK = "qat"


@dataclass(frozen=True)
class Row:
    """One graph: what it is, the float row that it is compared with, and what came of it."""

    name: str
    base: str
    confusion: NDArray[np.int64]  # [frames, C, C + 1]
    masks: list[U8]


def main() -> None:
    arguments = _arguments()
    try:
        rows, names = compare(arguments)
    except EdgesegError as error:
        sys.exit(f"qat_rows: error: {error}")
    text = table(rows, names, arguments)
    if arguments.out:
        write_between_marks(arguments.out, text, _MARK)
    sys.stdout.write(text)


def compare(arguments: argparse.Namespace) -> tuple[list[Row], Sequence[str]]:
    """Fine-tune, quantise and score."""
    progress = LineProgress(Console(stderr=True))
    work: Path = arguments.work
    start = work / "start"
    if not start.exists():
        start.mkdir(parents=True)
        shutil.copy(arguments.run / "config.toml", start)
        export_run(arguments.run, start / "model.onnx", progress=progress)
    pool = open_pool(arguments.data)

    def ranges_of(model: Path, prepare: bool) -> Path:
        file = model.with_name("prepared.json" if prepare else "as-is.json")
        if not file.exists():
            found = calibrate(load_model(model), pool, count=arguments.count, prepare=prepare, progress=progress)
            save_ranges(file, found)
        return file

    as_is = ranges_of(start / "model.onnx", False)
    height, _, width = arguments.crop.partition("x")
    tables = {
        "train": {"epochs": arguments.epochs, "validate_every": arguments.epochs},
        "augment": {"crop": [int(height), int(width)]},
    }
    tuned = {
        "float": {"placement": "none"},
        "qat": {"placement": arguments.placement},
        "learnt": {"placement": arguments.placement, "learn_scales": True},
    }
    for name, qat in tuned.items():
        if not (work / name / "done.json").exists():
            overrides = {**tables, "data": {"train": arguments.data, "limit": 1.0}, "qat": qat}
            request = TrainRequest(
                out=work / name, qat=str(start), ranges=str(as_is), device="cpu", overrides=overrides
            )
            train_model(request, progress)
    return _score(arguments, ranges_of)


def _score(arguments: argparse.Namespace, ranges_of: object) -> tuple[list[Row], Sequence[str]]:
    assert callable(ranges_of)
    samples = [
        dataset[index]
        for split in arguments.splits.split(",")
        for dataset in [open_dataset(arguments.data, split)]
        for index in range(0, len(dataset), arguments.every)
    ]
    rows = []

    def add(name: str, base: str, folder: str, ranges: Path | None) -> None:
        model = load_model(arguments.work / folder / "model.onnx")
        size = samples[0].image_hwc.shape[0], samples[0].image_hwc.shape[1]
        static = fix_frame_size(model, size, default_network_size(read_meta(model).network_size, size))
        if ranges is not None:
            static = quantize(static, load_ranges(ranges), get_placement(arguments.placement))
        rows.append(_row(name, base, static, samples))
        sys.stderr.write(f"{name}: done\n")

    for name, folder in {"FP32": "start", "FP32, fine-tuned": "float"}.items():
        file = arguments.work / folder / "model.onnx"
        add(name, name, folder, None)
        add(f"PTQ of {name}", name, folder, ranges_of(file, True))
        add(f"PTQ of {name}, every layer in integers", name, folder, ranges_of(file, False))
    add("QAT, every layer in integers", "FP32, fine-tuned", "qat", arguments.work / "qat" / "model.ranges.json")
    add("QAT, learnt scales", "FP32, fine-tuned", "learnt", arguments.work / "learnt" / "model.ranges.json")
    return rows, open_dataset(arguments.data, arguments.splits.split(",")[0]).classes.names


def _row(name: str, base: str, model: onnx.ModelProto, samples: Sequence[Sample]) -> Row:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    classes = read_meta(model).classes
    counts, masks = [], []
    for sample in samples:
        mask = session.run(["mask"], {"frame": sample.image_hwc[None]})[0][0]
        counter = Confusion(classes)
        counter.add(sample.label_hw, mask)
        counts.append(counter.matrix.copy())
        masks.append(mask)
    return Row(name, base, np.stack(counts), masks)


def table(rows: Sequence[Row], names: Sequence[str], arguments: argparse.Namespace) -> str:
    """Each row's mIoU, and what it loses from its float row."""
    by_name = {row.name: row for row in rows}
    device = fingerprint()
    lines = [
        f"`{command('qat_rows.py')}`",
        "",
        f"{len(rows[0].masks)} frames ({arguments.splits}), {arguments.epochs} epoch(s) of fine-tuning on crops of "
        f"{arguments.crop}, placement {arguments.placement}, executed by ONNX Runtime, nothing fused; {device.cpu}, "
        f"{device.cores} cores; {wall_iso()[:10]}. Loss in points of mIoU from the row's float graph, with its 95 % "
        "interval; worst class among those with IoU of 0.3 or more and 0.5 % of the pixels.",
        "",
        "| | mIoU | from | loss | worst class | agreement |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        base = by_name[row.base]
        before, after = iou(base.confusion.sum(axis=0)), iou(row.confusion.sum(axis=0))
        drops = {names[i]: 100 * (before[i] - after[i]) for i in watched_classes(base.confusion)}
        worst = max(drops, key=lambda name: drops[name], default="–")
        low, high = interval(base.confusion, row.confusion)
        agreement = np.mean([np.mean(a == b) for a, b in zip(base.masks, row.masks, strict=True)])
        loss = 100 * (np.nanmean(before) - np.nanmean(after))
        lines.append(
            f"| {row.name} | {np.nanmean(after):.4f} | {'–' if row is base else row.base} | "
            + (
                "– | – | – |"
                if row is base
                else f"{loss:+.2f} [{low:+.2f}, {high:+.2f}] | {worst} {drops.get(worst, 0.0):+.2f} | {agreement:.2%} |"
            )
        )
    return "\n".join([*lines, ""])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="finished run folder")
    parser.add_argument("--data", required=True, help="labelled data: learns from train, scores --splits")
    parser.add_argument(
        "--work", required=True, type=Path, help="folder of the fine-tuned runs; goes on with what is there"
    )
    parser.add_argument("--splits", default="dev,val", help="splits that accuracy is measured on, together")
    parser.add_argument("--epochs", type=int, default=2, help="of each fine-tuning")
    parser.add_argument("--crop", default="192x256", help="HEIGHTxWIDTH of the training crops")
    parser.add_argument("--placement", default="cpu", help="where integers are: cpu or nvidia")
    parser.add_argument("--count", type=int, default=64, help="calibration frames")
    parser.add_argument("--every", type=int, default=1, help="take every Nth frame of the splits")
    parser.add_argument("--out", type=Path, help="Markdown page to write into")
    return parser.parse_args()


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # of this process, which is only this tool
    main()
