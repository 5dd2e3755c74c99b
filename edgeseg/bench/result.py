"""What a bench found: the JSON that other programs read, and the fuller record that `--save` keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgeseg.backend.profiling import LayerTime
from edgeseg.bench.accuracy import Accuracy
from edgeseg.bench.cold import ColdStart
from edgeseg.bench.layers import Prediction
from edgeseg.bench.loadgen_result import LoadGenResult
from edgeseg.bench.monitor import Readings
from edgeseg.bench.peers import PeerResult
from edgeseg.bench.roofline import Roofline
from edgeseg.bench.sustained import Sustained
from edgeseg.core.artefacts import write_bytes
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.core.metrics import TAIL_SAMPLES, Series
from edgeseg.core.types import DeviceInfo

FORMAT = 1
"""Version of a saved result."""

PERCENTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


class CaptureToMask(Series, frozen=True, kw_only=True):
    """A series of ages, with where the frames and their capture times come from."""

    rate_hz: float | None
    source: str
    clock: str


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """How another engine or an earlier result compares.

    Attributes:
        engine_ms: Of the other one.
        ratio_p50: Our median over its median: under 1 is faster.
        ci95: 95 % interval of the ratio.
        interleaved: True where both ran in turns in this very run; False for a saved result, whose machine may have
            been hotter, busier or another one.
        name: Of the other one.
    """

    engine_ms: Series
    ratio_p50: float
    ci95: tuple[float, float]
    interleaved: bool = True
    name: str = ""


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The engine under test."""

    name: str
    backend: str
    precision: str
    frame_size: tuple[int, int]
    bundle_id: str = ""
    model: str = ""
    layers: dict[str, int] = {}


class WarmUpInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine came to be warm."""

    calls: int
    duration_ms: float
    stable: bool
    medians_ms: tuple[float, ...]


class BenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """One bench. The first block is the contract of `bench --json`; the rest is kept by `--save`.

    Attributes:
        engine_ms: The engine alone, back to back.
        capture_to_mask_ms: The live pipeline, paced.
        stages_ms: Of the paced frames, by stage.
        fps: Masks a second of the paced pipeline.
        drops: Of the paced pipeline, by reason.
        deadline_misses: Paced frames whose mask came more than one period after capture, or never.
        stable: Whether the engine's warm-up became stable.
        device: Where it ran.
        power_w: Mean power while the engine ran back to back; None where no sensor tells.
        joules_per_frame: Energy of that time over its frames.
        against: Comparison; None where none was asked for.
        samples_file: Raw samples (npz).
        format: Version of this record.
        edgeseg: Version of the package.
        created: UTC.
        engine: What ran.
        engine_fps: Frames a second back to back.
        warm_up: What came before the first sample.
        collections: Runs of the garbage collector in the back-to-back half; it stays on, as in the live loop.
        intervals_ms: 95 % intervals of the percentiles, by series.
        notes: What a reader should know, in plain words.
        readings: Sensors beside both halves.
        engine_span_ns: Monotonic begin and end of the back-to-back half; None in results without readings.
        layer_times: Layers as the runtime executed them.
        roofline: The same layers under the roof.
        peers: Other runtimes in turns with the engine.
        predictions: Limits of boards that are not here.
        cold: Fresh processes.
        loadgen: MLPerf LoadGen's view of the same engine.
        accuracy: Scores on labelled data.
        sustained: First minute against last; None for a short run.
    """

    engine_ms: Series
    capture_to_mask_ms: CaptureToMask
    stages_ms: dict[str, Series]
    fps: float | None
    drops: dict[str, int]
    deadline_misses: int | None
    stable: bool
    device: DeviceInfo
    power_w: float | None = None
    joules_per_frame: float | None = None
    against: Against | None = None
    samples_file: str

    format: int = FORMAT
    edgeseg: str
    created: str
    engine: EngineInfo
    engine_fps: float | None
    warm_up: WarmUpInfo
    collections: int
    intervals_ms: dict[str, dict[str, tuple[float, float]]]
    notes: list[str]
    readings: Readings | None = None
    engine_span_ns: tuple[int, int] | None = None
    layer_times: list[LayerTime] = []
    roofline: Roofline | None = None
    peers: list[PeerResult] = []
    predictions: list[Prediction] = []
    cold: ColdStart | None = None
    loadgen: list[LoadGenResult] = []
    accuracy: Accuracy | None = None
    sustained: Sustained | None = None


_CONTRACT = (
    *("engine_ms", "capture_to_mask_ms", "stages_ms", "fps", "drops", "deadline_misses", "stable", "device"),
    *("power_w", "joules_per_frame", "against", "samples_file"),
)


def answer(result: BenchResult) -> dict[str, object]:
    """The object of `bench --json`: exactly the contract's keys."""
    plain = msgspec.to_builtins(result)
    chosen: dict[str, object] = {key: plain[key] for key in _CONTRACT}
    against = plain["against"]
    if against is not None:
        chosen["against"] = {key: against[key] for key in ("engine_ms", "ratio_p50", "ci95")}
    return chosen


def save_result(path: Path, result: BenchResult) -> None:
    """Write everything as JSON."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def load_result(path: Path) -> BenchResult:
    """Read a result that `save_result` wrote.

    Raises:
        RequestError: There is no such file.
        VerifyError: It is none, or of a newer format.
    """
    if not path.is_file():
        raise RequestError("the result does not exist", value=path, fix="edgeseg bench BUNDLE --save RESULT.json")
    try:
        return msgspec.json.decode(path.read_bytes(), type=BenchResult)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VerifyError(
            "not a saved bench result", value=f"{path}: {error}", allowed=f"format {FORMAT}, as --save writes it"
        ) from None


def missing_percentiles(title: str, series: Series, fps: float | None) -> list[str]:
    """What a series is too short to tell, and the `--duration` that would tell the next percentile."""
    missing = [name for name in PERCENTILES if getattr(series, name) is None]
    if not missing:
        return []
    needed = round(TAIL_SAMPLES / (1 - PERCENTILES[missing[0]]))
    longer = f": --duration {_duration(2 * needed / fps)} for them" if fps else ""
    names = ", ".join(label(name) for name in missing)
    return [f"{title}: {series.n} samples say nothing about {names}; {label(missing[0])} needs {needed}{longer}"]


def label(name: str) -> str:
    """`p99.9` for `p999`."""
    return "p99.9" if name == "p999" else name


def _duration(seconds: float) -> str:
    return f"{math.ceil(seconds)}s" if seconds < 120 else f"{math.ceil(seconds / 60)}m"
