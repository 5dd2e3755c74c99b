"""One training from request to finished run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from torch import nn

from edgeseg.core.artefacts import disk_errors, remove_unfinished
from edgeseg.core.config import save_config
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import RequestError, UnavailableError
from edgeseg.core.progress import Progress, Silent
from edgeseg.data import open_dataset
from edgeseg.model import build_model, load_encoder
from edgeseg.model.network import SegModel
from edgeseg.train.checkpoint import checkpoint_file, read_position
from edgeseg.train.config import RunConfig, TrainConfig
from edgeseg.train.corpus import Corpus, read_corpus
from edgeseg.train.distill import with_teacher
from edgeseg.train.loop import Trainer
from edgeseg.train.loss import class_weights
from edgeseg.train.parts import Parts
from edgeseg.train.record import write_done, write_frames
from edgeseg.train.request import TrainRequest, read_recipe, read_run_config, resolve
from edgeseg.train.start import load_matching, shift_heads
from edgeseg.train.supervised import supervised_parts
from edgeseg.train.world import World, check_batch, join_world


def train(request: TrainRequest, progress: Progress) -> Path:
    """Train, or go on with a broken run; see `edgeseg.train.train_model`."""
    with join_world(request.device) as world:
        display = progress if world.leads else Silent()
        device = pick_device(request.device, world)
        config = resumed_config(request) if request.resume else new_config(request)
        check_batch(world, config.train.batch)
        corpora = read_corpora(config, device, display)
        fresh = not checkpoint_file(request.out).is_file()
        model = start_model(config, device, display, fresh=fresh)
        if fresh and config.init:
            weights = class_weights(corpora[0].histogram(), config.loss.class_weights)
            if shift_heads(model, config, weights):
                display.say(f"the biases of its heads moved to loss.weight_shift {config.loss.weight_shift:g}")
        parts = _with_teacher(supervised_parts(config, corpora[0], corpora[1:], device), config, model, device)
        world.wait()  # all have seen that the folder is free before one makes it
        if world.leads:
            open_folder(request.out, config, corpora[1:])
        world.wait()
        train_parts(request.out, config, model, parts, display, world=world)
    return request.out


def train_parts(
    run: Path, config: RunConfig, model: nn.Module, parts: Parts, progress: Progress, *, world: World
) -> nn.Module:
    """Train a model on its parts in an open run folder, from its checkpoint where it has one; the averaged model."""
    device = next(model.parameters()).device

    def fitted(train: TrainConfig) -> None:
        save_config(run / "config.toml", msgspec.structs.replace(config, train=train))

    trainer = Trainer(run, config.train, model, parts, bf16=uses_bf16(config, device), world=world, fitted=fitted)
    if checkpoint_file(run).is_file():
        was = trainer.resume()
        if device.type == "cpu" and was.threads != torch.get_num_threads():
            now = torch.get_num_threads()
            progress.say(f"{now} threads, {was.threads} before: sums differ in their last bits (train.threads)")
    figures = trainer.run(progress)
    if world.leads:
        write_done(run, _summary(config, model, figures, trainer.epoch))
    return trainer.averaged


def pick_device(name: str, world: World | None = None) -> torch.device:
    """The torch device of `auto`, `cpu`, `cuda` or `cuda:N`; of several processes each takes its own GPU.

    Raises:
        RequestError: Another name.
        UnavailableError: A GPU is asked for and none is there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if name != "cpu" and (kind != "cuda" or (":" in name and not index.isdecimal())):
        raise RequestError("unknown device", value=name, allowed="allowed: auto, cpu, cuda, cuda:N")
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UnavailableError("torch finds no NVIDIA GPU", value=name, fix="edgeseg doctor, or --device cpu")
    if name == "cuda" and world is not None and world.size > 1:
        name = f"cuda:{world.local_rank}"
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    device = torch.device(name)
    if device.index is not None:
        # streams, and what is recorded on them, belong to the current GPU: a step on another one would run while it is
        # recorded and never again
        torch.cuda.set_device(device)
    return device


