"""A backend without a network: an injected latency and a mask that follows from the frame alone. For tests.

A bench on it can be checked against the distribution that was put in, and a live loop against masks that say which
frame they came from. It calls itself `null` wherever an engine is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeseg.backend.base import OUTPUTS, BlockingRunner
from edgeseg.backend.options import resolve_options
from edgeseg.backend.ring import Slot
from edgeseg.core.artefacts import write_bytes
from edgeseg.core.clock import now_ns, sleep_until
from edgeseg.core.errors import VerifyError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, BuiltEngine, EngineSpec, Precision, RunnerSpec

ENGINE_FILE = "engine.null.json"
_SPIN_NS = 300_000  # the last part of a wait is spent reading the clock: a sleep overshoots by 50 to 200 microseconds


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """A mixture of two normal distributions, cut off below at zero: a body, and a tail that is hit now and then.

    Attributes:
        ms: Mean of the body.
        sigma_ms: Standard deviation of body and tail.
        tail_ms: Mean of the tail.
        tail_share: Probability of the tail.
        seed: Of the draws.
    """

    ms: float = 0.0
    sigma_ms: float = 0.0
    tail_ms: float = 0.0
    tail_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.ms, self.sigma_ms, self.tail_ms) < 0 or not 0 <= self.tail_share <= 1:
            raise ValueError(f"latencies are not negative and tail_share is 0 to 1; got {self}")

    def draw_ns(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """`n` latencies in nanoseconds."""
        mean_ms = np.where(rng.random(n) < self.tail_share, self.tail_ms, self.ms)
        return np.maximum(rng.normal(mean_ms, self.sigma_ms) * 1e6, 0).astype(np.int64)


def wait_ns(duration_ns: int) -> None:
    """Wait to within a microsecond where the processor is free: sleep, then read the clock."""
    end_ns = now_ns() + duration_ns
    if duration_ns > _SPIN_NS:
        sleep_until(end_ns - _SPIN_NS)
    while now_ns() < end_ns:
        pass


class NullRunner(BlockingRunner):
    """Waits as long as it is told, then gives `frame's first byte of each pixel % number of classes`."""

    _BLOCK = 1024

    def __init__(self, spec: RunnerSpec, latency: Latency, *, outputs: int) -> None:
        super().__init__(spec, outputs=outputs)
        self._latency = latency
        self._slots: Sequence[Slot] = ()
        self._feeds: Sequence[U8] = ()
        self._block = np.zeros(0, dtype=np.int64)
        self._calls = 0

    def _open(self) -> None:
        self._rng = np.random.default_rng(self._latency.seed)
        self._calls = 0

    def _bind(self, inputs: Sequence[U8], slots: Sequence[Slot]) -> None:
        height = self._spec.frame_size[0]
        self._feeds = [
            item[:, :height] if self._spec.input_format == "nv12" else item.reshape(*item.shape[:3], -1)[..., 0]
            for item in inputs
        ]
        self._slots = slots

    def _run(self, feed: int, slot: int) -> None:
        begin_ns = now_ns()
        if self._calls % self._BLOCK == 0:
            self._block = self._latency.draw_ns(self._rng, self._BLOCK)
        end_ns = begin_ns + int(self._block[self._calls % self._BLOCK])
        self._calls += 1
        into = self._slots[slot]
        np.remainder(self._feeds[feed], np.uint8(len(self._spec.classes)), out=into.mask_nhw)
        if into.confidence_nhw is not None:
            into.confidence_nhw.fill(255)
        wait_ns(end_ns - now_ns())

    def _close(self) -> None:
        self._slots, self._feeds = (), ()


class NullBuilder:
    """Writes the latency to a file, and opens that again. Options: the fields of `Latency`, and `outputs`."""

    name = "null"
    version = "1"
    precisions: Sequence[Precision] = ("fp32", "bf16", "fp16", "int8")

    def build(self, model: Path, folder: Path, spec: EngineSpec, progress: Progress | None = None) -> BuiltEngine:
        """Write the latency of `spec.options`; the model is not read."""
        del model, progress
        write_bytes(folder / ENGINE_FILE, msgspec.json.encode(_latency(spec)[0]))
        return BuiltEngine(
            file=ENGINE_FILE,
            backend=self.name,
            backend_version=self.version,
            precision=spec.precision,
            report={"device": "null: an injected latency, no network"},
        )

    def open(self, engine: Path, spec: EngineSpec, *, throughput: bool = False) -> NullRunner:
        """A runner with the latency that was built in; the same for throughput."""
        del throughput
        try:
            latency = msgspec.json.decode(engine.read_bytes(), type=Latency)
        except (OSError, msgspec.DecodeError) as error:
            raise VerifyError("not an engine of the backend null", value=f"{engine}: {error}") from error
        return runner_of(spec, latency, outputs=_latency(spec)[1])


def runner_of(spec: EngineSpec, latency: Latency, *, outputs: int) -> NullRunner:
    """A null runner without a file."""
    return NullRunner(
        RunnerSpec.of(spec, backend="null 1"),
        latency,
        outputs=outputs,
    )


def _latency(spec: EngineSpec) -> tuple[Latency, int]:
    defaults = {**msgspec.structs.asdict(Latency()), "outputs": OUTPUTS}
    options = resolve_options(spec.options, defaults, backend="null")
    outputs = int(options.pop("outputs"))
    return msgspec.convert(options, Latency), outputs
