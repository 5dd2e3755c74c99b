"""From what a person calls an engine to one that the loop can load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeseg.bundle import Bundle, open_bundle, open_runner
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import Classes, InputFormat, Runner, Size
from edgeseg.core.workspace import resolve_model, shipped_ranges
from edgeseg.live.request import Engine


@dataclass(frozen=True, slots=True)
class BundleEngine:
    """A bundle that was given: it verifies and fits before any source is opened."""

    bundle: Bundle

    @property
    def name(self) -> str:
        """Folder and id of the bundle."""
        return f"{self.bundle.path.name} {self.bundle.id[:12]}"

    @property
    def classes(self) -> Classes:
        """Vocabulary of the masks."""
        return self.bundle.manifest.spec.classes

    @property
    def takes(self) -> tuple[InputFormat, Size | None]:
        """Format and size of the bundle's frames."""
        return self.bundle.manifest.spec.input_format, self.bundle.manifest.spec.frame_size

    def load(self, camera_size: Size, *, throughput: bool = False) -> Runner:
        """The bundle's runner, at the bundle's frame size."""
        del camera_size
        return open_runner(self.bundle, throughput=throughput)


@dataclass(frozen=True, slots=True)
class ModelEngine:
    """`zoo:NAME` or an ONNX file: its default bundle for this device and the camera's size, built once and cached."""

    reference: str
    classes: Classes
    progress: Progress

    @property
    def name(self) -> str:
        """The reference itself."""
        return self.reference

    @property
    def takes(self) -> tuple[InputFormat, Size | None]:
        """BGR of any size: the default bundle is built for the camera's."""
        return "bgr", None

    def load(self, camera_size: Size, *, throughput: bool = False) -> Runner:
        """The runner of the default bundle."""
        from edgeseg.deploy import default_bundle

        bundle = open_bundle(default_bundle(self.reference, camera_size, self.progress))
        return open_runner(bundle, throughput=throughput)


def open_engine(reference: str, *, trust: Path | None = None, progress: Progress | None = None) -> Engine:
    """An engine by the name that a person gives it.

    Args:
        reference: A bundle folder, `zoo:NAME` or an ONNX file.
        trust: Public key that must have signed the bundle.
        progress: Shown while a default bundle is built.

    Raises:
        RequestError: Nothing of that name.
        VerifyError: It does not verify, or does not fit this machine.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        return BundleEngine(open_bundle(path, trust=trust))
    return ModelEngine(reference, look_up_model(reference), progress or Silent())


def look_up_model(reference: str) -> Classes:
    """The classes of a model that is whole, and so are the ranges that it ships: a build can begin.

    Args:
        reference: `zoo:NAME` or an ONNX file.

    Raises:
        RequestError: Nothing of that name.
        VerifyError: Model or ranges are truncated, foreign or altered, or the ranges are of other weights.
    """
    from edgeseg.graph import load_model, read_meta
    from edgeseg.quant.ranges import load_ranges

    meta = read_meta(load_model(resolve_model(reference)))
    ranges = shipped_ranges(reference)
    if ranges is not None:
        load_ranges(ranges, weights_sha256=meta.weights_sha256)
    return meta.classes
