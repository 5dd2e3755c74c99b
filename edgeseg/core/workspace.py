"""Where things are found and where they land: recipes, zoo models, bundles, ranges, the cache.

Recipes are looked up by name in three places, the first that has it wins:

1. the workspace: `./calibration` and `./engines/targets` of the current folder;
2. the copy inside an installed wheel: `edgeseg/_workspace/…`;
3. the checkout that an editable install points to.

Results land in `./calibration` and `./engines` of the current folder unless `--out` says otherwise.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from edgeseg.core import clock
from edgeseg.core.artefacts import disk_errors
from edgeseg.core.config import unknown_name
from edgeseg.core.errors import EdgesegError, RequestError

Kind = Literal["calibration", "targets"]
ZOO_PREFIX = "zoo:"
_FOLDERS: dict[Kind, str] = {"calibration": "calibration", "targets": "engines/targets"}
_PACKAGE = Path(__file__).resolve().parent.parent


def recipe_folders(kind: Kind) -> list[Path]:
    """Folders that are searched for recipes of a kind, in order; those that exist."""
    relative = _FOLDERS[kind]
    places = [Path.cwd() / relative, _PACKAGE / "_workspace" / relative, _PACKAGE.parent / relative]
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def recipe_names(kind: Kind) -> list[str]:
    """Names of all recipes of a kind that can be found."""
    return sorted({file.stem for folder in recipe_folders(kind) for file in folder.glob("*.toml")})


def find_recipe(kind: Kind, name: str) -> Path:
    """The TOML file of a recipe: a path to a file is taken as it is, a name is looked up.

    Raises:
        RequestError: No such recipe; names those that exist.
    """
    if name.endswith(".toml") and Path(name).is_file():
        return Path(name)
    for folder in recipe_folders(kind):
        file = folder / f"{name}.toml"
        if file.is_file():
            return file
    what = "calibration recipe" if kind == "calibration" else "target"
    raise unknown_name(what, name, recipe_names(kind))


def output_path(kind: Literal["calibration", "engines"], name: str) -> Path:
    """Where a result lands without `--out`: `./calibration/NAME` or `./engines/NAME`."""
    return Path.cwd() / kind / name


def zoo_names() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(file.stem for file in (_PACKAGE / "zoo").glob("*.onnx"))


def zoo_file(name: str, suffix: str) -> Path | None:
    """A file of a zoo model, for example `zoo_file("edge-s", ".ranges.json")`; None where it has none."""
    file = _PACKAGE / "zoo" / (name + suffix)
    return file if file.is_file() else None


def is_zoo(reference: str) -> bool:
    """Whether a reference names a zoo model."""
    return reference.startswith(ZOO_PREFIX)


def resolve_model(reference: str) -> Path:
    """The file or folder that `zoo:NAME` or a path means.

    Raises:
        RequestError: An unknown zoo name, or a path that does not exist.
    """
    if is_zoo(reference):
        name = reference[len(ZOO_PREFIX) :]
        file = zoo_file(name, ".onnx")
        if file is None:
            raise unknown_name("zoo model", name, zoo_names())
        return file
    path = Path(reference)
    if not path.exists():
        raise RequestError("the path does not exist", value=reference, allowed="a file, a folder or zoo:NAME")
    return path


def shipped_ranges(reference: str) -> Path | None:
    """The range file that a model ships beside itself (every zoo model does): NAME.ranges.json beside NAME.onnx."""
    path = resolve_model(reference)
    beside = path.with_name(path.stem + ".ranges.json")
    return beside if beside.is_file() else None


def cache_dir() -> Path:
    """The folder of what this machine learnt: $EDGESEG_CACHE, else $XDG_CACHE_HOME/edgeseg, else ~/.cache/edgeseg."""
    own = os.environ.get("EDGESEG_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgeseg"


@contextmanager
def lock(path: Path, *, timeout_s: float = 600.0) -> Iterator[None]:
    """Hold the lock file `path` against other processes.

    Raises:
        EdgesegError: Another process held it for `timeout_s`.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    with file:
        deadline_ns = clock.now_ns() + int(timeout_s * 1e9)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.now_ns() > deadline_ns:
                    raise EdgesegError(
                        "another process holds the lock",
                        value=path,
                        allowed=f"waited {timeout_s:.0f} s",
                        fix=f"fuser {path}",
                    ) from None
                clock.sleep_ms(50)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
