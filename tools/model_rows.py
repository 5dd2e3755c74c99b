"""The rows of tools/compare_models.py: each model trained by the package's own loop under one recipe; resumable.

A peer is only another `nn.Module`: feed, loss, schedule, averaging, checkpoints and scores are `edgeseg.train`'s own.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
from peer_models import PEERS, PeerModel, build_peer, missing, peer_graph
from row_checks import begun, device_name, eager_where_compiling_fails, same_frames
from safetensors.torch import load_file
from torch import nn

from edgeseg.core import clock
from edgeseg.core.artefacts import write_bytes
from edgeseg.core.config import load_config
from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Progress
from edgeseg.core.types import Size, format_size
from edgeseg.data import open_dataset
from edgeseg.export.run import RunFacts, canonical_model
from edgeseg.graph import cost, fix_frame_size
from edgeseg.graph.costs import parameters
from edgeseg.model import ModelConfig
from edgeseg.model.network import SegModel
from edgeseg.train.config import RecipeConfig, RunConfig
from edgeseg.train.corpus import Corpus
from edgeseg.train.record import read_metrics
from edgeseg.train.request import Tables, TrainRequest, resolve
from edgeseg.train.run import open_folder, pick_device, read_corpora, start_model, train_parts
from edgeseg.train.supervised import supervised_parts
from edgeseg.train.validate import score
from edgeseg.train.world import World

OURS = ("edge-s", "edge-m", "edge-l")
FORMS = tuple(f"{name}-ln" for name in OURS)  # for their latency; trained only where --only names them

RECIPE: Mapping[str, Mapping[str, object]] = {
    "train": {
        "epochs": 20,
        "batch": 8,
        "lr": 0.003,
        "warmup_epochs": 1.0,
        "schedule": "trapezoid",  # finished rows can be lengthened, all alike: --epochs
        "ema_decay": 0.99,
        "seed": 1,
    },
    "data": {"split": "train-dev", "val_splits": ["dev", "val"]},
    "augment": {"crop": [192, 256], "class_mix": 0.25},
    "loss": {"lovasz": 0.5, "class_weights": "sqrt"},
    "model": {"aux_heads": 2},
}
"""Of every row; `[model]` is of ours alone. A peer's own auxiliary head is trained with the same weight."""


class SplitScore(msgspec.Struct, frozen=True, kw_only=True):
    """What one split scored, as `edgeseg.train.validate.Score`."""

    miou: float
    boundary_iou: float | None
    iou: dict[str, float | None]


class RowScore(msgspec.Struct, frozen=True, kw_only=True):
    """A trained row: `RUNS/NAME/scores-EPOCHS.json`.

    Attributes:
        rate: Peak learning rate that it was trained at.
        rates: mIoU on the deciding split of each rate that was tried, by rate.
        rate_epochs: Epochs of each trial.
        epochs: Passes over the frames.
        images: Images that it has seen, the trials not counted.
        seed: Of everything random.
        device: What trained it, and the torch release.
        splits: By name, the deciding one first.
    """

    rate: float
    rates: dict[str, float] = {}
    rate_epochs: int = 0
    epochs: int
    images: int
    seed: int
    device: str = ""
    splits: dict[str, SplitScore]


