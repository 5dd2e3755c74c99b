"""Calibration recipes: which frames, how many, which method — a TOML file in `calibration/`.

description = "rendered street scenes"
frames = "street:seed=7,frames=96"     # a data specification, a source, or a path beside the recipe
count = 64
[method]
name = "mse"
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgeseg.core.config import load_config
from edgeseg.core.errors import RequestError
from edgeseg.core.workspace import find_recipe
from edgeseg.quant.thresholds import Method


class CalibrationRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """What a recipe says.

    Attributes:
        description: For people.
        frames: Data specification, source, or a path relative to the recipe's folder.
        count: Frames to measure, at most.
        method: How thresholds are chosen.
    """

    description: str = ""
    frames: str = ""
    count: int = 128
    method: Method = Method()


def load_recipe(name: str) -> CalibrationRecipe:
    """A recipe by name or path, its frames resolved.

    Raises:
        RequestError: No such recipe, an unknown key, or no frames named.
    """
    path = find_recipe("calibration", name)
    recipe = load_config(path, CalibrationRecipe)
    if not recipe.frames:
        raise RequestError("the calibration recipe names no frames", value=path, allowed='frames = "SRC"')
    return msgspec.structs.replace(recipe, frames=_beside(path, recipe.frames))


def _beside(recipe: Path, frames: str) -> str:
    """The path of frames that lie beside the recipe; anything else as it is."""
    scheme, colon, rest = frames.partition(":")
    if colon and (recipe.parent / rest).exists():
        return f"{scheme}:{recipe.parent / rest}"
    return str(recipe.parent / frames) if not colon and (recipe.parent / frames).exists() else frames
