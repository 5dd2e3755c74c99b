"""`edgeseg bench --suite F.toml`: models x sizes x engines in interleaved runs, written down as a page."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import msgspec

from edgeseg.bench.accuracy import score
from edgeseg.bench.frames import street_frames
from edgeseg.bench.layers import engine_graph, profile_bundle
from edgeseg.bench.paced import measure_paced, street_source
from edgeseg.bench.peaks import Peaks, probe_peaks
from edgeseg.bench.peers import onnxruntime_peer
from edgeseg.bench.request import BenchTarget
from edgeseg.bundle import open_bundle, open_runner
from edgeseg.core.clock import wall_iso
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import EdgesegError, RequestError, UnavailableError
from edgeseg.core.metrics import Series, series_ms
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, DeviceInfo, Precision, Size, format_size
from edgeseg.core.workspace import cache_dir, lock, resolve_model
from edgeseg.data import open_dataset
from edgeseg.deploy import BuildRequest, build_bundle
from edgeseg.deploy.default import build_key
from edgeseg.measure import Comparison, series_intervals_ms
from edgeseg.measure.compare import Feed, compare_calls
from edgeseg.measure.timing import call_of, stack_batches

REFERENCE = "onnxruntime fp32, plain"
"""What every ratio is against: the exported graph in ONNX Runtime with default options."""


_TARGET = "cpu"


class EngineChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One engine of a suite: backend and precision."""

    backend: str
    precision: Precision


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """A suite file.

    Attributes:
        title: Heading of the page.
        models: `zoo:NAME` or paths.
        sizes: Frame sizes, HEIGHTxWIDTH.
        engines: Backend and precision of each row.
        duration_s: Interleaved time for each engine of one model and size.
        paced_s: Time of the live pipeline for each engine.
        rate_hz: Its pace.
        data: Labelled data to score each engine on; none by default.
        split: Its split.
        frames: Calibration frames for INT8 of models that ship no ranges.
        layers: Whether to place each engine under the device's roof.
        out: Page to write; plots go beside it.
    """

    title: str = "Benchmarks"
    models: tuple[str, ...]
    sizes: tuple[str, ...] = ("360x480",)
    engines: tuple[EngineChoice, ...]
    duration_s: float = 5.0
    paced_s: float = 5.0
    rate_hz: float = 30.0
    data: str | None = None
    split: str = "val"
    frames: str | None = None
    layers: bool = True
    out: str = "docs/benchmarks.md"

    def __post_init__(self) -> None:
        if not self.models or not self.engines or not self.sizes:
            raise ValueError("a suite needs models, sizes and engines")


class SuiteRow(msgspec.Struct, frozen=True, kw_only=True):
    """One engine of one model at one size.

    Attributes:
        model: As the suite names it.
        size: Frame size.
        engine: Runtime with version, and precision.
        precision: Precision read back.
        engine_ms: Of the interleaved run.
        p50_ci95: Interval of its median.
        ratio: Median over that of `REFERENCE` in the same run.
        ratio_ci95: Its interval.
        stable: Whether the warm-up became stable.
        capture_to_mask_ms: Of the live pipeline, on its own; None for the reference, which has none.
        fps: Masks a second of the pipeline.
        limit_ms: The roof's limit; None where the runtime tells no layers.
        miou: Where data was given.
        layers: Layers by precision.
    """

    model: str
    size: str
    engine: str
    precision: str
    engine_ms: Series
    p50_ci95: tuple[float, float] | None
    ratio: float
    ratio_ci95: tuple[float, float]
    stable: bool
    capture_to_mask_ms: Series | None = None
    fps: float | None = None
    limit_ms: float | None = None
    miou: float | None = None
    layers: dict[str, int] = {}


class SuiteResult(msgspec.Struct, frozen=True, kw_only=True):
    """All rows, and where they were measured."""

    suite: Suite
    rows: list[SuiteRow]
    device: DeviceInfo
    peaks: dict[str, Peaks]
    created: str
    notes: list[str]


def run_suite(suite: Suite, progress: Progress) -> SuiteResult:
    """Build what is missing, measure, and gather the rows; see `edgeseg.bench.run_suite`."""
    rows: list[SuiteRow] = []
    notes: list[str] = []
    peaks: dict[str, Peaks] = {}
    for model in suite.models:
        for size in suite.sizes:
            progress.say(f"{model} at {size}")
            targets = _targets(suite, model, _size(size), notes, progress)
            rows += _measure(suite, model, size, targets, peaks, progress)
    return SuiteResult(
        suite=suite, rows=rows, device=fingerprint(), peaks=peaks, created=wall_iso(), notes=list(dict.fromkeys(notes))
    )