def mean_score(runs: Sequence[RowScore]) -> RowScore:
    """The mean over the seeds of a row, split by split and class by class; the first run's facts."""

    def mean(values: Sequence[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return statistics.fmean(there) if there else None

    splits = {}
    for split, first in runs[0].splits.items():
        found = [run.splits[split] for run in runs if split in run.splits]
        splits[split] = SplitScore(
            miou=statistics.fmean(one.miou for one in found),
            boundary_iou=mean([one.boundary_iou for one in found]),
            iou={label: mean([one.iou.get(label) for one in found]) for label in first.iou},
        )
    return msgspec.structs.replace(runs[0], splits=splits)


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a row costs, counted on its exported graph: weights after folding, multiply-adds of one frame."""

    parameters: int
    multiply_adds: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all rows have in common.

    Attributes:
        data: Data set specification.
        runs: Where the rows' folders lie.
        overrides: Fields over the recipe.
        names: Rows of the table.
        rates: Learning rates that each row tries; empty takes the recipe's.
        rate_epochs: Epochs of each trial.
        device: Where rows are trained and scored: `auto`, `cpu`, `cuda` or `cuda:N`.
        seeds: Further folders like `runs`, of the same recipe with another seed each.
        recipe: Of every row; the splits of its [data] are `RECIPE`'s where it names none.
    """

    data: str
    runs: Path
    overrides: Tables
    names: tuple[str, ...]
    rates: Sequence[float] = ()
    rate_epochs: int = 4
    device: str = "cpu"
    seeds: tuple[Path, ...] = ()
    recipe: Tables = field(default_factory=lambda: RECIPE)


class Rows:
    """Trains and opens rows; frames are read once for all of them.

    Several processes may train different rows under one folder.

    Args:
        plan: What they have in common.
        progress: Where the work is shown.
    """

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.plan = plan
        self._progress = progress
        self._device = pick_device(plan.device)
        self._spent: list[tuple[str, float, float]] = []  # row, share of its images and seconds of what was trained

    @functools.cached_property
    def corpora(self) -> list[Corpus]:
        """The training frames, then those of each scored split.

        Raises:
            RequestError: The rows under the folder have learned from other frames.
        """
        corpora = read_corpora(self.config(OURS[0]), self._device, self._progress)
        same_frames(self._frames_file, corpora)
        return corpora

    @functools.cached_property
    def _first(self) -> tuple[object, Size]:
        dataset = open_dataset(self.plan.data, str(self._recipe().data.split))
        label = dataset[0].label_hw
        return dataset.classes, (label.shape[0], label.shape[1])

    def config(self, name: str, **train: object) -> RunConfig:
        """The resolved configuration of a row, with single fields of [train] replaced."""
        classes, size = self._first
        own = name not in PEERS
        request = TrainRequest(out=self.folder(name), model=name if own else OURS[0])
        recipe = self._recipe(**train)
        config = resolve(recipe, request, classes=classes, frame_size=size)  # type: ignore[arg-type]
        # the loop asks the model table for its stride alone; a peer has no other field of it
        stand_in = ModelConfig(name=name, stem="patch2", widths=(1,) * 5, depths=(0,) * 5)
        return config if own else msgspec.structs.replace(config, model=stand_in)

    def _recipe(self, **train: object) -> RecipeConfig:
        tables = {name: dict(fields) for name, fields in self.plan.recipe.items()}
        tables["data"] = {**RECIPE["data"], **tables.get("data", {})}
        extra: Tables = {"train": train, "data": {"train": self.plan.data}}
        for source in (self.plan.overrides, extra):
            for table, fields in source.items():
                tables.setdefault(table, {}).update(fields)
        recipe = load_config(None, RecipeConfig, tables)
        if recipe.train.minutes:
            raise RequestError("rows have equal epochs, not equal times", value="train.minutes", fix="--epochs N")
        return recipe

    @property
    def names(self) -> list[str]:
        """Rows of the table that can be built here."""
        return [name for name in self.plan.names if name not in PEERS or not missing(name)]

    def folder(self, name: str) -> Path:
        """Where a row's runs, scores and graph lie."""
        return self.plan.runs / name

    # ------------------------------------------------------------ training

    def train(self, name: str) -> RowScore:
        """Train a row, or take what is there; the folder of a broken row is gone on with.

        Raises:
            RequestError: What lies there was trained under another recipe.
            UnavailableError: A peer's package is not installed.
        """
        rates = {rate: self._try(name, rate) for rate in self.plan.rates}
        best = max(rates, key=lambda rate: rates[rate]) if rates else None
        config = self.config(name, **({"lr": best} if best else {}))
        folder = self.folder(name) / "run"
        known = self.finished(name)
        if known is not None and self._complete(folder, config):
            return known
        model = self._run(name, folder, config)
        splits = {}
        with self._progress.task(f"score {name}", len(self.corpora) - 1) as task:
            for corpus in self.corpora[1:]:
                found = score(model, corpus, config.input, stride=config.model.stride, boundary=True)
                splits[corpus.name] = SplitScore(miou=found.miou, boundary_iou=found.boundary_iou, iou=found.iou)
                task.advance(note=f"{corpus.name} mIoU {found.miou:.3f}")
        result = RowScore(
            rate=config.train.lr,
            rates={f"{rate:g}": miou for rate, miou in rates.items()},
            rate_epochs=self.plan.rate_epochs if rates else 0,
            epochs=config.train.epochs,
            images=self._images(config),
            seed=config.train.seed,
            device=f"{device_name(self._device)}, torch {torch.__version__}",
            splits=splits,
        )
        write_bytes(self._scores(name), msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
        return result

    def finished(self, name: str) -> RowScore | None:
        """The scores of a row that is trained for the plan's epochs."""
        file = self._scores(name)
        return msgspec.json.decode(file.read_bytes(), type=RowScore) if file.is_file() else None

    def runs_of(self, name: str) -> list[RowScore]:
        """The scores of a row's finished runs, one a seed, the plan's own first."""
        files = [self._scores(name), *(folder / name / self._scores(name).name for folder in self.plan.seeds)]
        return [msgspec.json.decode(file.read_bytes(), type=RowScore) for file in files if file.is_file()]

    def check(self) -> None:
        """Hold the runs of all finished rows, further seeds included, against the recipe.

        Raises:
            RequestError: One was made under another recipe.
        """
        for name in self.names:
            found = self.finished(name)
            if found is not None:
                begun(self.folder(name) / "run", self.config(name, lr=found.rate), same_data=False)
            for folder in self.plan.seeds:
                file = folder / name / self._scores(name).name
                if file.is_file():
                    other = msgspec.json.decode(file.read_bytes(), type=RowScore)
                    config = self.config(name, lr=other.rate, seed=other.seed)
                    begun(folder / name / "run", config, same_data=False)

    def _scores(self, name: str) -> Path:
        # by the budget: while rows are being lengthened, the page of either budget compares like with like
        return self.folder(name) / f"scores-{self._recipe().train.epochs}.json"

    def _images(self, config: RunConfig) -> int:
        return len(self.corpora[0]) // config.train.batch * config.train.batch * config.train.epochs

    def _try(self, name: str, rate: float) -> float:
        """The mIoU on the deciding split after a short run at one learning rate."""
        folder = self.folder(name) / f"rate-{rate:g}"
        file = folder / "miou.json"
        if file.is_file():
            return msgspec.json.decode(file.read_bytes(), type=float)
        config = self.config(name, lr=rate, epochs=self.plan.rate_epochs)
        model = self._run(name, folder, config)
        miou = score(model, self.corpora[1], config.input, stride=config.model.stride).miou
        self._progress.say(f"{name} at a rate of {rate:g}: {miou:.3f} on {self.corpora[1].name}")
        write_bytes(file, msgspec.json.encode(miou))
        return miou

    def _run(self, name: str, folder: Path, config: RunConfig) -> nn.Module:
        """The averaged model of one run: trained, gone on with, or read where it is complete."""
        if self._complete(folder, config):
            return self._load(name, folder, config)
        config = msgspec.structs.replace(
            config, train=msgspec.structs.replace(config.train, validate_every=config.train.epochs)
        )
        model = self.new_model(name, config).to(self._device)
        parts = supervised_parts(config, self.corpora[0], (), self._device)  # scored once, when complete
        open_folder(folder, config, self.corpora[1:])
        lines = read_metrics(folder)
        left = config.train.epochs - (int(str(lines[-1]["epoch"])) if lines else 0)
        started_ns = clock.now_ns()
        with eager_where_compiling_fails(config.train.compile):
            averaged = train_parts(folder, config, model, parts, self._progress, world=World())
        spent_s = (clock.now_ns() - started_ns) / 1e9
        self._spent.append((name, left / config.train.epochs * self._images(config), spent_s))
        return averaged

    def _complete(self, folder: Path, config: RunConfig) -> bool:
        """Whether a run has all its epochs, under this recipe and from these frames.

        Raises:
            RequestError: It is a run of another recipe or of other frames.
        """
        known = self._frames_file.is_file()
        was = begun(folder, config, same_data=not known)
        if was and known:
            _ = self.corpora  # other frames are refused; a packed copy of the same will do
        return was == config.train.epochs and (folder / "done.json").is_file()

    @property
    def _frames_file(self) -> Path:
        return self.plan.runs / "frames.json"

    def _load(self, name: str, folder: Path, config: RunConfig) -> nn.Module:
        model = self.new_model(name, config)
        model.load_state_dict(load_file(folder / "weights.safetensors"))
        return model.to(self._device).eval()

    def seconds_left(self, names: Sequence[str]) -> float | None:
        """How long the rows named may still take, by multiply-adds and images, from those trained so far."""
        if not self._spent:
            return None
        work = sum(self.shape(name).multiply_adds * images for name, images, _ in self._spent)
        ahead = 0.0
        for name in names:
            config = self.config(name)
            epochs = config.train.epochs + len(self.plan.rates) * self.plan.rate_epochs
            ahead += self.shape(name).multiply_adds * self._images(config) * epochs / config.train.epochs
        return ahead * sum(seconds for *_, seconds in self._spent) / work

    # ------------------------------------------------------------ models and graphs

    def new_model(self, name: str, config: RunConfig) -> SegModel | PeerModel:
        """A row's network with its first weights, on the CPU."""
        if name not in PEERS:
            return start_model(config, torch.device("cpu"), self._progress, fresh=True)
        if config.train.threads:
            torch.set_num_threads(config.train.threads)
        return build_peer(name, len(config.classes), seed=config.train.seed)

    def open(self, name: str) -> tuple[SegModel | PeerModel, bool]:
        """A row's network in eval mode, and whether its weights are trained; untrained ones are its first."""
        found = self.finished(name)
        config = self.config(name, **({"lr": found.rate} if found else {}))
        model = self.new_model(name, config)
        weights = self.folder(name) / "run" / "weights.safetensors"
        trained = found is not None and weights.is_file()  # scores may have come from another machine without them
        if trained:
            model.load_state_dict(load_file(weights))
        return model.eval(), trained

    def graph(self, name: str, model: SegModel | PeerModel) -> onnx.ModelProto:
        """The full graph of a row at network size: uint8 NHWC in, argmax uint8 out."""
        config = self.config(name)
        size = config.input.network_size
        if isinstance(model, PeerModel):
            return peer_graph(name, model, config.input, config.classes, size)
        return fix_frame_size(canonical_model(model, config.input, config.classes, RunFacts()), size)

    def shape(self, name: str) -> Shape:
        """What a row costs; kept beside its runs."""
        config = self.config(name)
        file = self.folder(name) / f"shape-{format_size(config.input.network_size)}.json"
        if not file.is_file():
            graph = self.graph(name, self.new_model(name, config).eval())
            found = Shape(parameters=parameters(graph), multiply_adds=sum(layer.macs for layer in cost(graph)))
            write_bytes(file, msgspec.json.encode(found) + b"\n")
        return msgspec.json.decode(file.read_bytes(), type=Shape)


def spread_frames(rows: Rows, count: int) -> list[np.ndarray]:
    """Frames of the deciding split, evenly spaced: uint8 [H, W, 3] BGR at network size."""
    corpus = rows.corpora[1] if len(rows.corpora) > 1 else rows.corpora[0]
    places = np.unique(np.linspace(0, len(corpus) - 1, count, dtype=int))
    return [np.ascontiguousarray(corpus.images[int(i)].permute(1, 2, 0).cpu().numpy()[:, :, ::-1]) for i in places]
