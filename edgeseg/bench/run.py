"""One bench: the engine alone, then the live pipeline, and what follows from both."""

from __future__ import annotations

from pathlib import Path

import msgspec

import edgeseg
from edgeseg.bench.against import compare_with, open_other
from edgeseg.bench.frames import engine_frames, source_frames, street_frames
from edgeseg.bench.paced import PacedSamples, measure_paced, paced_source, street_source
from edgeseg.bench.request import BenchRequest, BenchTarget
from edgeseg.bench.result import Against, BenchResult, CaptureToMask, EngineInfo, WarmUpInfo, missing_percentiles
from edgeseg.bench.samples import save_samples
from edgeseg.core.clock import wall_iso
from edgeseg.core.device import fingerprint
from edgeseg.core.metrics import Series, series_ms
from edgeseg.core.progress import Progress
from edgeseg.core.types import RunnerSpec, Stage
from edgeseg.measure import Samples, measure_runner, series_intervals_ms
from edgeseg.sources import open_source


def run_bench(request: BenchRequest, target: BenchTarget, samples_file: Path, progress: Progress) -> BenchResult:
    """See `edgeseg.bench.run_bench`."""
    spec = target.spec
    other = open_other(request.against, frame_size=spec.frame_size, progress=progress) if request.against else None
    pictures = (
        street_frames(spec.frame_size, progress)
        if request.source is None
        else source_frames(open_source(request.source))
    )
    frames = engine_frames(pictures, spec)
    half_s = request.duration_s / 2
    engine = measure_runner(target.make(), frames, duration_s=half_s, progress=progress)
    source = (
        street_source(pictures, request.rate_hz)
        if request.source is None
        else paced_source(request.source, request.rate_hz)
    )
    paced = measure_paced(target.make(), source, name=target.name, duration_s=half_s, progress=progress)
    against = compare_with(other, target, engine, frames, duration_s=half_s, progress=progress) if other else None
    save_samples(samples_file, engine, paced)
    return assemble(target, spec, engine, paced, samples_file=samples_file, against=against)


def assemble(
    target: BenchTarget,
    spec: RunnerSpec,
    engine: Samples,
    paced: PacedSamples,
    *,
    samples_file: Path,
    against: Against | None,
) -> BenchResult:
    """All that follows from the samples."""
    engine_ms, ages_ms = series_ms(engine.engine_ns), series_ms(paced.age_ns)
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
        against=against,
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
