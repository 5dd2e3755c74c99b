"""Processors without VNNI add two 8-bit products in 16 bits, and saturate: the table's reduced weights do not.

oneDNN reads ONEDNN_MAX_CPU_ISA once, so each case is a process of its own.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="AVX2 is of x86 processors")

# one convolution whose every product is the largest that there is: 64 inputs of 1.0 and weights of 1.0 give 64
_CONVOLUTION = """
import sys
import numpy as np
import openvino as ov
from edgeseg.graph.ir import FLOAT, Graph, Value, from_model
from edgeseg.graph.qdq import ActivationQ, QdqPlan, WeightQ, place
from edgeseg.graph.sample import sample_model
from edgeseg.quant.placement import get_placement

limit = get_placement(sys.argv[1]).weight_limit
graph = Graph(inputs=[Value("x", FLOAT, (1, 64, 8, 8))], outputs=[Value("y", FLOAT, (1, 64, 8, 8))])
graph.props = from_model(sample_model()).props
weight = graph.constant("w", np.ones((64, 64, 1, 1), np.float32))
graph.add("Conv", ["x", weight], "c", kernel_shape=[1, 1])
graph.add("Relu", ["c"], "y")
item = WeightQ(node="c", scales=(1 / limit,) * 64, axis=0, low=-limit - 1, high=limit)
pixels = ActivationQ(tensor="x", scale=1 / 255, zero_point=0, dtype="uint8")
place(graph, QdqPlan(activations=(pixels,), weights=(item,)))
core = ov.Core()
model = core.read_model(graph.to_model().SerializeToString())
compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
kernels = [op.get_rt_info()["primitiveType"].astype(str) for op in compiled.get_runtime_model().get_ordered_ops()]
assert any("avx2" in kernel and kernel.endswith("_I8") for kernel in kernels), kernels
print(compiled(np.ones((1, 64, 8, 8), np.float32))[0].mean())
"""

# a whole network as `deploy` builds it for such a processor, against its exact arithmetic
_NETWORK = """
import sys, tempfile
from pathlib import Path
import numpy as np
from edgeseg.backend import get_builder, open_onnx
from edgeseg.core.types import EngineSpec
from edgeseg.graph import fix_frame_size, read_meta, save_model
from edgeseg.graph.sample import sample_model
from edgeseg.quant import calibrate, quantize
from edgeseg.quant.frames import ArrayPool
from edgeseg.quant.placement import get_placement

rng = np.random.default_rng(0)
y, x = np.mgrid[:64, :96] / 96
frames = []
for _ in range(12):
    waves = [np.sin(7 * (rng.uniform(0.5, 3) * x + rng.uniform(0.5, 3) * y) + rng.uniform(0, 6)) for _ in "bgr"]
    frames.append(np.clip(120 + rng.uniform(-50, 50) + 60 * np.stack(waves, -1), 0, 255).astype(np.uint8))
model = sample_model()
ranges = calibrate(model, ArrayPool(frames), count=12, network_size=(64, 96), prepare=False)
spec = EngineSpec(frame_size=(64, 96), classes=read_meta(model).classes, precision="int8")
builder = get_builder("openvino")
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "model.onnx"
    save_model(file, quantize(fix_frame_size(model, (64, 96)), ranges, get_placement(sys.argv[1])))
    built = builder.build(file, Path(folder), spec)
    equal = []
    with builder.open(Path(folder) / built.file, spec) as engine, open_onnx(file, (64, 96)) as exact:
        for frame in frames:
            with engine.infer(frame[None]) as one, exact.infer(frame[None]) as two:
                equal.append(np.mean(one.mask_nhw == two.mask_nhw))
print(np.mean(equal))
"""


def run(script: str, placement: str) -> float:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", script, placement], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.splitlines()[-1])


def test_full_weights_saturate_and_reduced_ones_do_not():
    assert run(_CONVOLUTION, "cpu-avx2") == pytest.approx(64, rel=1e-5)
    assert run(_CONVOLUTION, "cpu") < 40  # 2 * 255 * 127 is more than 32767: half of the sum is lost


def test_a_network_for_such_a_processor_computes_what_its_graph_says():
    assert run(_NETWORK, "cpu-avx2") >= 0.99
