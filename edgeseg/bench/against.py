"""`--against`: another engine in the same interleaved run, or an earlier result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.bench.frames import engine_frames
from edgeseg.bench.request import BenchTarget, look_up_engine, open_bench_target
from edgeseg.bench.result import Against, load_result
from edgeseg.bench.samples import load_engine_ns
from edgeseg.core.errors import GateError, RequestError
from edgeseg.core.metrics import series_ms
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, Size
from edgeseg.measure import Samples, compare_runners, ratio_interval


@dataclass(frozen=True, slots=True)
class SavedResult:
    """An earlier result: its name, and the engine times that were kept, int64 [n]."""

    name: str
    engine_ns: NDArray[np.int64]


Other = BenchTarget | SavedResult
"""What `--against` named."""


def look_up(reference: str) -> None:
    """Find what `open_other` will open, and build nothing.

    Raises:
        RequestError: Nothing of that name.
        VerifyError: A result, model or bundle that does not verify.
    """
    if reference.endswith(".json"):
        open_saved(Path(reference))
    else:
        look_up_engine(reference)


def open_other(reference: str, *, frame_size: Size, progress: Progress) -> Other:
    """What to compare with, checked before anything is measured.

    Args:
        reference: A bundle, ONNX file or `zoo:NAME`, which then runs in turns with the engine under test; or a result
            of `--save`, whose kept samples are compared.
        frame_size: Frame size of a default bundle.
        progress: Shown while one is built.
    """
    if reference.endswith(".json"):
        return open_saved(Path(reference))
    return open_bench_target(reference, frame_size=frame_size, progress=progress)


def compare_with(
    other: Other, target: BenchTarget, engine: Samples, frames: list[U8], *, duration_s: float, progress: Progress
) -> Against:
    """Compare an engine with another one, in turns, or with what is kept of an earlier run.

    Args:
        other: As `open_other` gave it.
        target: The engine under test.
        engine: Its back-to-back samples.
        frames: At the engine's frame size.
        duration_s: Length of the interleaved run.
        progress: Where to show it.
    """
    if isinstance(other, SavedResult):
        return with_result(other, engine)
    return with_target(other, target, frames, duration_s=duration_s, progress=progress)


def with_target(
    other: BenchTarget, target: BenchTarget, frames: list[U8], *, duration_s: float, progress: Progress
) -> Against:
    """Both engines in turns."""
    pictures = {"this": frames, "other": engine_frames(frames, other.spec)}
    comparison = compare_runners(
        {"this": target.make(), "other": other.make()}, pictures, duration_s=duration_s, progress=progress
    )
    ratio, interval = comparison.ratio("this", "other")
    return Against(
        engine_ms=series_ms(comparison.samples["other"].engine_ns), ratio_p50=ratio, ci95=interval, name=other.name
    )


def open_saved(path: Path) -> SavedResult:
    """Read a result and its samples.

    Raises:
        RequestError: There is no such file.
        VerifyError: It is no result, or its samples are gone.
    """
    saved = load_result(path)
    return SavedResult(saved.engine.name, load_engine_ns(path.parent / saved.samples_file))


def with_result(saved: SavedResult, engine: Samples) -> Against:
    """An earlier result: not interleaved, and it says so.

    Raises:
        RequestError: Too few samples on either side.
    """
    found = ratio_interval(engine.engine_ns, saved.engine_ns)
    if found is None:
        counts = f"{len(engine.engine_ns)} and {len(saved.engine_ns)}"
        raise RequestError("too few samples to compare", value=counts, allowed="20 on both sides: a longer --duration")
    return Against(
        engine_ms=series_ms(saved.engine_ns), ratio_p50=found[0], ci95=found[1], interleaved=False, name=saved.name
    )


def check_not_slower(against: Against, percent: float) -> None:
    """The gate of `--fail-if-slower`.

    Slower means both: the ratio is over the budget, and its interval lies above 1, so that noise alone fails nothing.

    Raises:
        GateError: It is slower.
    """
    low, high = against.ci95
    if against.ratio_p50 > 1 + percent / 100 and low > 1:
        raise GateError(
            f"slower than {against.name} by more than {percent:g} %",
            value=f"{100 * (against.ratio_p50 - 1):+.1f} %, interval {100 * (low - 1):+.1f} to {100 * (high - 1):+.1f}",
            allowed=f"at most {percent:g} %",
        )
