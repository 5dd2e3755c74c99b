"""The room `quant`: which frames, what ranges, where integers, and what they cost in accuracy.

This door imports nothing heavy; its functions ask for ONNX and ONNX Runtime by name before they need them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.core.deps import require
from edgeseg.core.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx

    from edgeseg.core.types import Size
    from edgeseg.quant.frames import FramePool
    from edgeseg.quant.placement import Placement
    from edgeseg.quant.ranges import Ranges
    from edgeseg.quant.thresholds import Method

DEFAULT_COUNT = 128
"""Frames that a calibration measures unless told otherwise."""

METHODS = ("minmax", "percentile", "entropy", "mse")
"""Names of the ways to choose thresholds."""


def open_pool(spec: str) -> FramePool:
    """Frames to calibrate on, from a data specification or a source; see `edgeseg.quant.frames`."""
    require("cv2", what="reading calibration frames")
    from edgeseg.quant import frames

    return frames.open_pool(spec)


def calibrate(
    model: onnx.ModelProto,
    frames: FramePool | str,
    *,
    method: Method | None = None,
    count: int = DEFAULT_COUNT,
    network_size: Size | None = None,
    prepare: bool = True,
    progress: Progress | None = None,
) -> Ranges:
    """Measure the ranges of a canonical model's tensors on real frames; see `edgeseg.quant.calibration`."""
    require("onnx", "onnxruntime", "cv2", what="edgeseg calibrate")
    from edgeseg.quant import calibration
    from edgeseg.quant.thresholds import Method

    return calibration.calibrate(
        model,
        open_pool(frames) if isinstance(frames, str) else frames,
        method=method or Method(),
        count=count,
        network_size=network_size,
        prepare=prepare,
        progress=progress,
    )


def load_ranges(path: Path, *, weights_sha256: str | None = None) -> Ranges:
    """Read and verify a range file; see `edgeseg.quant.ranges`."""
    from edgeseg.quant import ranges

    return ranges.load_ranges(path, weights_sha256=weights_sha256)


def save_ranges(path: Path, ranges: Ranges) -> None:
    """Write a range file, atomically; see `edgeseg.quant.ranges`."""
    from edgeseg.quant import ranges as room

    room.save_ranges(path, ranges)


def quantize(
    model: onnx.ModelProto,
    ranges: Ranges,
    placement: Placement,
    *,
    method: Method | None = None,
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """An INT8 model by explicit Q/DQ; see `edgeseg.quant.quantization`."""
    require("onnx", what="quantising a model")
    from edgeseg.quant import quantization

    return quantization.quantize(model, ranges, placement, method=method, keep_float=keep_float)
