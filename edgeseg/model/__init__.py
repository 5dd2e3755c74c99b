"""Networks: what shapes them, how they are built, and a trained run as a Runner.

The door is light: torch is imported by the functions, after `require` has said what is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.core.deps import require
from edgeseg.core.types import Runner, Size
from edgeseg.model.config import InputConfig, ModelConfig
from edgeseg.model.presets import preset, preset_names

if TYPE_CHECKING:
    from edgeseg.model.network import SegModel
    from edgeseg.model.run import LoadedRun

__all__ = ["InputConfig", "ModelConfig", "build_model", "load_run", "open_run", "preset", "preset_names"]


def build_model(config: ModelConfig, num_classes: int, *, seed: int = 0) -> SegModel:
    """A network with deterministic first weights; see `network.build_model`."""
    require("torch", what="building a network")
    from edgeseg.model import network

    return network.build_model(config, num_classes, seed=seed)


def load_run(run: Path) -> LoadedRun:
    """The trained network of a RUN folder, in eval mode; see `run.load_run`."""
    require("torch", "safetensors", what=f"opening the run {run}")
    from edgeseg.model import run as runs

    return runs.load_run(run)


def open_run(run: Path, frame_size: Size | None = None) -> Runner:
    """A RUN folder as a Runner in torch; see `run.open_run`."""
    require("torch", "safetensors", what=f"opening the run {run}")
    from edgeseg.model import run as runs

    return runs.open_run(run, frame_size)
