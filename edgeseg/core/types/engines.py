"""What turns frames into masks: runners, and the builders that make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

import msgspec

from edgeseg.core.progress import Progress
from edgeseg.core.types.colour import OPENCV, Colour
from edgeseg.core.types.common import U8, Classes, InputFormat, Precision, Region, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSpec:
    """What a runner takes and gives.

    Attributes:
        frame_size: (H, W) of `frame` and `mask`.
        batch: Frames in one call.
        classes: Vocabulary of the mask.
        depth: Frames that may be in flight at once.
        input_format: Layout of `frame`.
        colour: What the bytes of nv12 and yuyv mean.
        roi: Part of the frame that is segmented; outside of it the mask is the ignore id. None for all of it.
        confidence: Whether the engine also gives a confidence plane.
        backend: Name and version of the runtime.
        precision: Precision that the engine really runs in.
    """

    frame_size: Size
    batch: int
    classes: Classes
    depth: int = 1
    input_format: InputFormat = "bgr"
    colour: Colour = OPENCV
    roi: Region | None = None
    confidence: bool = False
    backend: str = ""
    precision: str = ""

    @classmethod
    def of(cls, spec: EngineSpec, *, backend: str, depth: int = 1) -> RunnerSpec:
        """What a runner over an engine of `spec` takes and gives; `backend` is the runtime's name and version."""
        return cls(
            frame_size=spec.frame_size,
            batch=spec.batch,
            classes=spec.classes,
            depth=depth,
            input_format=spec.input_format,
            colour=spec.colour,
            roi=spec.roi,
            confidence=spec.confidence,
            backend=backend,
            precision=spec.precision,
        )


@dataclass(frozen=True, slots=True)
class RunTimes:
    """Nanoseconds of one engine call; stages that a backend does not have are 0."""

    copy_in_ns: int
    engine_ns: int
    copy_out_ns: int


class Output(Protocol):
    """What an engine gave for one batch, in buffers leased from the runner's ring.

    Leave the `with` block or call `release()` when done: until then the runner never writes into these buffers.
    """

    @property
    def mask_nhw(self) -> U8:
        """uint8 [N, H, W] class ids."""

    @property
    def confidence_nhw(self) -> U8 | None:
        """uint8 [N, H, W], round(255 * largest softmax), where the engine has it."""

    @property
    def times(self) -> RunTimes:
        """Where the time went."""

    def release(self) -> None:
        """Give the buffers back; calling it twice is harmless."""

    def __enter__(self) -> Output: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Ticket:
    """A submitted batch, to be collected once and in order of submission."""

    number: int


@runtime_checkable
class Runner(Protocol):
    """An engine that turns frames into masks. Entered, used and left by one thread.

    Nothing touches the device before `__enter__`; nothing is allocated after the first frame.
    """

    @property
    def spec(self) -> RunnerSpec:
        """What it takes and gives; valid before `__enter__`."""

    def __enter__(self) -> Runner: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def input_view(self) -> U8:
        """Memory of the next submission, [N, H, W, 3]: decode straight into it and submit that array.

        Valid until the next `submit`.
        """

    def submit(self, frames_nhwc: U8, *, lent: bool = False) -> Ticket:
        """Start one batch; blocks while `spec.depth` batches are in flight.

        With `lent` the caller leaves the frames as they are until `collect` has returned, and nothing need be copied.

        Raises:
            RequestError: A batch of another shape or dtype, by name.
            BufferError: Every output buffer is leased out (`free_outputs` is 0).
        """

    def collect(self, ticket: Ticket) -> Output:
        """Wait for a batch."""

    def infer(self, frames_nhwc: U8) -> Output:
        """`collect(submit(frames_nhwc))`."""

    @property
    def free_outputs(self) -> int:
        """Output buffers that are not leased out; at 0 a `submit` would raise BufferError."""


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend builds from one ONNX file, and must give back when it is opened again.

    Attributes:
        frame_size: (H, W), static.
        batch: Static batch.
        precision: What the engine must run in; a backend sets it and reads it back.
        classes: Vocabulary of the mask.
        input_format: Layout of `frame`.
        colour: What the bytes of nv12 and yuyv mean.
        roi: Part of the frame that is segmented; None for all of it.
        confidence: Whether the graph has the output `confidence`.
        threads: CPU threads; 0 lets the runtime choose.
        options: Backend options, by name; unknown ones are refused by the backend.
    """

    frame_size: Size
    batch: int = 1
    precision: Precision = "fp32"
    classes: Classes
    input_format: InputFormat = "bgr"
    colour: Colour = OPENCV
    roi: Region | None = None
    confidence: bool = False
    threads: int = 0
    options: dict[str, str | int | float | bool] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEngine:
    """What a build left in the folder it was given.

    Attributes:
        file: The file that `open` takes, relative to the folder.
        backend: Backend name.
        backend_version: Version of the runtime that built it.
        precision: Precision read back from the runtime.
        layers: Count of layers by precision where the runtime tells, e.g. {"int8": 31, "fp32": 12}.
        same_gpu: For a plan: it runs on the model of GPU that built it, and on no other.
        compute_capabilities: For a plan: what it runs on, for example `8.9`; `8.0+` is that and later. Empty: that of
            the GPU that built it.
        report: Anything else worth keeping in report.json (JSON values).
        can_run_here: False where the machine that built it cannot execute it.
    """

    file: str
    backend: str
    backend_version: str
    precision: Precision
    layers: Mapping[str, int] = field(default_factory=dict)
    same_gpu: bool = True
    compute_capabilities: tuple[str, ...] = ()
    report: Mapping[str, object] = field(default_factory=dict)
    can_run_here: bool = True


class Builder(Protocol):
    """Turns an ONNX file into what one runtime loads, and opens that again."""

    @property
    def name(self) -> str:
        """Name in manifests and options: `onnxruntime`, `openvino`, `tensorrt`, …."""

    @property
    def version(self) -> str:
        """Version of the runtime that is installed."""

    @property
    def precisions(self) -> Sequence[Precision]:
        """Precisions that this runtime really has on this machine."""

    def build(self, model: Path, folder: Path, spec: EngineSpec, progress: Progress = ...) -> BuiltEngine:
        """Build into `folder` (exists, empty of engines)."""

    def open(self, engine: Path, spec: EngineSpec, *, throughput: bool = False) -> Runner:
        """A runner over a built engine file; loads nothing before `__enter__`.

        Args:
            engine: What `build` named.
            spec: What it was built for.
            throughput: Rather more frames a second than each one soon: for files. Several frames may then be in
                flight (`RunnerSpec.depth`). A backend that has no such form gives the same runner either way.
        """
