"""What the graph's tests share: running a model, a test picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

Run = Callable[..., dict[str, NDArray[np.generic]]]


@pytest.fixture
def run() -> Run:
    """Run a model in ONNX Runtime with its optimisations off: outputs (or the tensors named) by name.

    `frames` is the input `frame`, or all inputs by name.
    """
    import onnxruntime as ort

    def run(
        model: onnx.ModelProto,
        frames: NDArray[np.uint8] | dict[str, NDArray[np.uint8]],
        *tensors: str,
        optimise: bool = False,
    ):
        feeds = frames if isinstance(frames, dict) else {"frame": frames}
        names = tensors or tuple(value.name for value in model.graph.output)
        probe = onnx.ModelProto()
        probe.CopyFrom(model)
        known = {value.name for value in probe.graph.output}
        values = {value.name: value for value in probe.graph.value_info}
        probe.graph.output.extend(values[name] for name in names if name not in known)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(list(names), feeds), strict=True))

    return run


@pytest.fixture
def picture() -> Callable[..., NDArray[np.uint8]]:
    """Coloured cells of 12 pixels with a little noise: uint8 [N, H, W, 3]."""

    def picture(height: int, width: int, batch: int = 1, seed: int = 0) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        cells = rng.integers(0, 256, (batch, -(-height // 12), -(-width // 12), 3))
        large = cells.repeat(12, axis=1).repeat(12, axis=2)[:, :height, :width]
        return np.clip(large + rng.integers(-8, 9, large.shape), 0, 255).astype(np.uint8)

    return picture
