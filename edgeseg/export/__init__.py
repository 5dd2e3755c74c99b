"""The room `export`: from a training run to the canonical graph, refused where it does not compute what torch does.

This door imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.core.deps import require
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import Size

if TYPE_CHECKING:
    from edgeseg.export.run import ExportReport
    from edgeseg.graph.summary import ModelSummary


def export_run(
    run: Path, out: Path, *, size: Size | None = None, frames: str | None = None, progress: Progress | None = None
) -> ExportReport:
    """Write a run's network as a canonical graph.

    Args:
        run: Folder of a training run.
        out: The ONNX file to write; an existing one is replaced.
        size: (H, W) of `frame` and `mask`; by default they stay symbolic.
        frames: A source whose frames torch and the graph must agree on; by default the run's own.
        progress: Where the work is shown.

    Returns:
        What was written, and how well it agreed.

    Raises:
        RequestError: There is no such run or source, or it has no frames.
        GateError: Torch and the graph agree on fewer than 99.9 % of the pixels; nothing is written.
        UnavailableError: A package is missing.
        VerifyError: The run's weights are truncated or foreign.
    """
    require("torch", "torchvision", "safetensors", "onnx", "onnxruntime", what="edgeseg export")
    from edgeseg.export import run as room

    return room.export_run(run, out, size=size, frames=frames, progress=progress or Silent())


def describe_run(run: Path) -> ModelSummary:
    """What is in a run: the summary of the graph that it would export; see `edgeseg.export.describe.describe_run`."""
    require("torch", "safetensors", "onnx", what="inspecting a run")
    from edgeseg.export import describe

    return describe.describe_run(run)
