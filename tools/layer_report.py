"""What each layer costs in integers: logits, masks and mIoU, clipped values and dead channels; the worst first.

    python tools/layer_report.py zoo:edge-m --data camvid:PATH [--split val] [--frames 8] [--placement cpu] [--ranges R]

One layer is in integers at a time. Ranges are those that the model ships, or of --ranges; layers that the range file
keeps in float are measured too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from edgeseg.cli.progress import LineProgress
from edgeseg.core.errors import EdgesegError, RequestError
from edgeseg.core.workspace import resolve_model, shipped_ranges
from edgeseg.data import open_dataset
from edgeseg.graph import default_network_size, fix_frame_size, load_model, read_meta
from edgeseg.quant import load_ranges
from edgeseg.quant.placement import get_placement
from edgeseg.quant.sensitivity import LayerSensitivity, layer_sensitivity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="canonical ONNX file or zoo:NAME")
    parser.add_argument("--data", required=True, help="labelled data: camvid:PATH, folder:PATH, street:…")
    parser.add_argument("--split", default="val")
    parser.add_argument("--frames", type=int, default=8, help="frames of the split, spread evenly")
    parser.add_argument("--placement", default="cpu", help="cpu, cpu-avx2, nvidia, nvidia-full or nvidia-typed")
    parser.add_argument("--ranges", help="range file, instead of the one that the model ships")
    try:
        found = measure(parser.parse_args())
    except EdgesegError as error:
        sys.exit(f"layer_report: error: {error}")
    sys.stdout.write(table(found))


def measure(arguments: argparse.Namespace) -> list[LayerSensitivity]:
    """Every layer of the placement, the worst first."""
    model = load_model(resolve_model(arguments.model))
    meta = read_meta(model)
    file = arguments.ranges or shipped_ranges(arguments.model)
    if file is None:
        raise RequestError("the model ships no ranges", value=arguments.model, allowed="--ranges R")
    ranges = msgspec.structs.replace(load_ranges(Path(file), weights_sha256=meta.weights_sha256), in_float={})
    dataset = open_dataset(arguments.data, arguments.split)
    wanted = np.unique(np.linspace(0, len(dataset) - 1, arguments.frames).round().astype(int))
    samples = [dataset[int(index)] for index in wanted]
    size = samples[0].image_hwc.shape[0], samples[0].image_hwc.shape[1]
    return layer_sensitivity(
        fix_frame_size(model, size, default_network_size(meta.network_size, size)),
        ranges,
        get_placement(arguments.placement),
        [sample.image_hwc for sample in samples],
        labels=[sample.label_hw for sample in samples],
        progress=LineProgress(Console(stderr=True)),
    )


def table(found: list[LayerSensitivity]) -> str:
    """As Markdown."""
    lines = [
        "| layer | role | KL | SQNR dB | changed | mIoU lost | clipped | dead channels |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for item in found:
        lost = "–" if item.lost_points is None else f"{item.lost_points:+.2f}"
        lines.append(
            f"| {item.layer} | {item.role} | {item.kl:.1e} | {item.sqnr_db:.1f} | {item.changed:.2%} | {lost} | "
            f"{item.clipped:.3%} | {item.dead_channels} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
