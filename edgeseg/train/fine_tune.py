"""Quantisation-aware training: a finished run's exported graph learns on with the roundings of its integer engine.

The graph is the one that `edgeseg export` wrote into the run, so places and names are the engine's own; the result is
the same graph with other constants, and its ranges.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import onnx
import torch
from torch import Tensor, nn

from edgeseg.core.config import load_config
from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Progress
from edgeseg.graph import load_model, read_meta, save_model, weights_sha256
from edgeseg.graph.ir import from_model
from edgeseg.graph.qdq import QdqPlan
from edgeseg.model import InputConfig
from edgeseg.quant import load_ranges, save_ranges
from edgeseg.quant.equalise import with_factors
from edgeseg.quant.placement import get_placement, learnt_ranges, plan
from edgeseg.train.config import QatConfig, RunConfig
from edgeseg.train.qat import GraphNet
from edgeseg.train.request import Tables, TrainRequest, check_free
from edgeseg.train.run import open_folder, pick_device, read_corpora, resumed_config, train_parts
from edgeseg.train.supervised import supervised_parts
from edgeseg.train.world import World, world_size

MODEL_FILE = "model.onnx"
RANGES_FILE = "model.ranges.json"
# a finished network is only moved as far as the roundings ask for; the weights are clipped by their own largest value
_DEFAULTS: Tables = {
    "train": {
        "epochs": 5,
        "lr": 1e-4,
        "weight_decay": 0.0,
        "warmup_epochs": 0.5,
        "schedule": "cosine",
        "ema_decay": 0.99,
        "precision": "fp32",
        "compile": False,  # a graph is run node by node, which torch.compile cannot follow
        "cuda_graph": False,  # the graph's constants are brought to the device in each step, which cannot be recorded
        "validate_every": 1,
    },
    "loss": {"label_smoothing": 0.0},
}


def fine_tune(request: TrainRequest, progress: Progress) -> Path:
    """Fine-tune the run `request.qat`; see `edgeseg.train.train_model`."""
    if world_size() > 1:
        raise RequestError("--qat runs in one process", value=f"{world_size()} of them", fix="edgeseg train --qat …")
    device = pick_device(request.device)
    config = resumed_config(request) if request.resume else _new_config(request)
    if config.qat is None:
        raise RequestError("the run did not begin with --qat", value=request.out, allowed="--resume without --qat")
    if config.train.compile:
        raise RequestError("what --qat trains cannot be compiled", value="train.compile=true", allowed="false")
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    model = _model(config.qat)
    net = PixelNet(_net(model, config.qat), config.input).to(device)
    corpora = read_corpora(config, device, progress)
    open_folder(request.out, config, corpora[1:])
    parts = supervised_parts(config, corpora[0], corpora[1:], device)
    trained = train_parts(request.out, config, net, parts, progress, world=World())
    assert isinstance(trained, PixelNet)
    _write(request.out, trained.net.cpu(), config.qat)
    return request.out


class PixelNet(nn.Module):
    """A canonical graph that is fed as the run's network was: normalised RGB instead of BGR pixels.

    Args:
        net: Takes BGR pixels, 0 to 255.
        config: The normalisation to undo.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: GraphNet, config: InputConfig) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(config.mean_rgb)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(config.std_rgb)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, C, H, W] of normalised RGB [N, 3, H, W]."""
        logits: Tensor = self.net((x * self.std + self.mean).flip(1))
        return logits


def _new_config(request: TrainRequest) -> RunConfig:
    check_free(request.out)
    run = Path(request.qat)
    if request.config is not None or request.model or request.init or request.teacher or request.encoder_weights:
        raise RequestError(
            "fine-tuning takes model and recipe from its run", value=run, allowed="--set and --data beside it"
        )
    if not (run / "config.toml").is_file():
        raise RequestError("there is no run to fine-tune", value=run, allowed="a run folder")
    if not (run / MODEL_FILE).is_file():
        raise RequestError("the run is not exported", value=run, fix=f"edgeseg export {run} --out {run / MODEL_FILE}")
    if not request.ranges:
        raise RequestError("no ranges are named", allowed="--ranges R", fix=f"edgeseg calibrate {run / MODEL_FILE} …")
    overrides = {
        name: {**_DEFAULTS.get(name, {}), **request.overrides.get(name, {})}
        for name in {*_DEFAULTS, *request.overrides}
    }
    overrides["qat"] = {"model": str(run / MODEL_FILE), "ranges": request.ranges, **request.overrides.get("qat", {})}
    config = load_config(run / "config.toml", RunConfig, overrides)
    assert config.qat is not None
    load_ranges(Path(request.ranges), weights_sha256=weights_sha256(load_model(run / MODEL_FILE)))
    return config


def _net(model: onnx.ModelProto, config: QatConfig) -> GraphNet:
    if config.placement == "none":
        return GraphNet(model)
    chosen = _plan(model, config)
    return GraphNet(model, chosen, placement=config.placement, learn_scales=config.learn_scales)


def _model(config: QatConfig) -> onnx.ModelProto:
    """The canonical graph, for integers with the channels that the ranges were measured with."""
    model = load_model(Path(config.model))
    factors = load_ranges(Path(config.ranges)).factors() if config.placement != "none" else {}
    return with_factors(model, factors) if factors else model


def _plan(model: onnx.ModelProto, config: QatConfig) -> QdqPlan:
    return plan(from_model(model), load_ranges(Path(config.ranges)), get_placement(config.placement))


def _write(run: Path, net: GraphNet, config: QatConfig) -> None:
    """The graph, and the ranges it was trained with under its new weights: together they are what `build` takes.

    A graph that was fine-tuned in float has no ranges yet: `edgeseg calibrate` measures them.
    """
    model = net.to_onnx()
    save_model(run / MODEL_FILE, model)
    if config.placement == "none":
        return
    ranges = learnt_ranges(load_ranges(Path(config.ranges)), from_model(model), net.learnt_scales())
    # the factors are in the weights now
    sealed = msgspec.structs.replace(ranges, weights_sha256=read_meta(model).weights_sha256, equalisation={})
    save_ranges(run / RANGES_FILE, sealed)
