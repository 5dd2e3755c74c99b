"""Put trained runs into the zoo: ONNX, ranges, fp16 weights and the model card of each, in one go.

    python tools/make_zoo.py RUN [RUN …] --data camvid:PATH [--dev-run RUN …] [--splits val] [--note "NAME: …"]

Nothing in a card is typed by hand but its notes: its figures are measured here, by the commands that the card names.
The weights of the zoo learn from all of train, so their card has no dev figure of their own: a sibling, trained on
train-dev by the same recipe and named with --dev-run, gives the dev columns (it is taken for the RUN of its model).
Everything is made in a scratch folder, and moved into the zoo only when every model is complete.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_card import Card, Tables, table, write_card
from rich.console import Console
from safetensors.torch import load_file, save_file

import edgeseg.zoo
from edgeseg.cli.progress import LineProgress
from edgeseg.core.config import read_toml
from edgeseg.core.errors import EdgesegError, RequestError
from edgeseg.core.progress import Progress
from edgeseg.core.types import Runner, Size
from edgeseg.data import open_dataset
from edgeseg.deploy import BuildRequest, CalibrationRequest, build_bundle, calibrate_model, open_target
from edgeseg.export import export_run
from edgeseg.graph.summary import summarise
from edgeseg.measure import evaluate_corrupted, evaluate_runner, parse_conditions
from edgeseg.measure.evaluate import Evaluation

ZOO = Path(edgeseg.zoo.__path__[0])
SUFFIXES = (".onnx", ".ranges.json", ".safetensors", ".md")
LIMIT_MB = 24


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is made of every run.

    Attributes:
        data: Labelled data: ranges from its train split, scores on `splits`.
        splits: What is scored, and the first of them under bad conditions.
        siblings: Runs that held dev out, by model.
        corrupt: Bad conditions, as `edgeseg eval --corrupt` takes them; empty for none.
        notes: What a model is not good for, by model; "" for all.
        stand_in: Whether the cards say that they will be replaced.
    """

    data: str
    splits: Sequence[str]
    siblings: dict[str, Path]
    corrupt: Sequence[str] = ("all",)
    notes: tuple[tuple[str, str], ...] = ()
    stand_in: bool = False


