"""The state of an unfinished run: one safetensors file, replaced by a rename, never pickled.

Model, averaged weights and optimiser tensors lie side by side under prefixes; position, losses so far and the seed are
JSON in the file's header. One file and one rename, so a process killed at any moment leaves either the old
checkpoint or the new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgeseg.core.artefacts import atomic_file
from edgeseg.core.errors import RequestError, VerifyError

_KEY = "edgeseg.position"


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands. Every random number follows from this and the seed, so no generator's state is kept.

    Attributes:
        seed: Of the run.
        epoch: Epoch under way, from 0; equal to the number of finished ones.
        step: Finished steps of that epoch.
        loss_sum: Sum of their losses.
        threads: CPU threads; sums in another number of parts differ in their last bits.
    """

    seed: int
    epoch: int
    step: int
    loss_sum: float
    threads: int


@dataclass(frozen=True)
class State:
    """The tensors of a run: what `save` writes and `load` fills in place."""

    model: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor]
    optimiser: torch.optim.Optimizer


def checkpoint_file(run: Path) -> Path:
    """The checkpoint of a run folder."""
    return run / "checkpoint" / "state.safetensors"


def save(run: Path, state: State, position: Position) -> None:
    """Write the checkpoint of `run`, replacing the last one.

    Raises:
        DataError: The disk is full.
    """
    tensors = {f"model.{name}": tensor for name, tensor in state.model.items()}
    tensors |= {f"averaged.{name}": tensor for name, tensor in state.averaged.items()}
    tensors |= {f"optimiser.{name}": tensor for name, tensor in _optimiser_tensors(state.optimiser)}
    write_tensors(checkpoint_file(run), tensors, {_KEY: msgspec.json.encode(position).decode()})


def load(run: Path, state: State) -> Position:
    """Fill `state` from the checkpoint of `run`.

    Raises:
        RequestError: There is none.
        VerifyError: It is truncated, or of another model.
    """
    file = checkpoint_file(run)
    with _opened(file) as (archive, position):
        _fill(state.model, "model.", archive, file)
        _fill(state.averaged, "averaged.", archive, file)
        _fill_optimiser(state.optimiser, archive, file)
    return position


def read_position(run: Path) -> Position:
    """Where the checkpoint of `run` stands.

    Raises:
        RequestError: There is none.
        VerifyError: It is truncated.
    """
    with _opened(checkpoint_file(run)) as (_, position):
        return position


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Any, Position]]:
    if not file.is_file():
        raise RequestError("there is no checkpoint to resume from", value=file, fix="the same command without --resume")
    try:
        with safe_open(str(file), "pt") as archive:
            yield archive, msgspec.json.decode((archive.metadata() or {}).get(_KEY, "{}"), type=Position)
    except (SafetensorError, msgspec.DecodeError) as error:
        raise VerifyError("the checkpoint does not verify", value=f"{file}: {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically, in the plain (contiguous) memory order."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as temporary:
        save_file(plain, str(temporary), dict(metadata or {}))


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for index, parameter in enumerate(_parameters(optimiser)):
        for key, value in optimiser.state[parameter].items():
            yield f"{index}.{key}", value


def _fill_optimiser(optimiser: torch.optim.Optimizer, archive: Any, file: Path) -> None:
    parameters = list(_parameters(optimiser))
    stored = {int(name.split(".", 2)[1]) for name in archive.keys() if name.startswith("optimiser.")}  # noqa: SIM118
    if stored - set(range(len(parameters))):
        raise VerifyError(
            "the checkpoint is of a version in which other tensors learned",
            value=f"{file}: {max(stored) + 1} tensors",
            allowed=f"{len(parameters)}",
            fix="--init RUN in a new run starts from its weights",
        )
    for name in archive.keys():  # noqa: SIM118 - not a mapping
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            parameter = parameters[int(index)]
            value = archive.get_tensor(name)
            if key != "step":
                _same_shape(value, parameter, name, file)
                # the moments keep the memory order of their parameter: the fused step walks both together
                value = torch.empty_like(parameter).copy_(value)
            optimiser.state[parameter][key] = value.to(parameter.device)


def _parameters(optimiser: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimiser.param_groups:
        yield from group["params"]


@torch.no_grad()
def _fill(target: Mapping[str, Tensor], prefix: str, archive: Any, file: Path) -> None:
    for name, tensor in target.items():
        value = archive.get_tensor(prefix + name)
        _same_shape(value, tensor, name, file)
        tensor.copy_(value)


def _same_shape(value: Tensor, tensor: Tensor, name: str, file: Path) -> None:
    if value.shape != tensor.shape:
        raise VerifyError(
            "the checkpoint is of another model",
            value=f"{file}: {name} is {list(value.shape)}",
            allowed=f"{list(tensor.shape)}",
        )
