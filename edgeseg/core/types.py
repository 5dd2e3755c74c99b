"""The nouns that rooms hand each other: classes, frames, results, specs, and the Protocols of the replaceable parts.

Layout is in the name: `_hwc` is [height, width, channel], `_nhwc` a batch of those, `_hw` a plane of class ids.
Colour pictures are BGR, as OpenCV gives them; palettes are RGB, as PNG writes them. Sizes are (height, width).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.clock import CaptureClock
from edgeseg.core.progress import Progress

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Size = tuple[int, int]
"""(height, width) in pixels."""

Precision = Literal["fp32", "bf16", "fp16", "int8"]
InputFormat = Literal["bgr", "nv12", "yuyv"]


class Classes(msgspec.Struct, frozen=True, kw_only=True):
    """The class vocabulary of a data set, model or bundle.

    Attributes:
        names: One name per id, 0 to n-1.
        palette_rgb: One RGB colour per id.
        ignore_id: The id of "no class": ignored by every metric, and what a mask PNG without a mask is filled with.
    """

    names: tuple[str, ...]
    palette_rgb: tuple[tuple[int, int, int], ...]
    ignore_id: int = 255

    def __len__(self) -> int:
        return len(self.names)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.palette_rgb):
            raise ValueError(f"{len(self.names)} class names but {len(self.palette_rgb)} colours")
        if not 1 <= len(self.names) <= 255:
            raise ValueError(f"{len(self.names)} classes; allowed: 1 to 255")
        if not len(self.names) <= self.ignore_id <= 255:
            raise ValueError(f"ignore id {self.ignore_id}; allowed: {len(self.names)} to 255")


def format_size(size: Size) -> str:
    """A size as people write it in this toolkit: HEIGHTxWIDTH."""
    return f"{size[0]}x{size[1]}"


class DeviceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One machine, as `core.device.fingerprint` reads it.

    Attributes:
        machine: Processor architecture, `x86_64` or `aarch64`.
        cpu: Model name of the processor.
        cpu_features: Instruction sets that decide an engine's fit, sorted.
        cores: Processors that this process may use.
        memory_mb: Installed memory in MiB.
        os: Distribution name and version.
        python: Python version.
        board: Jetson module, by device tree.
        l4t: NVIDIA L4T release, for example `36.4.3`.
        gpu: GPU name.
        compute_capability: For example `8.7`; known for Jetson modules and where a runtime told it.
        driver: NVIDIA driver version.
        cuda: CUDA runtime version, where a runtime told it.
    """

    machine: str = ""
    cpu: str = ""
    cpu_features: tuple[str, ...] = ()
    cores: int = 0
    memory_mb: int = 0
    os: str = ""
    python: str = ""
    board: str | None = None
    l4t: str | None = None
    gpu: str | None = None
    compute_capability: str | None = None
    driver: str | None = None
    cuda: str | None = None

    def summary(self) -> str:
        """One line for tables and reports."""
        place = self.board or self.cpu
        gpu = f", {self.gpu}" if self.gpu and not self.board else ""
        return f"{place}{gpu}, {self.cores} cores, {self.memory_mb / 1024:.0f} GiB, {self.os}"


# ---------------------------------------------------------------- data


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A labelled frame: `image_hwc` uint8 BGR, `label_hw` uint8 class ids (ignore id where unlabelled)."""

    name: str
    image_hwc: U8
    label_hw: U8


class Dataset(Protocol):
    """Labelled frames of one split; reading item `i` may read files."""

    @property
    def name(self) -> str:
        """The specification it was opened with, for example `camvid:PATH`."""

    @property
    def split(self) -> str:
        """`train`, `val`, or another split of that data set."""

    @property
    def classes(self) -> Classes:
        """The vocabulary of the labels."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


# ---------------------------------------------------------------- frames in


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture from a source.

    Attributes:
        id: Counts every frame that the source produced, from 0, dropped ones too: a gap is a drop.
        image_hwc: uint8 [H, W, 3] BGR. Valid until the source's next `retrieve` into the same memory.
        t_capture_ns: Monotonic time of capture.
        clock: What that time means.
        name: File stem for files and folders, else empty.
    """

    id: int
    image_hwc: U8
    t_capture_ns: int
    clock: CaptureClock
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What an opened source gives.

    Attributes:
        uri: The source, credentials removed.
        size: Camera size (height, width).
        rate_hz: Nominal frame rate; None where there is none (images, unknown).
        live: True for cameras and streams, whose newest frame counts (LATEST); False for files (WAIT).
        coding: `raw` and `intra` (MJPEG, images) repeat bytes only when the picture is frozen; `inter` does so by
            design.
        clock: Clock of `Frame.t_capture_ns`.
        frames: Number of frames where it is known, else None.
    """

    uri: str
    size: Size
    rate_hz: float | None
    live: bool
    coding: Literal["raw", "intra", "inter"]
    clock: CaptureClock
    frames: int | None = None


