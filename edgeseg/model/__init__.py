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
    from edgeseg.model.summary import NetworkSummary

__all__ = [
    "InputConfig",
    "ModelConfig",
    "build_model",
    "describe",
    "load_encoder",
    "load_run",
    "open_run",
    "preset",
    "preset_names",
]


def build_model(config: ModelConfig, num_classes: int, *, seed: int = 0) -> SegModel:
    """A network with deterministic first weights; see `network.build_model`."""
    require("torch", what="building a network")
    from edgeseg.model import network

    return network.build_model(config, num_classes, seed=seed)


def describe(config: ModelConfig, num_classes: int, size: Size) -> NetworkSummary:
    """Parameters, multiply-adds and receptive field of a config; see `summary.describe`."""
    require("torch", what="counting a network")
    from edgeseg.model import summary

    return summary.describe(config, num_classes, size)


def load_encoder(model: SegModel, source: str) -> None:
    """Encoder weights that others trained, loaded by name; see `pretrained.load_encoder`."""
    require("torch", "safetensors", what="--encoder-weights")
    from edgeseg.model import pretrained

    pretrained.load_encoder(model, source)


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