def uses_bf16(config: RunConfig, device: torch.device) -> bool:
    """Whether steps autocast to bfloat16."""
    if config.train.precision != "auto":
        return config.train.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool({"bf16", "amx_bf16"} & set(fingerprint().cpu_features))


def start_model(config: RunConfig, device: torch.device, progress: Progress, *, fresh: bool) -> SegModel:
    """The model of a run on its device: drawn from the seed, then filled from what a fresh run starts from."""
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    model = build_model(config.model, len(config.classes), seed=config.train.seed)
    if fresh and config.encoder_weights:
        load_encoder(model, config.encoder_weights)
    if fresh and config.init:
        load_matching(model, config.init, progress)
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    moved: SegModel = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    return moved


def read_corpora(config: RunConfig, device: torch.device, progress: Progress) -> list[Corpus]:
    """The training frames, then those of each validation split.

    Raises:
        RequestError: An unknown data set or split, or classes that are not the run's.
        DataError: Frames that cannot be used.
    """
    data = config.data
    wanted = [(data.train, data.split, "train"), *((data.val or data.train, name, name) for name in data.val_splits)]
    corpora = []
    for index, (spec, split, name) in enumerate(wanted):
        dataset = open_dataset(spec, split)
        if dataset.classes.names != config.classes.names:
            found = f"{spec}: {', '.join(dataset.classes.names)}"
            raise RequestError("two vocabularies", value=found, allowed=", ".join(config.classes.names))
        corpus = read_corpus(
            dataset,
            name,
            network_size=config.input.network_size,
            share=data.limit if index == 0 else 1.0,
            device=device,
            progress=progress,
        )
        corpora.append(corpus)
    return corpora


def open_folder(run: Path, config: RunConfig, splits: Sequence[Corpus]) -> None:
    """Make the run folder, or open it again: it is no longer complete until its last epoch is done.

    What a process that was killed had begun to write there is removed.
    """
    with disk_errors(run):
        run.mkdir(parents=True, exist_ok=True)
        for folder in (run, checkpoint_file(run).parent):
            remove_unfinished(folder)
        (run / "done.json").unlink(missing_ok=True)
    save_config(run / "config.toml", config)
    if splits:
        write_frames(run, splits[0])


def resumed_config(request: TrainRequest) -> RunConfig:
    """The configuration of a run to be gone on with; its folder is left as it is.

    Raises:
        RequestError: There is no such run, a change would make it another, or it is past the epochs asked for.
        VerifyError: Its checkpoint is truncated.
    """
    config = read_run_config(request)
    if not checkpoint_file(request.out).is_file():
        return config
    finished = read_position(request.out).epoch
    if not config.train.minutes and config.train.epochs < finished:
        raise RequestError("the run is past these epochs", value=config.train.epochs, allowed=f"{finished} or more")
    return config


def new_config(request: TrainRequest) -> RunConfig:
    """The resolved configuration of a new run on labelled frames."""
    recipe = read_recipe(request)
    dataset = open_dataset(recipe.data.train, recipe.data.split)
    first = dataset[0].label_hw
    return resolve(recipe, request, classes=dataset.classes, frame_size=(first.shape[0], first.shape[1]))


def _with_teacher(parts: Parts, config: RunConfig, model: SegModel, device: torch.device) -> Parts:
    if not config.teacher:
        return parts
    bf16 = uses_bf16(config, device)
    objective = with_teacher(parts.objective, model, Path(config.teacher), config, device, bf16=bf16)
    return Parts(parts.feed, objective, parts.judge, parts.wrap)


def _summary(config: RunConfig, model: nn.Module, figures: dict[str, object], epochs: int) -> dict[str, object]:
    scores: dict[str, dict[str, object]] = {}
    for name, value in figures.items():
        split, _, figure = name.partition("/")
        scores.setdefault(split, {})[figure] = value
    return {
        "model": config.model.name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epochs": epochs,
        "scores": scores,
    }