class Source(Protocol):
    """Frames in. One thread opens, grabs, retrieves and closes."""

    def open(self) -> SourceInfo:
        """Open the device or file.

        Raises:
            UnavailableError: A camera that is not there or gives no picture.
            DataError: A file that is not a video or picture.
        """

    def grab(self) -> bool:
        """Advance to the next frame, without decoding where the device allows; False at the end."""

    def retrieve(self, out_hwc: U8 | None = None) -> Frame:
        """Decode the grabbed frame, into `out_hwc` where it is given and fits."""

    def close(self) -> None:
        """Release the device; may be called twice."""


# ---------------------------------------------------------------- engines


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSpec:
    """What a runner takes and gives.

    Attributes:
        frame_size: (H, W) of `frame` and `mask`.
        batch: Frames in one call.
        classes: Vocabulary of the mask.
        depth: Frames that may be in flight at once.
        input_format: Layout of `frame`.
        confidence: Whether the engine also gives a confidence plane.
        backend: Name and version of the runtime.
        precision: Precision that the engine really runs in.
    """

    frame_size: Size
    batch: int
    classes: Classes
    depth: int = 1
    input_format: InputFormat = "bgr"
    confidence: bool = False
    backend: str = ""
    precision: str = ""


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

    def submit(self, frames_nhwc: U8) -> Ticket:
        """Start one batch; blocks while `spec.depth` batches are in flight.

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
        confidence: Whether the graph has the output `confidence`.
        threads: CPU threads; 0 lets the runtime choose.
        options: Backend options, by name; unknown ones are refused by the backend.
    """

    frame_size: Size
    batch: int = 1
    precision: Precision = "fp32"
    classes: Classes
    input_format: InputFormat = "bgr"
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
        report: Anything else worth keeping in report.json (JSON values).
        can_run_here: False where the machine that built it cannot execute it.
    """

    file: str
    backend: str
    backend_version: str
    precision: Precision
    layers: Mapping[str, int] = field(default_factory=dict)
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

    def open(self, engine: Path, spec: EngineSpec) -> Runner:
        """A runner over a built engine file; loads nothing before `__enter__`."""


# ---------------------------------------------------------------- results out


class State(enum.Enum):
    """Validity of a result; the first three come with a mask, the others never do."""

    OK = "ok"
    LATE = "late"
    DEGRADED = "degraded"
    BLACK = "black"
    FROZEN = "frozen"
    STALE = "stale"
    LOST = "lost"

    @property
    def has_mask(self) -> bool:
        """Whether a result in this state carries a mask."""
        return self in (State.OK, State.LATE, State.DEGRADED)


class Stage(enum.Enum):
    """The stages between capture and mask, in order; every one is timed on its own."""

    QUEUE = "queue"
    CAPTURE = "capture"
    RESIZE_IN = "resize_in"
    COPY_IN = "copy_in"
    ENGINE = "engine"
    COPY_OUT = "copy_out"
    RESIZE_OUT = "resize_out"
    SINK = "sink"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the live loop publishes: one per accepted frame, and one per change of state without a frame.

    Attributes:
        camera: Index of the source.
        frame_id: `Frame.id`; -1 where there is no frame.
        t_capture_ns: Monotonic capture time; of the last frame where there is none.
        clock: Clock of the capture time.
        t_result_ns: Monotonic time at which the mask was ready.
        state: Validity.
        reason: Why, where the state is not OK.
        stages_ns: Nanoseconds by stage.
        mask_hw: uint8 [H, W] at camera size, or None. Leased: valid until every sink returned from `write`.
        confidence_hw: uint8 [H, W] or None; leased like the mask.
        image_hwc: The frame itself; leased like the mask. None where there is no frame.
        name: `Frame.name`.
    """

    camera: int
    frame_id: int
    t_capture_ns: int
    clock: CaptureClock
    t_result_ns: int
    state: State
    reason: str = ""
    stages_ns: Mapping[Stage, int] = field(default_factory=dict)
    mask_hw: U8 | None = None
    confidence_hw: U8 | None = None
    image_hwc: U8 | None = None
    name: str = ""

    @property
    def age_ns(self) -> int:
        """Capture to mask."""
        return self.t_result_ns - self.t_capture_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkContext:
    """What a sink is told before the first result.

    Attributes:
        cameras: One per source, in order of `Result.camera`.
        classes: Vocabulary of the masks.
        engine: Bundle id or file of the engine, for recordings.
    """

    cameras: Sequence[SourceInfo]
    classes: Classes
    engine: str


class Sink(Protocol):
    """Results out. Each sink runs in a thread of its own behind a bounded queue, so none can stall the loop."""

    @property
    def name(self) -> str:
        """Short name in logs and drop counts."""

    @property
    def lossless(self) -> bool:
        """True where every frame of a file must be kept (the queue then waits for files, and drops for cameras)."""

    def open(self, context: SinkContext) -> None:
        """Check and open: called before an engine is built or loaded."""

    def write(self, result: Result) -> None:
        """Take one result; its arrays are not used after the return."""

    def close(self) -> None:
        """Finish the file or stream; may be called twice."""
