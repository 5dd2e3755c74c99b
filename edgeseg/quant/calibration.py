"""Measure what a model's tensors are on real frames: one pass, constant memory.

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
import onnxruntime
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import F32, U8, Size, format_size
from edgeseg.graph import default_network_size, fix_frame_size, read_meta
from edgeseg.graph.geometry import FRAME, PIXELS
from edgeseg.graph.ir import FLOAT, Graph, from_model
from edgeseg.quant.frames import FramePool, choose_frames
from edgeseg.quant.histogram import Histogram
from edgeseg.quant.placement import calibration_tensors
from edgeseg.quant.ranges import Ranges, TensorRange, tensor_range
from edgeseg.quant.thresholds import Method

_MAX_SIZES = 4  # frame sizes in one pool: each has a session of its own
_ERRORS_ONLY = 3  # ONNX Runtime's log severity


def calibrate(
    model: onnx.ModelProto,
    pool: FramePool,
    *,
    method: Method,
    count: int,
    network_size: Size | None = None,
    progress: Progress | None = None,
) -> Ranges:
    """Measure a canonical model's tensors.

    Args:
        model: As `load_model` gave it.
        pool: Where frames come from.
        method: How thresholds will be derived; stored, not applied.
        count: Frames to measure, at most.
        network_size: (H, W) that the layers see; by default the trained height with the frame's aspect ratio.
        progress: Where the two passes are shown.

    Raises:
        RequestError: Too few frames.
        DataError: Noise, black frames, too many frame sizes, or a tensor that is not finite.
    """
    progress = progress or Silent()
    meta = read_meta(model)
    choice = choose_frames(pool, count, progress=progress)
    graph = from_model(model)
    tensors = calibration_tensors(graph)
    tensors.pop(PIXELS, None)  # camera bytes: their range is known
    names = list(tensors)
    watched = {name: _Watch(name, _channel_axis(graph, name)) for name in names}
    sessions: dict[Size, _Session] = {}
    digest = hashlib.sha256()
    layers_size: Size | None = None
    measured = 0
    with progress.task("measure ranges", len(choice.indices)) as task:
        for frame in pool.read(choice.indices):
            image = frame.image_hwc
            size = (image.shape[0], image.shape[1])
            if size not in sessions:
                if len(sessions) == _MAX_SIZES:
                    raise DataError(
                        "the calibration frames have too many sizes",
                        value=", ".join(format_size(known) for known in (*sessions, size)),
                        allowed=f"at most {_MAX_SIZES} sizes",
                    )
                layers = network_size or default_network_size(meta.network_size, size)
                layers_size = layers_size or layers
                sessions[size] = _Session(fix_frame_size(model, size, layers), names)
            sessions[size].measure(image, watched)
            digest.update(f"{image.shape}".encode())
            digest.update(np.ascontiguousarray(image).tobytes())
            measured += 1
            task.advance()
    if measured < len(choice.indices) or layers_size is None:
        raise DataError(
            "the source ended before its last frame",
            value=f"{pool.name}: {measured} of {len(choice.indices)}",
            allowed="a complete file",
        )
    return Ranges(
        model=meta.name,
        weights_sha256=meta.weights_sha256,
        layers_size=layers_size,
        method=method,
        frames=msgspec.structs.replace(choice.report, sha256=digest.hexdigest()),
        tensors={name: watched[root].result() for root, known in tensors.items() for name in known},
    )


class _Watch:
    """What is kept of one tensor."""

    def __init__(self, name: str, axis: int) -> None:
        self._histogram = Histogram(name)
        self._axis = axis
        self._sum: NDArray[np.float64] | None = None
        self._frames = 0

    def add(self, values: F32) -> None:
        self._histogram.add(values)
        others = tuple(axis for axis in range(values.ndim) if axis != self._axis % values.ndim)
        means = values.mean(axis=others, dtype=np.float64)
        self._sum = means if self._sum is None else self._sum + means
        self._frames += 1

    def result(self) -> TensorRange:
        assert self._sum is not None
        return tensor_range(self._histogram, self._sum / self._frames)


def _channel_axis(graph: Graph, tensor: str) -> int:
    """Channels come second, except in what a LayerNormalization gives."""
    node = graph.producers().get(tensor)
    return -1 if node is not None and node.op == "LayerNormalization" else 1


class _Session:
    """A fixed-size graph in ONNX Runtime that also gives inner tensors."""

    def __init__(self, model: onnx.ModelProto, names: Sequence[str]) -> None:
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        present = {output.name for output in exposed.graph.output}
        exposed.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in names if name not in present
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        self.names = list(names)
        self.session = onnxruntime.InferenceSession(
            exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def measure(self, image_hwc: U8, watched: dict[str, _Watch]) -> None:
        """Run one frame and count every value of every tensor."""
        outputs: list[F32] = self.session.run(self.names, {FRAME: image_hwc[None]})
        for name, values in zip(self.names, outputs, strict=True):
            watched[name].add(values)
