"""One bench: the engine alone, then the live pipeline, then what else was asked for, and what follows from it all."""

from __future__ import annotations

from pathlib import Path

import msgspec

import edgeseg
from edgeseg.bench.accuracy import score
from edgeseg.bench.against import compare_with, look_up, open_other
from edgeseg.bench.cold import measure_cold
from edgeseg.bench.frames import engine_frames, source_frames, street_frames
from edgeseg.bench.layers import predict_targets, profile_bundle, target_peaks
from edgeseg.bench.loadgen_result import LoadGenResult
from edgeseg.bench.monitor import Readings, monitored
from edgeseg.bench.paced import PacedSamples, measure_paced, paced_source, street_source
from edgeseg.bench.peers import PeerResult, compare_peers, find_peers
from edgeseg.bench.request import BenchRequest, BenchTarget
from edgeseg.bench.result import BenchResult, CaptureToMask, EngineInfo, WarmUpInfo, missing_percentiles
from edgeseg.bench.samples import save_samples
from edgeseg.bench.sustained import sustained
from edgeseg.bench.trtexec_peer import run_trtexec
from edgeseg.bundle import open_runner
from edgeseg.core.clock import wall_iso
from edgeseg.core.deps import require
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import RequestError
from edgeseg.core.metrics import Series, series_ms
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, RunnerSpec, Stage
from edgeseg.data import open_dataset
from edgeseg.measure import Samples, measure_runner, series_intervals_ms
from edgeseg.sources import open_source


def run_bench(request: BenchRequest, target: BenchTarget, samples_file: Path, progress: Progress) -> BenchResult:
    """See `edgeseg.bench.run_bench`."""
    spec = target.spec
    _check(request, target)
    dataset = open_dataset(request.data, request.split) if request.data else None
    other = open_other(request.against, frame_size=spec.frame_size, progress=progress) if request.against else None
    pictures = _pictures(request, spec, progress)
    frames = engine_frames(pictures, spec)
    half_s = request.duration_s / 2
    with monitored() as monitor:
        engine = measure_runner(target.make(), frames, duration_s=half_s, progress=progress)
        if request.source is None:
            source = street_source(pictures, request.rate_hz)
        else:
            source = paced_source(request.source, request.rate_hz)
        paced = measure_paced(target.make(), source, name=target.name, duration_s=half_s, progress=progress)
    save_samples(samples_file, engine, paced)
    result = assemble(target, spec, engine, paced, monitor.readings(), samples_file)
    against = compare_with(other, target, engine, frames, duration_s=half_s, progress=progress) if other else None
    loadgen = _loadgen(request, target, frames, samples_file, progress)
    return msgspec.structs.replace(
        _with_inside(result, request, target, engine, frames, progress),
        against=against,
        loadgen=loadgen,
        accuracy=score(target, dataset, progress) if dataset else None,
    )


def _with_inside(
    result: BenchResult,
    request: BenchRequest,
    target: BenchTarget,
    engine: Samples,
    frames: list[U8],
    progress: Progress,
) -> BenchResult:
    """What only a bundle has: layers, peers, predictions, a cold start."""
    bundle = target.bundle
    if bundle is None:
        return result
    if request.layers:
        times, roof = profile_bundle(bundle, frames, progress)
        result = msgspec.structs.replace(result, layer_times=times, roofline=roof)
    if request.peers or request.torch_run:
        result = msgspec.structs.replace(result, peers=_peers(request, target, engine, frames, progress))
    if request.predict:
        result = msgspec.structs.replace(result, predictions=predict_targets(bundle, request.predict))
    if request.cold:
        result = msgspec.structs.replace(result, cold=measure_cold(bundle.path, progress))
    return result


def _peers(
    request: BenchRequest, target: BenchTarget, engine: Samples, frames: list[U8], progress: Progress
) -> list[PeerResult]:
    """Peers in turns with the engine, and trtexec where it has a plan to run."""
    half_s = request.duration_s / 2
    peers = find_peers(target)
    if request.torch_run:
        require("torch", what="edgeseg bench --torch")
        from edgeseg.bench.torch_peer import torch_peers

        peers += torch_peers(Path(request.torch_run))
    results = compare_peers(target, peers, frames, duration_s=half_s, progress=progress)
    second = run_trtexec(target, engine, duration_s=half_s)
    return [*results, second] if second else results


def _loadgen(
    request: BenchRequest, target: BenchTarget, frames: list[U8], samples_file: Path, progress: Progress
) -> list[LoadGenResult]:
    """LoadGen's scenarios; its logs go beside the samples."""
    if not request.loadgen:
        return []
    from edgeseg.bench.loadgen import run_loadgen

    results = []
    with progress.task("MLPerf LoadGen", len(request.loadgen)) as task:
        for scenario in request.loadgen:
            logs = samples_file.with_suffix("") / "loadgen" / scenario
            share_s = request.duration_s / 2 / len(request.loadgen)
            bundle = target.bundle if scenario == "Offline" else None  # throughput is all that counts there
            runner = open_runner(bundle, throughput=True) if bundle is not None else target.make()
            results.append(run_loadgen(runner, frames, scenario, logs, min_duration_s=share_s))
            task.advance(note=scenario)
    return results