def _targets(suite: Suite, model: str, size: Size, notes: list[str], progress: Progress) -> list[BenchTarget]:
    targets = []
    for choice in suite.engines:
        name = f"{choice.backend} {choice.precision}"
        try:
            bundle = open_bundle(_bundle(suite, model, size, choice, progress))
        except UnavailableError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        targets.append(BenchTarget(name, lambda bundle=bundle: open_runner(bundle), bundle))  # type: ignore[misc]
    if not targets:
        raise RequestError("no engine of the suite can run here", value="; ".join(notes))
    return targets


def _bundle(suite: Suite, model: str, size: Size, choice: EngineChoice, progress: Progress) -> Path:
    """A bundle of one engine, built once and kept in the cache by all that it is made from."""
    path = resolve_model(model)
    key = _key(suite, model, size, choice)
    folder = cache_dir() / "suite" / f"{path.stem}-{format_size(size)}-{choice.backend}-{choice.precision}-{key[:12]}"
    with lock(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            request = BuildRequest(
                model=model,
                target=_TARGET,
                precision=choice.precision,
                backend=choice.backend,
                frame_size=size,
                frames=suite.frames if choice.precision == "int8" else None,
            )
            build_bundle(request, folder, progress)
    return folder


def _key(suite: Suite, model: str, size: Size, choice: EngineChoice) -> str:
    return build_key(model, size, _TARGET, choice.backend, choice.precision, str(suite.frames))


def _measure(
    suite: Suite, model: str, size: str, targets: list[BenchTarget], peaks: dict[str, Peaks], progress: Progress
) -> list[SuiteRow]:
    frames = street_frames(_size(size), progress)
    dataset = open_dataset(suite.data, suite.split) if suite.data else None
    first = targets[0].bundle
    assert first is not None
    with ExitStack() as stack:
        runners = {target.name: stack.enter_context(target.make()) for target in targets}
        plain = stack.enter_context(onnxruntime_peer(engine_graph(first)).open())
        feeds = {name: Feed(call_of(runner), stack_batches(frames, runner.spec)) for name, runner in runners.items()}
        feeds[REFERENCE] = Feed(plain, feeds[targets[0].name].batches)
        comparison = compare_calls(feeds, duration_s=suite.duration_s * len(feeds), progress=progress)
    rows = [_row(model, size, REFERENCE, "fp32", comparison, REFERENCE)]
    for target in targets:
        spec = target.spec
        row = _row(model, size, _label(target), spec.precision, comparison, target.name)
        source = street_source(frames, suite.rate_hz)
        paced = measure_paced(target.make(), source, name=target.name, duration_s=suite.paced_s, progress=progress)
        rows.append(
            msgspec.structs.replace(
                row,
                capture_to_mask_ms=series_ms(paced.age_ns),
                fps=paced.fps,
                limit_ms=_limit_ms(suite, target, frames, peaks, progress),
                miou=score(target, dataset, progress).miou if dataset else None,
                layers=dict(target.bundle.manifest.engine.layers) if target.bundle else {},
            )
        )
    return rows


def _label(target: BenchTarget) -> str:
    """Runtime, precision, and that of the layers which an INT8 engine leaves unquantised."""
    spec = target.spec
    floats = target.bundle.manifest.spec.options.get("float_precision", "fp32") if target.bundle else "fp32"
    mixed = f" + {floats}" if spec.precision == "int8" and floats != "fp32" else ""
    return f"{spec.backend} {spec.precision}{mixed}"


def _row(model: str, size: str, engine: str, precision: str, comparison: Comparison, name: str) -> SuiteRow:
    samples = comparison.samples[name]
    ratio, ci95 = comparison.ratio(name, REFERENCE)
    return SuiteRow(
        model=model,
        size=size,
        engine=engine,
        precision=precision,
        engine_ms=series_ms(samples.engine_ns),
        p50_ci95=series_intervals_ms(samples.engine_ns).get("p50"),
        ratio=ratio,
        ratio_ci95=ci95,
        stable=samples.stable,
    )


def _limit_ms(
    suite: Suite, target: BenchTarget, frames: list[U8], peaks: dict[str, Peaks], progress: Progress
) -> float | None:
    bundle = target.bundle
    if bundle is None or not suite.layers:
        return None
    backend = bundle.manifest.engine.backend
    if backend not in peaks:
        peaks[backend] = probe_peaks(backend, ("fp32", "bf16", "int8"), progress)
    try:
        return profile_bundle(bundle, frames, progress, peaks=peaks[backend])[1].limit_ms
    except EdgesegError as error:
        progress.say(f"{target.name} tells no layers: {error}")
        return None


def _size(text: str) -> Size:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise RequestError("not a size", value=text, allowed="HEIGHTxWIDTH, for example 360x480")
    return int(height), int(width)
