"""The manifest of an engine bundle: what the engine is, what it was made from, and what it must fit.

It is JSON, typed and versioned. Reading refuses a newer format before it looks at anything else, and then every
unknown or ill-typed field: a manifest is either understood whole or not at all.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edgeseg.core.errors import VerifyError
from edgeseg.core.types import DeviceInfo, EngineSpec, Size

FORMAT = 1
"""The manifest format that this version writes, and the newest that it reads."""

ResizePolicy = Literal["stretch", "crop", "letterbox"]
EngineKind = Literal["onnx", "openvino", "plan"]
"""`onnx` and `openvino` are portable to another machine with the instruction set of the build; a `plan` is not."""

IDENTITY: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# What an engine of each precision must agree on with its golden masks. Integer kernels may differ by one step
# between two machines, and the classes of a pixel on a border then flip.
_MINIMUM_AGREEMENT = {"fp32": 0.999, "bf16": 0.99, "fp16": 0.995, "int8": 0.985}


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model that the engine was built from.

    Attributes:
        name: Model name, for example `edge-s`.
        sha256: Of `source/model.onnx`.
        weights_sha256: Content hash of the weights, as the canonical graph carries it.
        config_hash: Hash of the resolved configuration of the run.
        training_data: What it was trained on.
        metrics: Scores of the canonical graph, by name.
    """

    name: str
    sha256: str
    weights_sha256: str = ""
    config_hash: str = ""
    training_data: str = ""
    metrics: dict[str, float] = {}


class TensorRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input or output of the engine: name, numpy dtype and static shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Geometry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How mask pixels lie on the camera's.

    Attributes:
        network_size: (H, W) that the layers see.
        resize: Policy where a camera's size is not the frame size.
        mask_to_frame: Affine map, row-major 2x3, from mask (x, y) to frame (x, y) pixel coordinates.
        roi: (top, left, height, width) of the frame that is segmented; None for all of it.
        undistortion: Name of the lens map applied before the engine; None for none.
    """

    network_size: Size
    resize: ResizePolicy = "stretch"
    mask_to_frame: tuple[float, ...] = IDENTITY
    roi: tuple[int, int, int, int] | None = None
    undistortion: str | None = None

    def __post_init__(self) -> None:
        if len(self.mask_to_frame) != 6:
            raise ValueError(f"mask_to_frame has {len(self.mask_to_frame)} numbers; allowed: 6 (2x3, row-major)")


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the runtime loads.

    Attributes:
        file: Path inside the bundle.
        kind: Decides what must fit.
        backend: Name of the backend that opens it.
        backend_version: Version of the runtime that built it.
        precision: Precision read back from the runtime.
        layers: Number of layers by precision, where the runtime tells.
        same_gpu: For a plan: it runs on the model of GPU that built it, and on no other.
        compute_capabilities: For a plan: what it runs on, for example `8.9`; `8.0+` is that and later. Empty: that of
            the GPU that built it.
        forms: Exact form of each part that has several, as the engine's ONNX artefact has it.
    """

    file: str
    kind: EngineKind
    backend: str
    backend_version: str
    precision: str
    layers: dict[str, int] = {}
    same_gpu: bool = True
    compute_capabilities: tuple[str, ...] = ()
    forms: dict[str, str] = {}


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where INT8 ranges come from: method, number of frames, content hash of weights, geometry, frames and method."""

    method: str
    frames: int
    sha256: str


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The accuracy gate that the engine passed.

    Attributes:
        data: Data set and split.
        executor: What produced the engine's figures. An engine that cannot run where it is built is gated on its
            exact ONNX artefact, and these are then not the engine's own figures.
        reference: Scores of the FP32 reference by name, 0 to 1: `miou` and `iou.CLASS`; null for an absent class.
        engine: The same scores of the executor.
        max_drop: Allowed loss in points (0.5 is 0.005 of mIoU): `miou` and class names.
    """

    data: str
    executor: str
    reference: dict[str, float | None]
    engine: dict[str, float | None]
    max_drop: dict[str, float]


class Agreement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the self-test on the golden frames asks for.

    Attributes:
        minimum: Share of golden pixels on which the engine must give the golden class, 0 to 1.
        executor: What made the golden masks.
        measured: Share that the engine itself reached when it was built; None where it could not run.
    """

    minimum: float
    executor: str
    measured: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.minimum <= 1.0:
            raise ValueError(f"agreement minimum {self.minimum}; allowed: above 0, at most 1")


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bundle, described.

    Attributes:
        format: Manifest format, `FORMAT`.
        name: Name of the bundle, for people.
        edgeseg: Version of the package that wrote it.
        created: UTC, ISO 8601.
        target: Target recipe that it was built for.
        model: What it was built from.
        spec: What the backend was asked for, and must be opened with.
        inputs: Tensors in.
        outputs: Tensors out.
        geometry: How mask pixels lie on the camera's.
        engine: What the runtime loads.
        device: The machine that built it.
        calibration: Where INT8 ranges come from; None for other precisions.
        gate: The accuracy gate; None where no data was given.
        agreement: What the self-test asks for.
        verified: Whether a device has run the golden frames on this very engine.
        times_ms: Durations by name, for example `build`, `engine_p50`.
    """

    format: int = FORMAT
    name: str
    edgeseg: str
    created: str
    target: str
    model: ModelRecord
    spec: EngineSpec
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    geometry: Geometry
    engine: EngineRecord
    device: DeviceInfo
    calibration: Calibration | None = None
    gate: Gate | None = None
    agreement: Agreement
    verified: bool = False
    times_ms: dict[str, float] = {}


class _FormatOnly(msgspec.Struct):
    format: int


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(data: bytes, *, origin: str) -> Manifest:
    """Read a manifest.

    Args:
        data: JSON.
        origin: Where it came from, for errors.

    Raises:
        VerifyError: Not a manifest, a newer format, an unknown field, a wrong type or a refused value.
    """
    try:
        found = msgspec.json.decode(data, type=_FormatOnly).format
        if found > FORMAT:
            raise VerifyError(
                "the manifest has a newer format",
                value=f"{origin}: format {found}",
                allowed=f"this version of edgeseg reads format {FORMAT} and older",
                fix="pip install --upgrade edgeseg",
            )
        return msgspec.json.decode(data, type=Manifest, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VerifyError(
            "the manifest cannot be read",
            value=f"{origin}: {error}",
            allowed=f"an edgeseg manifest of format {FORMAT}",
        ) from None


def minimum_agreement(precision: str) -> float:
    """Share of golden pixels that an engine of this precision must agree on, 0 to 1."""
    return _MINIMUM_AGREEMENT.get(precision, _MINIMUM_AGREEMENT["int8"])