def main(arguments: Sequence[str] | None = None) -> None:
    """Make every file in a scratch folder, then move them into the zoo together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data", required=True, help="labelled data: ranges from its train split, scores on --splits")
    parser.add_argument("--dev-run", type=Path, action="append", default=[], help="sibling that held dev out")
    parser.add_argument("--splits", default="val", help="with commas; the first is scored under bad conditions too")
    parser.add_argument(
        "--corrupt", action="append", metavar="KIND[:N]|all|none", help="bad conditions; all by default"
    )
    parser.add_argument("--note", action="append", default=[], help="what NAME is not good for: 'NAME: …', or of all")
    parser.add_argument("--stand-in", action="store_true", help="the cards say that they will be replaced")
    parser.add_argument("--out", type=Path, default=ZOO, help="folder; the package's zoo by default")
    options = parser.parse_args(arguments)
    try:
        make_all(options, LineProgress(Console(stderr=True, width=140)))
    except EdgesegError as error:
        sys.exit(f"make_zoo: error: {error}")


def make_all(options: argparse.Namespace, progress: Progress) -> None:
    """Every run that was named, or none."""
    runs = _by_model(options.runs)
    siblings = _by_model(options.dev_run)
    for name, run in siblings.items():
        if name not in runs:
            raise RequestError("a sibling of no run", value=f"{run}: {name}", allowed=", ".join(runs))
        split = table(read_toml(run / "config.toml"), "data").get("split")
        if split != "train-dev":
            raise RequestError("the sibling has learned from dev", value=f"{run}: {split}", allowed="split train-dev")
    splits = options.splits.split(",")
    for name, run in runs.items():
        if "dev" in splits and table(read_toml(run / "config.toml"), "data").get("split") == "train":
            raise RequestError("the run has learned from dev", value=f"{run}: {name}", fix="--dev-run RUN")
    corrupt = options.corrupt or ["all"]
    order = Order(
        data=options.data,
        splits=splits,
        siblings=siblings,
        corrupt=[] if corrupt == ["none"] else corrupt,
        notes=tuple(_note(text, runs) for text in options.note),
        stand_in=options.stand_in,
    )
    with tempfile.TemporaryDirectory(prefix="edgeseg-zoo-") as temporary:
        for name, run in runs.items():
            progress.say(f"{name}: from {run}")
            make(run, order, Path(temporary), progress)
        options.out.mkdir(parents=True, exist_ok=True)
        for name in runs:
            for suffix in SUFFIXES:
                shutil.copyfile(Path(temporary) / (name + suffix), options.out / (name + suffix))
                progress.say(f"wrote {options.out / (name + suffix)}")
    total_mb = sum(file.stat().st_size for file in options.out.iterdir() if file.is_file()) / 1e6
    progress.say(f"{total_mb:.1f} MB in {options.out}, of {LIMIT_MB} MB that the zoo may have")


def make(run: Path, order: Order, folder: Path, progress: Progress) -> None:
    """Export, calibrate, score FP32 and INT8, write the card; all files into `folder`."""
    config = read_toml(run / "config.toml")
    name = str(table(config, "model")["name"])
    model = folder / f"{name}.onnx"
    export_run(run, model, progress=progress)
    ranges, _ = calibrate_model(
        CalibrationRequest(model=str(model), frames=order.data), folder / f"{name}.ranges.json", progress
    )
    half = {key: value.half() for key, value in load_file(run / "weights.safetensors").items()}
    save_file(half, folder / f"{name}.safetensors")
    size = _label_size(order)
    request = BuildRequest(model=str(model), target="cpu", precision="int8", ranges=str(ranges), frame_size=size)
    bundle = build_bundle(request, folder / f"{name}-bundle", progress).bundle
    scores: dict[str, Evaluation] = {}
    for split in order.splits:
        for kind, path in (("FP32", model), ("INT8", bundle)):
            scores[f"{split} {kind}"] = _score(open_target(str(path), frame_size=size), order, split, progress)
    sibling = _sibling_scores(order, name, size, folder, scores, progress)
    conditions = evaluate_corrupted(
        open_target(str(model), frame_size=size),
        open_dataset(order.data, order.splits[0]),
        parse_conditions(order.corrupt),
        progress=progress,
    )
    card = Card(
        config=config,
        data=order.data.split(":")[0],
        network=summarise(model),
        scores=scores,
        before=_started_from(config),
        sibling=sibling,
        sibling_before=None if sibling is None else _started_from(sibling),
        conditions=conditions,
        clean=scores[f"{order.splits[0]} FP32"].miou,
        backend=json.loads((bundle / "manifest.json").read_text())["engine"]["backend"],
        notes=[text for which, text in order.notes if which in ("", name)],
        stand_in=order.stand_in,
    )
    (folder / f"{name}.md").write_text(write_card(card), encoding="utf-8")


def _sibling_scores(
    order: Order, name: str, size: Size, folder: Path, scores: dict[str, Evaluation], progress: Progress
) -> Tables | None:
    """Add the columns of the sibling that held dev out; its config, or None where there is none."""
    run = order.siblings.get(name)
    if run is None:
        return None
    model = folder / f"{name}-sibling.onnx"
    export_run(run, model, progress=progress)
    for split in ("dev", *order.splits):
        runner = open_target(str(model), frame_size=size)
        scores[f"{split}, sibling FP32"] = _score(runner, order, split, progress)
    return read_toml(run / "config.toml")


def _started_from(config: Tables) -> Tables | None:
    """The config of the run that a run's weights started from; None where it was none, or is no longer there."""
    file = Path(str(config.get("init") or "")) / "config.toml"
    return read_toml(file) if config.get("init") and file.is_file() else None


def _score(runner: Runner, order: Order, split: str, progress: Progress) -> Evaluation:
    return evaluate_runner(runner, open_dataset(order.data, split), progress=progress)


def _label_size(order: Order) -> Size:
    label_hw = open_dataset(order.data, order.splits[0])[0].label_hw
    return label_hw.shape[0], label_hw.shape[1]


def _by_model(runs: Sequence[Path]) -> dict[str, Path]:
    """Run folders by the model that they trained."""
    found: dict[str, Path] = {}
    for run in runs:
        name = str(table(read_toml(run / "config.toml"), "model").get("name"))
        if name in found:
            raise RequestError("two runs of one model", value=f"{found[name]}, {run}: {name}", allowed="one of each")
        found[name] = run
    return found


def _note(text: str, runs: dict[str, Path]) -> tuple[str, str]:
    """Which model a note is about (all where it names none), and what it says."""
    name, colon, rest = text.partition(":")
    return (name, rest.strip()) if colon and name in runs else ("", text)


if __name__ == "__main__":
    main()
