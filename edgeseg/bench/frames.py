"""Frames for a bench, in memory before any clock starts."""

from __future__ import annotations

import numpy as np

from edgeseg.core.errors import DataError
from edgeseg.core.packing import packed
from edgeseg.core.progress import Progress
from edgeseg.core.resize import Resizer
from edgeseg.core.types import U8, RunnerSpec, Size, Source, format_size
from edgeseg.data.street import StreetScene

COUNT = 30
"""Frames in memory: one second of a drive. More would only be read from further away."""


def street_frames(size: Size, progress: Progress, *, count: int = COUNT, seed: int = 7) -> list[U8]:
    """Rendered frames of a drive: uint8 [H, W, 3] BGR."""
    scene = StreetScene(seed, size)
    frames = []
    with progress.task(f"render {count} street frames at {format_size(size)}", count) as task:
        for index in range(count):
            frames.append(scene.render(index).image_hwc)
            task.advance()
    return frames


def source_frames(source: Source, *, count: int = COUNT) -> list[U8]:
    """The first frames of a source, copied; it is opened and closed here.

    Raises:
        DataError: It gives none.
    """
    frames: list[U8] = []
    try:
        source.open()
        while len(frames) < count and source.grab():
            frames.append(np.array(source.retrieve().image_hwc))
    finally:
        source.close()
    if not frames:
        raise DataError("the source gave no frame")
    return frames


def engine_frames(frames: list[U8], spec: RunnerSpec) -> list[U8]:
    """BGR frames as the engine takes them: at its frame size, stretched where they have another, in its format."""
    size = frames[0].shape[:2]
    if size != spec.frame_size:
        resizer = Resizer(size, spec.frame_size)
        frames = [resizer.to_frame(frame, np.empty((*spec.frame_size, 3), np.uint8)) for frame in frames]
    return [packed(frame, spec.input_format, spec.colour) for frame in frames]
