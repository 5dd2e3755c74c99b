"""Measure what a model's tensors are on real frames: one pass, constant memory.

Before it, a few of the frames decide how far channels are brought to like ranges, and after it, which layers must stay
in float (`edgeseg.quant.prepare`); neither needs labels.

The frames run through the very graph that a build will use (its resize, padding and folding included), with the
tensors that some placement quantises as extra outputs; each goes into a streaming histogram at once and is freed.
ONNX Runtime's own histogram calibrators keep every activation of every frame (about 50 GB at 512 frames).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
import onnx

from edgeseg.core.errors import DataError
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import F32, U8, Size
from edgeseg.graph import fix_frame_size, read_meta
from edgeseg.quant.equalise import with_factors
from edgeseg.quant.frames import FramePool, choose_frames
from edgeseg.quant.meter import Meter, check_seen, seen_size
from edgeseg.quant.prepare import layers_in_float, search_factors
from edgeseg.quant.ranges import Ranges, pack_floats
from edgeseg.quant.thresholds import Method

_SAMPLES = 6  # frames that strength and layers in float are decided on


def calibrate(
    model: onnx.ModelProto,
    pool: FramePool,
    *,
    method: Method,
    count: int,
    network_size: Size | None = None,
    prepare: bool = True,
    progress: Progress | None = None,
) -> Ranges:
    """Measure a canonical model's tensors.

    Args:
        model: As `load_model` gave it.
        pool: Where frames come from.
        method: How thresholds will be derived; stored, not applied.
        count: Frames to measure, at most.
        network_size: (H, W) that the layers see; by default the trained height with the frame's aspect ratio.
        prepare: Whether a few of the frames are used to search the strength of equalisation before, and the layers
            that must stay in float after the ranges are measured. False measures the weights as they are.
        progress: Where the passes are shown.

    Raises:
        RequestError: Too few frames, or less than one stride of the network to see.
        DataError: Noise, black frames, too many frame sizes, or a tensor that is not finite.
    """
    progress = progress or Silent()
    meta = read_meta(model)
    if network_size is not None:
        check_seen(meta, network_size)  # before any work
    choice = choose_frames(pool, count, progress=progress)
    samples = _samples(pool, choice.indices) if prepare else []
    factors: dict[str, F32] = {}
    if samples:
        size = _size(samples[0])
        layers = seen_size(meta, size, network_size)
        factors = search_factors(model, samples, (size, layers), method, progress=progress)
        model = with_factors(model, factors) if factors else model
    meter = Meter(model, network_size)
    digest = hashlib.sha256()
    with progress.task("measure ranges", len(choice.indices)) as task:
        for frame in pool.read(choice.indices):
            meter.add(frame.image_hwc)
            digest.update(f"{frame.image_hwc.shape}".encode())
            digest.update(np.ascontiguousarray(frame.image_hwc).tobytes())
            task.advance()
    if meter.frames < len(choice.indices) or meter.layers_size is None:
        raise DataError(
            "the source ended before its last frame",
            value=f"{pool.name}: {meter.frames} of {len(choice.indices)}",
            allowed="a complete file",
        )
    ranges = Ranges(
        model=meta.name,
        weights_sha256=read_meta(model).weights_sha256,
        layers_size=meter.layers_size,
        method=method,
        frames=msgspec.structs.replace(choice.report, sha256=digest.hexdigest()),
        tensors=meter.tensors(),
    )
    in_float = {}
    if samples:
        in_float = layers_in_float(fix_frame_size(model, size, layers), ranges, samples, progress=progress)
    return msgspec.structs.replace(
        ranges,
        weights_sha256=meta.weights_sha256,
        equalisation={name: pack_floats(factor) for name, factor in factors.items()},
        in_float=in_float,
    )


def _samples(pool: FramePool, indices: Sequence[int]) -> list[U8]:
    """A few of the chosen frames, all of the first one's size."""
    wanted = [indices[i] for i in np.unique(np.linspace(0, len(indices) - 1, _SAMPLES).round().astype(int))]
    images = [frame.image_hwc.copy() for frame in pool.read(wanted)]
    return [image for image in images if image.shape == images[0].shape]


def _size(image_hwc: U8) -> Size:
    return image_hwc.shape[0], image_hwc.shape[1]
