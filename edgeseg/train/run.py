"""One training from request to finished run folder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from edgeseg.core.artefacts import disk_errors
from edgeseg.core.config import save_config
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import RequestError, UnavailableError
from edgeseg.core.progress import Progress
from edgeseg.data import open_dataset
from edgeseg.model import build_model
from edgeseg.train.checkpoint import checkpoint_file
from edgeseg.train.config import DataConfig, RunConfig
from edgeseg.train.corpus import Corpus, read_corpus
from edgeseg.train.loop import Trainer
from edgeseg.train.record import write_done, write_frames
from edgeseg.train.request import TrainRequest, read_recipe, read_run_config, resolve
from edgeseg.train.start import load_matching
from edgeseg.train.validate import Score


def train(request: TrainRequest, progress: Progress) -> Path:
    """Train, or go on with a broken run; see `edgeseg.train.train_model`."""
    device = pick_device(request.device)
    config, corpora = _resumed(request, device, progress) if request.resume else _new(request, device, progress)
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    model = build_model(config.model, len(config.classes), seed=config.train.seed)
    if config.init and not request.resume:
        load_matching(model, config.init, progress)
    _open_folder(request.out, config, corpora)
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    model = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    trainer = Trainer(request.out, config, model, corpora[0], corpora[1:], bf16=uses_bf16(config, device))
    if checkpoint_file(request.out).is_file():
        trainer.resume()
    scores = trainer.run(progress)
    write_done(request.out, _summary(config, model, scores))
    return request.out


def pick_device(name: str) -> torch.device:
    """The torch device of `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        RequestError: Another name.
        UnavailableError: A GPU is asked for and none is there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and name.split(":")[0] != "cuda":
        raise RequestError("unknown device", value=name, allowed="allowed: auto, cpu, cuda, cuda:N")
    if name != "cpu" and not torch.cuda.is_available():
        raise UnavailableError("torch finds no NVIDIA GPU", value=name, fix="edgeseg doctor, or --device cpu")
    return torch.device(name)


def uses_bf16(config: RunConfig, device: torch.device) -> bool:
    """Whether steps autocast to bfloat16."""
    if config.train.precision != "auto":
        return config.train.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool({"bf16", "amx_bf16"} & set(fingerprint().cpu_features))


def _new(request: TrainRequest, device: torch.device, progress: Progress) -> tuple[RunConfig, list[Corpus]]:
    recipe = read_recipe(request)
    dataset = open_dataset(recipe.data.train, recipe.data.split)
    first = dataset[0].label_hw
    config = resolve(
        recipe,
        model=request.model,
        init=request.init,
        classes=dataset.classes,
        frame_size=(first.shape[0], first.shape[1]),
    )
    return config, read_corpora(config, device, progress)


def _resumed(request: TrainRequest, device: torch.device, progress: Progress) -> tuple[RunConfig, list[Corpus]]:
    config = read_run_config(request)
    return config, read_corpora(config, device, progress)


def _open_folder(run: Path, config: RunConfig, corpora: list[Corpus]) -> None:
    """Make the run folder, or open it again: it is no longer complete until its last epoch is done."""
    with disk_errors(run):
        run.mkdir(parents=True, exist_ok=True)
        (run / "done.json").unlink(missing_ok=True)
    save_config(run / "config.toml", config)
    if len(corpora) > 1:
        write_frames(run, corpora[1])


def read_corpora(config: RunConfig, device: torch.device, progress: Progress) -> list[Corpus]:
    """The training frames, then those of each validation split.

    Raises:
        RequestError: An unknown data set or split, or classes that are not the run's.
        DataError: Frames that cannot be used.
    """
    data: DataConfig = config.data
    wanted = [(data.train, data.split, "train"), *((data.val or data.train, name, name) for name in data.val_splits)]
    corpora = []
    for index, (spec, split, name) in enumerate(wanted):
        dataset = open_dataset(spec, split)
        if dataset.classes.names != config.classes.names:
            raise RequestError(
                "two vocabularies", value=f"{spec}: {', '.join(dataset.classes.names)}",
                allowed=", ".join(config.classes.names),
            )  # fmt: skip
        corpora.append(
            read_corpus(
                dataset,
                name,
                network_size=config.input.network_size,
                share=data.limit if index == 0 else 1.0,
                device=device,
                progress=progress,
            )
        )
    return corpora


def _summary(config: RunConfig, model: nn.Module, scores: dict[str, Score]) -> dict[str, object]:
    return {
        "model": config.model.name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epochs": config.train.epochs,
        "scores": {
            name: {"miou": found.miou, "pixel_accuracy": found.pixel_accuracy, "iou": found.iou}
            for name, found in scores.items()
        },
    }
