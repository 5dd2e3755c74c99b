"""What the harness costs: an engine through edgeseg against a bare loop around the runtime's own call.

    python tools/overhead_check.py BUNDLE [--duration 10]

Both use the same engine file and settings and run in turns in one interleaved run; `null` at 2 ms runs likewise. Prints
the ratio of medians with its 95 % interval; exit 3 where an engine's median is more than 2 % away from the bare loop's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
import numpy as np

from edgeseg.backend import open_null
from edgeseg.backend.base import aligned_empty
from edgeseg.bench.frames import street_frames
from edgeseg.bench.request import BenchTarget, open_bench_target
from edgeseg.core.clock import now_ns
from edgeseg.core.errors import CapabilityError, EdgesegError, ExitCode
from edgeseg.core.progress import Silent
from edgeseg.core.types import U8, RunTimes
from edgeseg.data.classes import CAMVID
from edgeseg.measure.compare import Feed, compare_calls
from edgeseg.measure.timing import Call, call_of, stack_batches

ALLOWED = 0.02


@contextmanager
def bare_openvino(target: BenchTarget) -> Iterator[Call]:
    """OpenVINO's own start and wait on tensors that are bound once; the frame is copied in outside of the clock."""
    import openvino as ov

    from edgeseg.backend import openvino as backend

    assert target.bundle is not None
    spec = target.bundle.manifest.spec
    core = ov.Core()
    hint = str(spec.options.get("float_precision", "fp32")) if spec.precision == "int8" else spec.precision
    model = core.read_model(str(target.bundle.engine_file))
    compiled = backend.compile_model(core, model, hint=hint, threads=spec.threads)
    request = compiled.create_infer_request()
    frame, mask = aligned_empty((1, *spec.frame_size, 3)), aligned_empty((1, *spec.frame_size))
    request.set_tensor("frame", ov.Tensor(frame, shared_memory=True))
    request.set_tensor("mask", ov.Tensor(mask, shared_memory=True))

    def call(batch: U8) -> RunTimes:
        np.copyto(frame, batch)
        begin_ns = now_ns()
        request.start_async()
        request.wait()
        return RunTimes(0, now_ns() - begin_ns, 0)

    yield call


@contextmanager
def bare_onnxruntime(target: BenchTarget) -> Iterator[Call]:
    """ONNX Runtime's own run on values that are bound once; the frame is copied in outside of the clock."""
    import onnxruntime as ort

    assert target.bundle is not None
    spec = target.bundle.manifest.spec
    options = ort.SessionOptions()
    options.intra_op_num_threads = spec.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = ort.InferenceSession(str(target.bundle.engine_file), options, providers=["CPUExecutionProvider"])
    frame, mask = aligned_empty((1, *spec.frame_size, 3)), aligned_empty((1, *spec.frame_size))
    binding = session.io_binding()
    values = ort.OrtValue.ortvalue_from_numpy(frame), ort.OrtValue.ortvalue_from_numpy(mask)
    binding.bind_ortvalue_input("frame", values[0])
    binding.bind_ortvalue_output("mask", values[1])

    def call(batch: U8) -> RunTimes:
        np.copyto(frame, batch)
        begin_ns = now_ns()
        session.run_with_iobinding(binding)
        return RunTimes(0, now_ns() - begin_ns, 0)

    yield call


def bare_null(latency_ms: float) -> Call:
    """The null backend's own wait."""
    from edgeseg.backend.null import wait_ns

    def call(batch: U8) -> RunTimes:
        del batch
        begin_ns = now_ns()
        wait_ns(int(latency_ms * 1e6))
        return RunTimes(0, now_ns() - begin_ns, 0)

    return call


def check(target: BenchTarget, duration_s: float) -> dict[str, object]:
    """Ratios of both engines to their bare loops."""
    assert target.bundle is not None
    backend = target.bundle.manifest.engine.backend
    bare = {"openvino": bare_openvino, "onnxruntime": bare_onnxruntime}.get(backend)
    if bare is None:
        raise CapabilityError("a bare loop", runtime=backend, allowed="openvino, onnxruntime")
    frames = street_frames(target.spec.frame_size, Silent(), count=8)
    found: dict[str, object] = {}
    null = open_null(CAMVID, target.spec.frame_size, latency_ms=2.0)
    with ExitStack() as stack:
        engine = stack.enter_context(target.make())
        stack.enter_context(null)
        batches = stack_batches(frames, engine.spec)
        pairs = {
            f"{engine.spec.backend} {engine.spec.precision}": (call_of(engine), stack.enter_context(bare(target))),
            "null 2 ms": (call_of(null), bare_null(2.0)),
        }
        for name, (through, own) in pairs.items():
            feeds = {"through": Feed(through, batches), "bare": Feed(own, batches)}
            comparison = compare_calls(feeds, duration_s=duration_s / 2)
            ratio, interval = comparison.ratio("through", "bare")
            p50 = float(np.median(comparison.samples["through"].engine_ns)) / 1e6
            found[name] = {"p50_ms": p50, "ratio": ratio, "ci95": interval, "within": abs(ratio - 1) <= ALLOWED}
    return found


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--duration", type=float, default=10.0)
    options = parser.parse_args()
    try:
        found = check(open_bench_target(options.bundle, progress=Silent()), options.duration)
    except EdgesegError as error:
        print(f"overhead_check: error: {error}", file=sys.stderr)
        return int(error.exit_code)
    print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    return int(ExitCode.OK if all(item["within"] for item in found.values()) else ExitCode.GATE)  # type: ignore[index]


if __name__ == "__main__":
    sys.exit(main())
