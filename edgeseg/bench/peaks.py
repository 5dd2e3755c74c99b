"""What the device can do at most, by a short probe: multiply-adds a second by precision, bytes a second by working set.

Compute is probed with a network made for it, one wide convolution after another, through the runtime that runs the
engine: the best that this runtime reaches here, not a data sheet's figure. Bandwidth is probed by copying arrays of
several sizes with all cores, since activations of a small network live in a cache, whose bandwidth is another.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from edgeseg.backend import get_builder
from edgeseg.core.clock import now_ns
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import EdgesegError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, Builder, Classes, EngineSpec, Precision
from edgeseg.graph.ir import FLOAT, UINT8, Graph, Value
from edgeseg.graph.meta import ModelMeta, graph_weights_sha256, meta_props
from edgeseg.graph.qdq import ActivationQ, QdqPlan, WeightQ, insert

SIZES_BYTES: Sequence[int] = tuple(1 << exponent for exponent in (18, 20, 22, 24, 26, 28))
_CHANNELS = 256
_SIZE = (32, 32)
_LAYERS = 6
# long enough for a virtual machine's neighbours to leave the matrix unit free for once: on a Xeon with AMX a quarter
# of a second gave 327 to 767 G multiply-adds/s in BF16, two seconds 769 to 1193 G
_COMPUTE_S = 2.0
_COPY_S = 0.25
_CLASSES = Classes(names=("a", "b"), palette_rgb=((0, 0, 0), (255, 255, 255)))


class Peaks(msgspec.Struct, frozen=True, kw_only=True):
    """Roofs of a device.

    Attributes:
        macs_per_s: Multiply-adds a second by precision.
        bytes_per_s: Bytes read and written a second, by the size of the working set in bytes, ascending.
        origin: How they were found: a probe through a runtime, or a recipe's data sheet.
    """

    macs_per_s: dict[str, float]
    bytes_per_s: dict[int, float]
    origin: str

    def holds(self, working_set_bytes: int) -> int:
        """The smallest probed working set that holds so many bytes; the largest where none does."""
        sizes = sorted(self.bytes_per_s)
        return next((size for size in sizes if size >= working_set_bytes), sizes[-1])

    def bandwidth(self, working_set_bytes: int) -> float:
        """Bytes a second for a layer that touches so many bytes."""
        return self.bytes_per_s[self.holds(working_set_bytes)]

    def compute(self, precision: str) -> float | None:
        """Multiply-adds a second; a precision that was not probed takes FP32's."""
        return self.macs_per_s.get(precision, self.macs_per_s.get("fp32"))


def probe_peaks(backend: str, precisions: Sequence[Precision], progress: Progress) -> Peaks:
    """Measure the roofs of this machine through one backend; up to ten seconds.

    Args:
        backend: Name of the backend that runs the engine.
        precisions: Precisions to probe, FP32 first; those that the backend lacks are left out.
        progress: Where to show it.
    """
    builder = get_builder(backend)
    wanted = [precision for precision in precisions if precision in builder.precisions]
    macs: dict[str, float] = {}
    with progress.task("probe the device's peaks", len(wanted) + len(SIZES_BYTES)) as task:
        for precision in wanted:
            try:
                macs[precision] = _probe_compute(builder, precision)
            except EdgesegError as error:
                progress.say(f"no peak for {precision}: {error}")
            task.advance(note=precision)
        bandwidths = {}
        for size in SIZES_BYTES:
            bandwidths[size] = _probe_copy(size)
            task.advance(note=f"{size >> 10} KiB")
    # a larger cache is never faster than a smaller one: what noise says otherwise is smoothed away
    best = 0.0
    for size in sorted(bandwidths, reverse=True):
        best = max(best, bandwidths[size])
        bandwidths[size] = best
    return Peaks(macs_per_s=macs, bytes_per_s=bandwidths, origin=f"probed through {backend} {builder.version}")


