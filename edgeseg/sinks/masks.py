"""Masks as palette PNGs at camera size: one file for each result with a frame, named for the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeseg.core.artefacts import check_folder, write_bytes
from edgeseg.core.types import U8, Result, SinkContext
from edgeseg.data.masks import encode_index_png

_COMPRESS_LEVEL = 1  # masks are flat: level 6 takes several times as long for a few percent


class MasksSink:
    """PNG masks. With several cameras, camera `i` goes to the folder `DIR/camera-i`.

    Args:
        folder: Where they go; made when the first one is written.

    Raises:
        RequestError: `folder` is a file, or cannot be made or written to.
    """

    name = "masks"
    lossless = True
    frames_only = True

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self._folder = folder

    def open(self, context: SinkContext) -> None:
        """Remember the palette."""
        self._classes = context.classes
        self._cameras = len(context.cameras)

    def write(self, result: Result) -> None:
        """Write one mask; where the frame has none, every pixel is the ignore id, so that counts stay equal."""
        if result.frame_id < 0 or result.size is None:
            return
        mask_hw: U8 | None = result.mask_hw
        if mask_hw is None:
            mask_hw = np.full(result.size, self._classes.ignore_id, np.uint8)
        folder = folder_of(self._folder, result.camera, self._cameras)
        name = result.name or f"{result.frame_id:06d}"
        data = encode_index_png(mask_hw, self._classes, compress_level=_COMPRESS_LEVEL)
        write_bytes(folder / f"{name}.png", data)

    def close(self) -> None:
        """Nothing is left open."""


def folder_of(folder: Path, camera: int, cameras: int) -> Path:
    """The folder of one camera of so many."""
    return folder / f"camera-{camera}" if cameras > 1 else folder
