"""Weights on disk: safetensors, never pickle."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgeseg.core.artefacts import atomic_file
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.model.network import SegModel


def save_weights(path: Path, model: SegModel) -> None:
    """Write the state of `model` as safetensors, atomically; the names are those of its `state_dict`."""
    state = {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}
    with atomic_file(path) as temporary:
        save_file(state, temporary)


def load_weights(path: Path, model: SegModel) -> None:
    """Read a state that `save_weights` wrote into `model`; every name and shape must match.

    Floating-point tensors may be stored narrower (fp16), and are widened.

    Raises:
        RequestError: There is no such file.
        VerifyError: Not safetensors, truncated, or of another network; names the first tensor that differs.
    """
    state = read_tensors(path)
    expected = model.state_dict()
    odd = sorted(state.keys() ^ expected.keys())
    if odd:
        kind = "misses" if odd[0] in expected else "has an unknown"
        raise VerifyError(f"the weights are of another network: the file {kind} tensor {odd[0]}", value=path)
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise VerifyError(
                "the weights are of another network",
                value=f"{name} is {list(state[name].shape)} in {path}",
                allowed=f"{list(tensor.shape)}",
            )
    model.load_state_dict(state)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        RequestError: There is no such file.
        VerifyError: Truncated, or not safetensors.
    """
    if not path.is_file():
        raise RequestError("the weights file does not exist", value=path, allowed="a .safetensors file")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise VerifyError("the weights cannot be read", value=f"{path}: {error}", allowed="safetensors") from error
    return tensors