def _probe_compute(builder: Builder, precision: Precision) -> float:
    model = probe_model(quantised=precision == "int8")
    spec = EngineSpec(frame_size=_SIZE, precision=precision, classes=_CLASSES)
    macs = _LAYERS * _CHANNELS * _CHANNELS * 9 * _SIZE[0] * _SIZE[1]
    frame = np.random.default_rng(0).integers(0, 256, (1, *_SIZE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory(prefix="edgeseg-peaks-") as scratch:
        path = Path(scratch) / "probe.onnx"
        onnx.save(model, str(path))
        built = builder.build(path, Path(scratch), spec)
        with builder.open(Path(scratch) / built.file, spec) as runner:
            return macs / _best_s(lambda: _run(runner.infer, frame), _COMPUTE_S)


def _run(infer: Callable[[U8], object], frame: U8) -> None:
    output = infer(frame)
    release = getattr(output, "release", None)
    if callable(release):
        release()


def _probe_copy(size: int) -> float:
    """Bytes read and written a second by all cores, each copying its own share of a working set of `size` bytes."""
    cores = max(1, fingerprint().cores)
    share = size // (2 * cores)
    pairs = [(np.ones(share, np.uint8), np.zeros(share, np.uint8)) for _ in range(cores)]
    repeats = max(1, (1 << 25) // size)

    def copy(pair: tuple[U8, U8]) -> None:
        for _ in range(repeats):
            np.copyto(pair[1], pair[0])

    with ThreadPoolExecutor(cores) as pool:
        return repeats * size / _best_s(lambda: list(pool.map(copy, pairs)), _COPY_S)


def _best_s(work: Callable[[], object], within_s: float) -> float:
    """The shortest of many runs: a roof is what can be reached, so noise only ever hides it."""
    best_ns, end_ns, runs = 1 << 62, now_ns() + int(within_s * 1e9), 0
    while runs < 3 or now_ns() < end_ns:
        begin_ns = now_ns()
        work()
        best_ns = min(best_ns, now_ns() - begin_ns)
        runs += 1
    return best_ns / 1e9


def probe_model(*, quantised: bool) -> onnx.ModelProto:
    """A network that is all arithmetic: wide 3x3 convolutions, behind the usual input and output."""
    rng = np.random.default_rng(0)
    height, width = _SIZE
    graph = Graph(
        inputs=[Value("frame", UINT8, (1, height, width, 3))], outputs=[Value("mask", UINT8, (1, height, width))]
    )
    x = graph.add("Cast", ["frame"], "pixels.cast", to=FLOAT)
    x = graph.add("Transpose", [x], "pixels", perm=[0, 3, 1, 2])
    x = _conv(graph, "stem", x, rng.normal(0, 0.01, (_CHANNELS, 3, 1, 1)))
    plan_a, plan_w = [], []
    for i in range(_LAYERS):
        weight = rng.normal(0, 1 / (3 * _CHANNELS**0.5), (_CHANNELS, _CHANNELS, 3, 3))
        plan_a.append(ActivationQ(tensor=x, scale=0.05, zero_point=128 if i == 0 else 0, dtype="uint8"))
        scale = float(np.abs(weight).max()) / 127
        plan_w.append(WeightQ(node=f"conv{i}", scales=(scale,) * _CHANNELS, axis=0))
        plan_w.append(WeightQ(node=f"conv{i}", input=2, scales=(scale * 0.05,) * _CHANNELS, axis=0, dtype="int32"))
        x = _conv(graph, f"conv{i}", x, weight, pads=[1] * 4)
        x = graph.add("Relu", [x], f"relu{i}")
    plan_a.append(ActivationQ(tensor=x, scale=0.05, zero_point=0, dtype="uint8"))
    x = _conv(graph, "head", x, rng.normal(0, 0.1, (2, _CHANNELS, 1, 1)))
    x = graph.add("ArgMax", [x], "index", axis=1, keepdims=0)
    x = graph.add("Cast", [x], "index.float", to=FLOAT)
    graph.add("Cast", [x], "mask", to=UINT8)
    meta = ModelMeta(
        name="peak-probe",
        classes=_CLASSES,
        network_size=_SIZE,
        stride=1,
        mean_rgb=(0, 0, 0),
        std_rgb=(1, 1, 1),
        package_version="0",
        weights_sha256=graph_weights_sha256(graph),
        frame_size=_SIZE,
        batch=1,
        variant="probe",
    )
    graph.props = meta_props(meta)
    model = graph.to_model()
    return insert(model, QdqPlan(activations=tuple(plan_a), weights=tuple(plan_w))) if quantised else model


def _conv(graph: Graph, name: str, x: str, weight: NDArray[np.float64], pads: Sequence[int] = (0, 0, 0, 0)) -> str:
    w = graph.constant(f"{name}.weight", weight.astype(np.float32))
    b = graph.constant(f"{name}.bias", np.zeros(len(weight), np.float32))
    return graph.add("Conv", [x, w, b], name, kernel_shape=list(weight.shape[2:]), pads=list(pads))
