"""What a bench is asked for, and the engine that it is asked about."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeseg.bench.loadgen_result import Scenario
from edgeseg.bundle import Bundle, open_bundle, open_runner
from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Progress
from edgeseg.core.types import Runner, RunnerSpec, Size
from edgeseg.deploy import default_bundle
from edgeseg.live.engine import look_up_model

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h)?")
_UNITS_S = {"ms": 1e-3, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0}


class BenchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One bench.

    Attributes:
        source: What the paced half plays; None renders street frames before the clock starts.
        rate_hz: Pace of the paced half; a camera keeps its own.
        duration_s: Measured time: half of it back to back, half of it paced. Warm-up comes on top, and with
            `against` another half for the interleaved run.
        against: A bundle, ONNX file, `zoo:NAME` or saved result to compare with.
        layers: Also profile the layers and place them under the device's roof.
        peers: Also run the same network in other runtimes, in turns with the engine.
        torch_run: RUN folder to compare with in torch, eager and compiled; implies `peers`.
        predict: Target recipes to predict the limit of this network for.
        cold: Also time the first mask of a fresh process.
        loadgen: MLPerf LoadGen scenarios to run as well.
        data: Labelled data to score the engine on.
        split: Its split.
    """

    source: str | None = None
    rate_hz: float = 30.0
    duration_s: float = 20.0
    against: str | None = None
    layers: bool = False
    peers: bool = False
    torch_run: str | None = None
    predict: tuple[str, ...] = ()
    cold: bool = False
    loadgen: tuple[Scenario, ...] = ()
    data: str | None = None
    split: str = "val"

    def __post_init__(self) -> None:
        if not 0.2 <= self.rate_hz <= 1000:
            raise ValueError(f"rate_hz is {self.rate_hz}; allowed: 0.2 to 1000")
        if not 0.1 <= self.duration_s <= 24 * 3600:
            raise ValueError(f"duration_s is {self.duration_s}; allowed: 0.1 s to 24 h")


@dataclass(frozen=True, slots=True)
class BenchTarget:
    """An engine under test.

    Attributes:
        name: For tables and plots.
        make: Opens a fresh runner, not yet entered.
        bundle: Where it comes from; None for a runner that was handed in.
    """

    name: str
    make: Callable[[], Runner]
    bundle: Bundle | None = None

    @property
    def spec(self) -> RunnerSpec:
        """What it takes and gives; loads nothing."""
        return self.make().spec


def parse_duration_s(text: str) -> float:
    """Seconds from `20`, `20s`, `500ms`, `30m` or `1h`.

    Raises:
        RequestError: None of these.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise RequestError("not a duration", value=text, allowed="a number with s, m, h or ms: 20s, 30m")
    return float(match["number"]) * _UNITS_S[match["unit"]]


def look_up_engine(reference: str) -> Bundle | None:
    """The bundle of that name; None for a model, of which one will be built.

    Raises:
        RequestError: Nothing of that name.
        VerifyError: It does not verify, or does not fit this machine.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        return open_bundle(path)
    look_up_model(reference)
    return None


def open_bench_target(reference: str, *, frame_size: Size | None = None, progress: Progress) -> BenchTarget:
    """The engine that a person names.

    Args:
        reference: A bundle folder; or an ONNX file or `zoo:NAME`, whose default bundle for this device is used.
        frame_size: Frame size of a default bundle; None takes the size that the model was trained at.
        progress: Shown while a default bundle is built.

    Raises:
        RequestError: Nothing of that name.
        VerifyError: It does not verify, or does not fit this machine.
    """
    bundle = look_up_engine(reference)
    name = reference if bundle is None else bundle.path.name
    if bundle is None:
        bundle = open_bundle(default_bundle(reference, frame_size, progress))
    opened = bundle
    return BenchTarget(name=name, make=lambda: open_runner(opened), bundle=opened)
