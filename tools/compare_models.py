"""Our presets beside others' networks: trained by one recipe, timed in one interleaved run, written to docs/models.md.

    python tools/compare_models.py --data camvid:PATH --runs DIR --out docs/models.md

Peers: segmentation_models.pytorch's U-Net (`pip install segmentation-models-pytorch`), and Ultralytics' YOLO26n-sem
where you have installed that package by hand: it is under AGPL-3.0, and edgeseg neither needs nor imports it. A peer
whose package is missing is shown as such. Rows that are finished under --runs are not trained again, a broken one
goes on where it was; the page may be written at any time and says what was not run yet. Several processes may train
different rows under one --runs, and on another machine: the folder may be copied, and --data may be a packed copy of
the same frames. Weights may then be missing; the row is timed with its first ones.

Four stages, all of them by default: `train` (the rows of --only, or all but the -ln forms), `build` (engines of --rows,
held against torch; their weights need not be trained for it), `latency` (all of them in turns: this one alone wants a
machine that does nothing else), `page`.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from model_engines import prepare
from model_latency import last, measure
from model_page import write_page
from model_rows import FORMS, OURS, RECIPE, Plan, Rows
from peer_models import PEERS, missing
from rich.console import Console

from edgeseg.cli.progress import LineProgress
from edgeseg.cli.ui import parse_size
from edgeseg.core.config import load_config, read_toml, unknown_name
from edgeseg.core.errors import EdgesegError, RequestError
from edgeseg.core.progress import Progress
from edgeseg.train.config import RecipeConfig
from edgeseg.train.overrides import parse_overrides
from edgeseg.train.request import Tables

STAGES = ("train", "build", "latency", "page")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, time, write."""
    options = _parser().parse_args(arguments)
    logging.getLogger("ultralytics").setLevel(logging.WARNING)
    try:
        run(options, LineProgress(Console(stderr=True, width=140)))
    except EdgesegError as error:
        sys.exit(f"compare_models: error: {error}")


def run(options: argparse.Namespace, progress: Progress) -> None:
    """The stages that were asked for."""
    rows = Rows(plan_of(options), progress)
    if "train" in options.stages:
        names = _known(options.only) or [name for name in rows.plan.names if name not in FORMS]
        train(rows, [name for name in names if _here(name, progress)], progress)
    if "build" in options.stages:
        prepare(rows, options.engine_threads, progress)
    if "latency" in options.stages:
        torch.set_num_threads(1)
        measure(
            rows,
            seconds=options.seconds,
            threads=options.engine_threads,
            busy=options.machine,
            progress=progress,
        )
    if "page" in options.stages:
        rows.check()
        for file in write_page(options.out, rows, last(rows), command_of(options), options.note, options.noise):
            progress.say(f"wrote {file}")


def train(rows: Rows, names: Sequence[str], progress: Progress) -> None:
    """Train row after row, and say how long the others may take."""
    for place, name in enumerate(names):
        left = rows.seconds_left(names[place:])
        about = f", about {left / 60:.0f} min for it and what is left" if left else ""
        progress.say(f"{name}: row {place + 1} of {len(names)}{about}")
        found = rows.train(name)
        scored = ", ".join(f"{split} {score.miou:.3f}" for split, score in found.splits.items())
        progress.say(f"{name}: {scored} at a rate of {found.rate:g}")


def plan_of(options: argparse.Namespace) -> Plan:
    """What all rows have in common."""
    named = {
        "train.epochs": options.epochs,
        "train.batch": options.batch,
        "train.compile": options.compile or None,
        "train.threads": options.threads,
        "train.seed": options.seed,
        "augment.crop": list(parse_size(options.crop)) if options.crop else None,
    }
    overrides = parse_overrides(options.set, {name: value for name, value in named.items() if value is not None})
    rates = tuple(float(rate) for rate in options.rates.split(",") if rate)
    names = _known(options.rows) or [*OURS, *FORMS, *PEERS]
    for folder in options.seeds_from:
        if not folder.is_dir():
            raise RequestError("there are no runs of another seed", value=folder, allowed="a folder given as --runs")
    return Plan(
        data=options.data,
        runs=options.runs,
        overrides=overrides,
        names=tuple(names),
        rates=rates,
        rate_epochs=options.rate_epochs,
        device=options.device if "train" in options.stages else "cpu",
        seeds=tuple(options.seeds_from),
        recipe=_recipe(options.config) if options.config else RECIPE,
    )


def _recipe(file: Path) -> Tables:
    load_config(file, RecipeConfig)  # refuses what is no recipe
    return {name: fields for name, fields in read_toml(file).items() if isinstance(fields, dict)}


def command_of(options: argparse.Namespace) -> str:
    """The command line that trains, times and writes all of it again, without a path of this machine."""
    kind = options.data.partition(":")[0]
    parts = ["python", "tools/compare_models.py", "--data", options.data if kind == "street" else f"{kind}:PATH"]
    parts += ["--runs", "DIR"]
    parts += ["--config", options.config.as_posix()] if options.config else []
    named = ("epochs", "batch", "crop", "seed", "threads", "rates")
    parts += [text for name in named if getattr(options, name) for text in (f"--{name}", str(getattr(options, name)))]
    parts += ["--device", options.device] if options.device != "cpu" else []
    parts += ["--compile"] if options.compile else []
    if options.rates:
        parts += ["--rate-epochs", str(options.rate_epochs)]
    parts += [text for value in options.set for text in ("--set", value)]
    return " ".join(f'"{part}"' if "'" in part else shlex.quote(part) for part in parts)


def _known(names: Sequence[str]) -> list[str]:
    known = [*OURS, *FORMS, *PEERS]
    for name in names:
        if name not in known:
            raise unknown_name("row", name, known)
    return list(names)


def _here(name: str, progress: Progress) -> bool:
    reason = missing(name) if name in PEERS else ""
    if reason:
        progress.say(f"{name}: left out, {reason}")
    return not reason


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="camvid:PATH, folder:PATH, street:…")
    parser.add_argument("--runs", type=Path, default=Path("runs/models"), help="where the rows' runs lie")
    parser.add_argument("--out", type=Path, default=Path("docs/models.md"))
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="rows to train")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="rows of the table; all by default")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--config", type=Path, help="recipe as TOML, as of edgeseg train, in place of the tool's own")
    parser.add_argument("--epochs", type=int, help="of each row")
    parser.add_argument("--batch", type=int, help="frames in a step")
    parser.add_argument("--crop", help="HEIGHTxWIDTH of the training crops")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--seeds-from", type=Path, nargs="+", default=[], metavar="DIR", help="page: --runs of other seeds, for means"
    )
    parser.add_argument("--threads", type=int, help="CPU threads of the training")
    parser.add_argument("--device", default="cpu", help="where rows are trained and scored: auto, cpu, cuda, cuda:N")
    parser.add_argument("--compile", action="store_true", help="torch.compile; what it cannot take runs uncompiled")
    parser.add_argument("--rates", default="", help="learning rates that every row tries, for example 0.0015,0.004")
    parser.add_argument("--rate-epochs", type=int, default=4, help="epochs of each trial")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.FIELD=VALUE", help="another field")
    parser.add_argument("--seconds", type=float, default=120.0, help="of the interleaved run")
    parser.add_argument("--engine-threads", type=int, default=2)
    parser.add_argument("--machine", default="other work not excluded", help="what else the machine does, for the page")
    parser.add_argument("--noise", type=float, default=0.0, help="points of mIoU that two seeds may differ by")
    parser.add_argument("--note", action="append", default=[], help="a further line of the page")
    return parser


if __name__ == "__main__":
    main()
