"""Peers behind the same harness: the same network in other runtimes, as one would use them without edgeseg.

Each is optional and states its settings; all run in turns with the engine under test, so that ratios are of one run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import msgspec
import onnx

from edgeseg.bench.layers import engine_graph
from edgeseg.bench.request import BenchTarget
from edgeseg.core.clock import now_ns
from edgeseg.core.deps import package_version, probe_package
from edgeseg.core.metrics import Series, series_ms
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, Runner, RunTimes
from edgeseg.measure.compare import Feed, compare_calls
from edgeseg.measure.timing import Call, call_of, stack_batches


class PeerResult(msgspec.Struct, frozen=True, kw_only=True):
    """One peer beside the engine.

    Attributes:
        name: Runtime and precision.
        settings: What was set; everything else is the runtime's default.
        engine_ms: The runtime's own call, host memory to host memory.
        ratio_p50: The engine under test over the peer: under 1 means that the engine is faster.
        ci95: Interval of the ratio.
    """

    name: str
    settings: str
    engine_ms: Series
    ratio_p50: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Peer:
    """Something to compare with.

    Attributes:
        name: Runtime and precision.
        settings: What is set.
        open: Opens it; the block gives one call.
    """

    name: str
    settings: str
    open: Callable[[], AbstractContextManager[Call]]


def find_peers(target: BenchTarget) -> list[Peer]:
    """Peers that this machine has for the FP32 graph of a bundle; none for a runner without one."""
    if target.bundle is None:
        return []
    model = engine_graph(target.bundle)
    peers = []
    if probe_package("onnxruntime").ok:
        peers.append(onnxruntime_peer(model))
    if probe_package("openvino").ok:
        peers += [_openvino_peer(model, precision) for precision in _openvino_precisions()]
    return peers


def runner_peer(name: str, settings: str, make: Callable[[], Runner]) -> Peer:
    """Any runner as a peer."""

    @contextmanager
    def opened() -> Iterator[Call]:
        with make() as runner:
            yield call_of(runner)

    return Peer(name, settings, opened)


def compare_peers(
    target: BenchTarget, peers: Sequence[Peer], frames: Sequence[U8], *, duration_s: float, progress: Progress
) -> list[PeerResult]:
    """Run the engine and its peers in turns.

    Args:
        target: The engine under test.
        peers: What to compare with.
        frames: At the engine's frame size.
        duration_s: Of the whole run.
        progress: Where to show it.
    """
    with ExitStack() as stack:
        runner = stack.enter_context(target.make())
        batches = stack_batches(frames, runner.spec)
        feeds = {"": Feed(call_of(runner), batches)}
        for peer in peers:
            call = _opened(peer, batches[0], stack, progress)
            if call is not None:
                feeds[peer.name] = Feed(call, batches)
        comparison = compare_calls(feeds, duration_s=duration_s, progress=progress)
    results = []
    for peer in peers:
        if peer.name not in feeds:
            continue
        ratio, interval = comparison.ratio("", peer.name)
        series = series_ms(comparison.samples[peer.name].engine_ns)
        results.append(
            PeerResult(name=peer.name, settings=peer.settings, engine_ms=series, ratio_p50=ratio, ci95=interval)
        )
    return results


def _opened(peer: Peer, batch: U8, stack: ExitStack, progress: Progress) -> Call | None:
    """A peer that made its first mask; None, and said, for one that cannot."""
    try:
        call = stack.enter_context(peer.open())
        call(batch)
    except Exception as error:  # a foreign runtime may raise anything, and a peer is optional
        progress.say(f"{peer.name} is left out: {' '.join(str(error).split())[:200]}")
        return None
    return call


def onnxruntime_peer(model: onnx.ModelProto) -> Peer:
    """Plain ONNX Runtime over a graph, as its quick start has it."""
    settings = "InferenceSession with default options; session.run(None, {'frame': frame})"
    return Peer(f"onnxruntime {package_version('onnxruntime')} fp32", settings, lambda: _plain_onnxruntime(model))


@contextmanager
def _plain_onnxruntime(model: onnx.ModelProto) -> Iterator[Call]:
    import onnxruntime as ort

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    yield _timed(lambda batch: session.run(None, {"frame": batch}))


def _openvino_precisions() -> list[str]:
    from edgeseg.backend import get_builder

    return [precision for precision in ("fp32", "bf16") if precision in get_builder("openvino").precisions]


def _openvino_peer(model: onnx.ModelProto, precision: str) -> Peer:
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]

    @contextmanager
    def opened() -> Iterator[Call]:
        import openvino as ov

        core = ov.Core()
        config = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", config)
        request = compiled.create_infer_request()
        yield _timed(lambda batch: request.infer([batch]))

    settings = f"CPU, PERFORMANCE_HINT=LATENCY, INFERENCE_PRECISION_HINT={hint}; request.infer([frame])"
    return Peer(f"openvino {package_version('openvino')} {precision}", settings, opened)


def _timed(run: Callable[[U8], object]) -> Call:
    def call(batch: U8) -> RunTimes:
        begin_ns = now_ns()
        run(batch)
        return RunTimes(0, now_ns() - begin_ns, 0)

    return call
