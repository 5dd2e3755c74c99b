"""Ranges of a graph's tensors on frames that pass through it: sessions by frame size, histograms by tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.types import F32, U8, Size, format_size
from edgeseg.graph import default_network_size, fix_frame_size, read_meta
from edgeseg.graph.geometry import FRAME, PIXELS
from edgeseg.graph.ir import FLOAT, Graph, from_model
from edgeseg.graph.meta import ModelMeta
from edgeseg.graph.sizes import check_network_size
from edgeseg.quant.histogram import Histogram
from edgeseg.quant.placement import calibration_tensors
from edgeseg.quant.ranges import TensorRange, tensor_range

_MAX_SIZES = 4  # frame sizes in one pool: each has a session of its own
_ERRORS_ONLY = 3  # ONNX Runtime's log severity


def seen_size(meta: ModelMeta, frame_size: Size, network_size: Size | None) -> Size:
    """(H, W) that the layers see of a frame; by default the trained height with the frame's aspect ratio.

    Raises:
        RequestError: Less than one stride of the network.
    """
    size = network_size or default_network_size(meta.network_size, frame_size)
    check_seen(meta, size)
    return size


def check_seen(meta: ModelMeta, size: Size) -> None:
    """Refuse to calibrate where the layers see less than one stride of the network."""
    check_network_size(size, meta, fix=f"--network-size {format_size(meta.network_size)}")


class Meter:
    """Measures every tensor that some placement quantises, frame by frame, in constant memory.

    Args:
        model: Canonical.
        network_size: (H, W) that the layers see; by default the trained height with the frame's aspect ratio.

    Attributes:
        frames: Frames measured so far.
        layers_size: (H, W) that the layers saw for the first frame.
    """

    def __init__(self, model: onnx.ModelProto, network_size: Size | None = None) -> None:
        graph = from_model(model)
        self._model = model
        self._meta = read_meta(model)
        self._network_size = network_size
        self._names = calibration_tensors(graph)
        self._names.pop(PIXELS, None)  # camera bytes: their range is known
        self._watched = {name: _Watch(name, channel_axis(graph, name)) for name in self._names}
        self._sessions: dict[Size, TensorSession] = {}
        self.frames = 0
        self.layers_size: Size | None = None

    def add(self, image_hwc: U8) -> None:
        """Run one frame and count every value of every tensor.

        Raises:
            DataError: Too many frame sizes, or a tensor that is not finite.
            RequestError: The layers would see less than one stride of the network.
        """
        size = (image_hwc.shape[0], image_hwc.shape[1])
        if size not in self._sessions:
            if len(self._sessions) == _MAX_SIZES:
                raise DataError(
                    "the calibration frames have too many sizes",
                    value=", ".join(format_size(known) for known in (*self._sessions, size)),
                    allowed=f"at most {_MAX_SIZES} sizes",
                )
            layers = seen_size(self._meta, size, self._network_size)
            self.layers_size = self.layers_size or layers
            self._sessions[size] = TensorSession(fix_frame_size(self._model, size, layers), list(self._watched))
        for name, values in self._sessions[size](image_hwc).items():
            self._watched[name].add(values)
        self.frames += 1

    def tensors(self) -> dict[str, TensorRange]:
        """What was measured, under every name that an exact form may use."""
        return {name: self._watched[root].result() for root, known in self._names.items() for name in known}


class TensorSession:
    """A graph of fixed size in ONNX Runtime that gives inner tensors.

    Args:
        model: Of fixed frame size.
        names: Tensors that are asked for.
    """

    def __init__(self, model: onnx.ModelProto, names: Sequence[str]) -> None:
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        present = {output.name for output in exposed.graph.output}
        exposed.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in names if name not in present
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        self._names = list(names)
        self._session = onnxruntime.InferenceSession(
            exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, image_hwc: U8) -> dict[str, F32]:
        """Every tensor on one frame."""
        outputs: list[F32] = self._session.run(self._names, {FRAME: image_hwc[None]})
        return dict(zip(self._names, outputs, strict=True))


def channel_axis(graph: Graph, tensor: str) -> int:
    """Channels come second, except in what a LayerNormalization gives."""
    node = graph.producers().get(tensor)
    return -1 if node is not None and node.op == "LayerNormalization" else 1


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
