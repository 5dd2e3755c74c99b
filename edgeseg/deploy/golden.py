"""Golden frames: a few pictures, and the masks that the exact artefact gives on them in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeseg.backend import open_onnx
from edgeseg.bundle import Golden, golden_agreement
from edgeseg.core.errors import DataError
from edgeseg.core.packing import packed
from edgeseg.core.resize import Resizer
from edgeseg.core.types import U8, Dataset, EngineSpec, Runner, Size
from edgeseg.deploy.request import BuildRequest
from edgeseg.quant import open_pool
from edgeseg.quant.frames import DatasetPool, FramePool
from edgeseg.quant.recipe import load_recipe

COUNT = 6
_STREET = "street:seed=11,frames=24"
"""What is rendered where a build was given no frames at all."""


def golden_frames(request: BuildRequest, dataset: Dataset | None, spec: EngineSpec) -> list[U8]:
    """Six frames, uint8, at the engine's frame size and in its input format, spread over what the build was given.

    Taken from the calibration frames, else the gate's data, else rendered.

    Raises:
        DataError: There are fewer than four.
    """
    pool = _pool(request, dataset)
    indices = np.unique(np.linspace(0, len(pool) - 1, min(COUNT, len(pool))).round().astype(int))
    frames = [_as_taken(frame.image_hwc, spec) for frame in pool.read(indices.tolist())]
    if len(frames) < 4:
        raise DataError(
            "too few frames to prove an engine on", value=f"{pool.name}: {len(frames)}", allowed="4 or more"
        )
    return frames


def golden_masks(artefact: Path, frames: Sequence[U8], size: Size) -> list[Golden]:
    """The frames with the artefact's masks: its own graph, executed in ONNX Runtime."""
    found = []
    with open_onnx(artefact, size) as runner:
        for frame in frames:
            with runner.infer(frame[None]) as output:
                found.append(Golden(frame, output.mask_nhw[0].copy()))
    return found


def agreement(runner: Runner, golden: Sequence[Golden]) -> float:
    """Share of golden pixels on which a runner, not entered yet, gives the golden class."""
    with runner as engine:
        return golden_agreement(engine, golden)


def _pool(request: BuildRequest, dataset: Dataset | None) -> FramePool:
    if request.frames is not None:
        return open_pool(request.frames)
    if request.recipe is not None:
        return open_pool(load_recipe(request.recipe).frames)
    return DatasetPool(dataset) if dataset is not None else open_pool(_STREET)


def _as_taken(image_hwc: U8, spec: EngineSpec) -> U8:
    resizer = Resizer((image_hwc.shape[0], image_hwc.shape[1]), spec.frame_size)
    out: U8 = np.empty((*spec.frame_size, 3), np.uint8)
    return packed(resizer.to_frame(image_hwc, out), spec.input_format, spec.colour)
