"""ONNX files for the tests of this room: the sample network at one frame size, as it is and with Q/DQ nodes."""

import msgspec
import numpy as np
import onnx

from edgeseg.core.types import EngineSpec
from edgeseg.graph import fix_frame_size, read_meta, write_meta
from edgeseg.graph.ir import from_model
from edgeseg.graph.qdq import ActivationQ, QdqPlan, WeightQ, insert
from edgeseg.graph.sample import CLASSES, sample_model

SIZE = (48, 64)


def float_model(*, frame_size=SIZE, batch=1, confidence=False, norm="batch"):
    return fix_frame_size(sample_model(norm=norm, confidence=confidence), frame_size, batch=batch)


def int8_model(**options):
    """The sample network with every convolution quantised; generous made-up ranges, good enough to run."""
    model = float_model(**options)
    graph = from_model(model)
    convs = [node for node in graph.nodes if node.op == "Conv" and node.name.startswith(("encoder.", "decoder."))]
    scales = {node.inputs[0]: 1.0 if node.inputs[0] == "pixels" else 16 / 255 for node in convs}
    weights = []
    for node in convs:
        peak = np.abs(graph.constants[node.inputs[1]]).max(axis=(1, 2, 3))
        channel = np.maximum(peak, 1e-6) / 127
        weights.append(WeightQ(node=node.name, scales=tuple(channel.tolist()), axis=0))
        # ONNX Runtime runs a convolution in INT8 only where its activations are uint8 and its bias is int32
        bias_scales = tuple((scales[node.inputs[0]] * channel).tolist())
        weights.append(WeightQ(node=node.name, input=2, scales=bias_scales, axis=0, dtype="int32"))
    activations = tuple(
        ActivationQ(tensor=name, scale=scale, zero_point=0 if name == "pixels" else 128, dtype="uint8")
        for name, scale in scales.items()
    )
    quantised = insert(model, QdqPlan(activations=activations, weights=tuple(weights)))
    write_meta(quantised, msgspec.structs.replace(read_meta(model), variant="cpu"))
    return quantised


def spec_of(precision="fp32", *, frame_size=SIZE, batch=1, confidence=False, **fields):
    return EngineSpec(
        frame_size=frame_size, batch=batch, precision=precision, classes=CLASSES, confidence=confidence, **fields
    )


def write(folder, model, name="model.onnx"):
    path = folder / name
    onnx.save(model, str(path))
    return path


def frames(n, *, frame_size=SIZE, batch=1, seed=0):
    """Blocky colours, so that masks hold every class and differ from frame to frame: uint8 [n, batch, H, W, 3]."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (n, batch, frame_size[0] // 8, frame_size[1] // 8, 3), dtype=np.uint8)
    return cells.repeat(8, 2).repeat(8, 3)
