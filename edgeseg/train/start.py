"""Where weights come from at the start: another run of the same family."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeseg.core.config import read_toml, unknown_name
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.core.progress import Progress
from edgeseg.core.workspace import is_zoo, zoo_file, zoo_names
from edgeseg.model.network import SegModel
from edgeseg.train.config import RunConfig


def load_matching(model: nn.Module, source: str, progress: Progress) -> int:
    """Take over every tensor of another run that has the same name and shape; the rest stays as initialised.

    Of a run without labels only stem and encoder are taken.

    Args:
        model: To be filled in place.
        source: A run folder, `zoo:NAME` or a safetensors file.
        progress: Told what was taken and what was not.

    Returns:
        Number of tensors taken.

    Raises:
        RequestError: There is no such run, or nothing of it fits.
        VerifyError: Its weights are truncated or foreign.
    """
    weights = _read(source)
    if _is_reconstruction(source):
        weights = {name: tensor for name, tensor in weights.items() if name.startswith(("stem.", "encoder."))}
    state = model.state_dict()
    taken = [name for name, tensor in state.items() if name in weights and weights[name].shape == tensor.shape]
    if not taken:
        raise RequestError("no weights of that run fit this model", value=source, allowed="a run of the same family")
    with torch.no_grad():
        for name in taken:
            state[name].copy_(weights[name])
    progress.say(f"{len(taken)} of {len(state)} tensors start from {source}")
    return len(taken)


def shift_heads(model: SegModel, config: RunConfig, weights: Tensor | None) -> bool:
    """Take off the heads' biases what the loss of a new run shows them beforehand and that of its source did not.

    With `z + a` before the loss of the source and `z + b` before that of this run, the same probabilities need the
    logits `z + a - b`.

    Args:
        model: Filled from `config.init`.
        config: Of the new run.
        weights: Of its classes, float32 [classes].

    Returns:
        Whether anything was to be taken off. Nothing is where the source is no run or was weighted otherwise.
    """
    file = Path(config.init).expanduser() / "config.toml"
    if weights is None or is_zoo(config.init) or not file.is_file():
        return False
    was = read_toml(file).get("loss", {})
    if not isinstance(was, dict) or was.get("class_weights", "none") != config.loss.class_weights:
        return False
    change = config.loss.weight_shift - float(was.get("weight_shift", 0.0))
    if change == 0:
        return False
    with torch.no_grad():
        for conv in (model.head.get_submodule("conv"), *model.aux.values()):
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            shift = (change * weights.log()).to(conv.bias.device)
            conv.bias -= shift.repeat_interleave(len(conv.bias) // len(shift))  # a shuffling head has several a class
    return True


def _is_reconstruction(source: str) -> bool:
    """Whether a run learned without labels: its decoder paints, so only its encoder is worth starting from."""
    file = Path(source).expanduser() / "config.toml"
    return file.is_file() and "pretrain" in read_toml(file)


def _read(source: str) -> dict[str, Tensor]:
    file = _locate(source)
    if not file.is_file():
        raise RequestError("there are no weights to start from", value=source, allowed="a run folder or zoo:NAME")
    try:
        weights: dict[str, Tensor] = load_file(str(file))
    except SafetensorError as error:
        raise VerifyError("the weights do not verify", value=f"{file}: {error}") from error
    return weights


def _locate(source: str) -> Path:
    if is_zoo(source):
        name = source.partition(":")[2]
        file = zoo_file(name, ".safetensors")
        if file is None:
            raise unknown_name("model of the zoo", name, zoo_names())
        return file
    path = Path(source).expanduser()
    return path / "weights.safetensors" if path.is_dir() else path
