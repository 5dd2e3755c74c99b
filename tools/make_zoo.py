"""Put a trained run into the zoo: ONNX, ranges, fp16 weights and the model card, in one go.

    python tools/make_zoo.py RUN --data camvid:PATH [--splits val,dev] [--note "…"] [--stand-in]

Nothing in a card is typed by hand: its figures are measured here, by the commands that the card names.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from safetensors.torch import load_file, save_file

import edgeseg.zoo
from edgeseg.cli.progress import LineProgress
from edgeseg.core.config import dump_toml, read_toml
from edgeseg.core.errors import EdgesegError
from edgeseg.data import open_dataset
from edgeseg.deploy import BuildRequest, CalibrationRequest, build_bundle, calibrate_model, open_target
from edgeseg.export import export_run
from edgeseg.measure import evaluate_runner
from edgeseg.measure.evaluate import Evaluation

ZOO = Path(edgeseg.zoo.__path__[0])


def main() -> None:
    """Make every file in a scratch folder, then move them into the zoo together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True, help="labelled data: ranges from its train split, scores on --splits")
    parser.add_argument("--splits", default="val")
    parser.add_argument("--note", default="", help="what the model is not good for")
    parser.add_argument("--stand-in", action="store_true", help="the card says that it will be replaced")
    args = parser.parse_args()
    try:
        make(args.run, args.data, args.splits.split(","), args.note, args.stand_in)
    except EdgesegError as error:
        sys.exit(f"make_zoo: error: {error}")


def make(run: Path, data: str, splits: list[str], note: str, stand_in: bool) -> None:
    """Export, calibrate, score FP32 and INT8, write the card."""
    progress = LineProgress(Console(stderr=True))
    config = read_toml(run / "config.toml")
    name = str(config["model"]["name"])  # type: ignore[index]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = folder / f"{name}.onnx"
        export_run(run, model, progress=progress)
        ranges, _ = calibrate_model(
            CalibrationRequest(model=str(model), frames=data), folder / f"{name}.ranges.json", progress
        )
        half = {key: value.half() for key, value in load_file(run / "weights.safetensors").items()}
        save_file(half, folder / f"{name}.safetensors")
        sample = open_dataset(data, splits[0])[0]
        height, width = sample.label_hw.shape
        request = BuildRequest(
            model=str(model), target="cpu", precision="int8", ranges=str(ranges), frame_size=(height, width)
        )
        bundle = build_bundle(request, folder / "bundle", progress).bundle
        scores = {}
        for split in splits:
            dataset = open_dataset(data, split)
            scores[split] = tuple(
                evaluate_runner(open_target(str(path), frame_size=(height, width)), dataset, progress=progress)
                for path in (model, bundle)
            )
        manifest = json.loads((bundle / "manifest.json").read_text())
        card = write_card(name, config, data.split(":")[0], scores, manifest["engine"]["backend"], note, stand_in)
        (folder / f"{name}.md").write_text(card)
        for suffix in (".onnx", ".ranges.json", ".safetensors", ".md"):
            shutil.copyfile(folder / (name + suffix), ZOO / (name + suffix))
            sys.stderr.write(f"wrote {ZOO / (name + suffix)}\n")


def write_card(
    name: str,
    config: dict[str, object],
    data: str,
    scores: dict[str, tuple[Evaluation, ...]],
    backend: str,
    note: str,
    stand_in: bool,
) -> str:
    """The model card, Markdown."""
    train, model = config["train"], config["model"]
    assert isinstance(train, dict)
    assert isinstance(model, dict)
    size = "x".join(str(side) for side in config["input"]["network_size"])  # type: ignore[index]
    lines = [f"# {name}" + (" (stand-in)" if stand_in else ""), ""]
    if stand_in:
        lines += [
            "**A stand-in**, trained for a few epochs so that every command that names it works. It will be replaced.",
            "",
        ]
    lines += [
        "| | |",
        "|---|---|",
        f"| network | ConvNeXt-U-Net, {model['norm']} norm, {model['activation']}: `edgeseg inspect zoo:{name}` |",
        f"| data | {data}, split `{config['data'].get('split', 'train')}`, network size {size} |",  # type: ignore[attr-defined]
        f"| recipe | `edgeseg train --data {data}:PATH --model {name} --config RECIPE.toml`, the recipe is below |",
        f"| ranges | `edgeseg calibrate zoo:{name} --frames {data}:PATH` |",
        f"| INT8 | `edgeseg build zoo:{name} --precision int8 --target cpu`, {backend} |",
        f"| scores | `edgeseg eval zoo:{name} --data {data}:PATH --split …`; the same of the bundle for INT8 |",
        "",
    ]
    header = [f"{split} {kind}" for split in scores for kind in ("FP32", "INT8")]
    results = [result for pair in scores.values() for result in pair]
    lines += [f"| IoU % | {' | '.join(header)} |", "|---" * (len(header) + 1) + "|"]
    for label in results[0].iou:
        lines.append(f"| {label} | {' | '.join(percent(result.iou[label]) for result in results)} |")
    lines.append(f"| **mean** | {' | '.join(f'**{percent(result.miou)}**' for result in results)} |")
    lines.append(f"| boundary | {' | '.join(percent(result.boundary_iou) for result in results)} |")
    if data == "camvid":
        lines += ["", "CamVid is for research use. Its val is one clip of 6.7 s and flatters."]
    if note:
        lines += ["", f"**Not good for**: {note}"]
    lines += ["", "<details><summary>recipe</summary>", "", "```toml"]
    recipe = {key: value for key, value in config.items() if key in ("model", "train", "augment", "loss")}
    lines += [dump_toml(recipe).strip(), "```", "", "</details>", ""]
    return "\n".join(lines)


def percent(value: float | None) -> str:
    """A share in percent, two digits; a dash where it is not defined."""
    return "–" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
