"""What the rows of tools/compare_models.py are held against before a run is gone on with: its recipe, its frames."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import torch

from edgeseg.core.artefacts import sha256_bytes, write_bytes
from edgeseg.core.config import load_config, to_tables
from edgeseg.core.errors import RequestError
from edgeseg.train.config import RunConfig
from edgeseg.train.corpus import Corpus


def begun(folder: Path, config: RunConfig, *, same_data: bool) -> int:
    """How many epochs the run in a folder was to have; 0 where there is none. With a trapezoid they may grow.

    Args:
        folder: Of the run.
        config: What is asked for now.
        same_data: Whether its data set must have the same name too.

    Raises:
        RequestError: It is a run of another recipe.
    """
    file = folder / "config.toml"
    if not file.is_file():
        return 0
    found = load_config(file, RunConfig)
    grown = config.train.schedule == "trapezoid" and found.train.epochs < config.train.epochs
    was, now = (_plain(item, epochs=grown, named=same_data) for item in (found, config))
    for table in was.keys() | now.keys():
        if was.get(table) != now.get(table):
            raise RequestError(
                f"the run was made under another [{table}]",
                value=f"{folder}: {_differences(was.get(table), now.get(table))}",
                allowed="the recipe that it was begun with",
                fix="--runs ANOTHER_FOLDER",
            )
    return found.train.epochs


def _plain(config: RunConfig, *, epochs: bool, named: bool) -> dict[str, object]:
    """The tables without what may differ: how a run is carried out and when it is scored; more where asked for."""
    train = msgspec.structs.replace(config.train, threads=0, compile=False, cuda_graph=True)
    train = msgspec.structs.replace(train, validate_every=1, checkpoint_minutes=1.0)
    train = msgspec.structs.replace(train, epochs=1) if epochs else train
    data = config.data if named else msgspec.structs.replace(config.data, train="", val="")
    return to_tables(msgspec.structs.replace(config, train=train, data=data, version=""))


def _differences(was: object, now: object) -> str:
    if not isinstance(was, dict) or not isinstance(now, dict):
        return f"{was}, asked for {now}"
    names = [name for name in was.keys() | now.keys() if was.get(name) != now.get(name)]
    return ", ".join(f"{name} {was.get(name)}, asked for {now.get(name)}" for name in sorted(names))


def same_frames(file: Path, corpora: Sequence[Corpus]) -> None:
    """Hold the frames against those that all rows beside the file learn from, by names and labelled pixels.

    The pictures themselves are not compared: a packed data set has them as JPEG files.

    Raises:
        RequestError: They are others.
    """
    found: dict[str, str] = {}
    for corpus in corpora:
        lines = [f"{name} {pixels}" for name, pixels in zip(corpus.names, corpus.pixels.tolist(), strict=True)]
        found[corpus.name] = f"{len(corpus)} frames, {sha256_bytes(chr(10).join(lines).encode())[:16]}"
    if not file.is_file():
        write_bytes(file, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    was = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    if was != found:
        raise RequestError(
            "the rows under this folder learn from other frames",
            value=found,
            allowed=f"{was}",
            fix="--runs ANOTHER_FOLDER",
        )


def device_name(device: torch.device) -> str:
    """What a torch device is, as the page shows it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


@contextlib.contextmanager
def eager_where_compiling_fails(compiling: bool) -> Iterator[None]:
    """While it lasts, what torch.compile cannot take of a network of others runs uncompiled."""
    if not compiling:
        yield
        return
    import torch._dynamo

    config = torch._dynamo.config
    was = config.suppress_errors
    config.suppress_errors = True
    try:
        yield
    finally:
        config.suppress_errors = was