def check_request(request: BenchRequest) -> None:
    """See `edgeseg.bench.check_bench`."""
    if request.source is not None:
        open_source(request.source)
    if request.against is not None:
        look_up(request.against)
    if request.data is not None:
        open_dataset(request.data, request.split)
    _check_extras(request)


def _check_extras(request: BenchRequest) -> None:
    if request.loadgen:
        require("mlperf_loadgen", what="edgeseg bench --loadgen")
    for name in request.predict:
        target_peaks(name)
    if request.torch_run:
        require("torch", what="edgeseg bench --torch")
        from edgeseg.model import load_run

        load_run(Path(request.torch_run))


def _check(request: BenchRequest, target: BenchTarget) -> None:
    _check_extras(request)
    asked = [name for name in ("layers", "peers", "torch_run", "predict", "cold") if getattr(request, name)]
    if asked and target.bundle is None:
        raise RequestError("these need a bundle", value=", ".join(asked), allowed="a bundle, an ONNX file or zoo:NAME")


def _pictures(request: BenchRequest, spec: RunnerSpec, progress: Progress) -> list[U8]:
    if request.source is None:
        return street_frames(spec.frame_size, progress)
    return source_frames(open_source(request.source))


def assemble(
    target: BenchTarget,
    spec: RunnerSpec,
    engine: Samples,
    paced: PacedSamples,
    readings: Readings,
    samples_file: Path,
) -> BenchResult:
    """All that follows from the samples and readings."""
    engine_ms, ages_ms = series_ms(engine.engine_ns), series_ms(paced.age_ns)
    span_ns = int(engine.start_ns[0]), int(engine.start_ns[-1] + engine.call_ns[-1])
    energy_j = readings.energy_j(*span_ns)
    return BenchResult(
        engine_ms=engine_ms,
        capture_to_mask_ms=CaptureToMask(
            **msgspec.structs.asdict(ages_ms), rate_hz=paced.rate_hz, source=paced.source, clock=paced.clock
        ),
        stages_ms=_stages(paced),
        fps=paced.fps,
        drops=paced.drops,
        deadline_misses=paced.deadline_misses,
        stable=engine.stable,
        device=fingerprint(),
        power_w=None if energy_j is None else energy_j / ((span_ns[1] - span_ns[0]) / 1e9),
        joules_per_frame=None if energy_j is None else energy_j / (len(engine.engine_ns) * spec.batch),
        samples_file=str(samples_file),
        edgeseg=edgeseg.__version__,
        created=wall_iso(),
        engine=engine_info(target, spec),
        engine_fps=engine.fps,
        warm_up=WarmUpInfo(
            calls=engine.warm_up.calls,
            duration_ms=engine.warm_up.duration_ns / 1e6,
            stable=engine.warm_up.stable,
            medians_ms=engine.warm_up.medians_ms,
        ),
        collections=engine.collections,
        intervals_ms={
            "engine": series_intervals_ms(engine.engine_ns),
            "capture_to_mask": series_intervals_ms(paced.age_ns),
        },
        notes=_notes(spec, engine, paced, engine_ms, ages_ms),
        readings=readings,
        engine_span_ns=span_ns,
        sustained=sustained(engine, readings),
    )


def engine_info(target: BenchTarget, spec: RunnerSpec) -> EngineInfo:
    """What ran, from the bundle where there is one."""
    manifest = target.bundle.manifest if target.bundle else None
    return EngineInfo(
        name=target.name,
        backend=spec.backend,
        precision=spec.precision,
        frame_size=spec.frame_size,
        bundle_id=target.bundle.id if target.bundle else "",
        model=manifest.model.name if manifest else "",
        layers=dict(manifest.engine.layers) if manifest else {},
    )


def _stages(paced: PacedSamples) -> dict[str, Series]:
    """Series of each stage, over the frames that went through it; the sink's comes from the loop itself."""
    series = {stage.value: series_ms(values[values >= 0]) for stage, values in paced.stages_ns.items()}
    series[Stage.SINK.value] = paced.summary.stages_ms[Stage.SINK.value]
    return series


def _notes(spec: RunnerSpec, engine: Samples, paced: PacedSamples, engine_ms: Series, ages_ms: Series) -> list[str]:
    notes = []
    if spec.backend.startswith("null"):
        notes.append("the engine is `null`: an injected latency, no network")
    if not engine.stable:
        medians = " ".join(f"{value:.2f}" for value in engine.warm_up.medians_ms[-3:])
        notes.append(f"the engine never became stable: medians of its last windows were {medians} ms")
    notes += missing_percentiles("engine", engine_ms, engine.fps)
    notes += missing_percentiles("capture to mask", ages_ms, paced.fps)
    if paced.rate_hz and engine.fps and engine.fps < paced.rate_hz:
        notes.append(f"the engine makes {engine.fps:.1f} frames/s, the source {paced.rate_hz:g}: frames must drop")
    return notes
