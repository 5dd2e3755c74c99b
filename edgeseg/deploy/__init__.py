"""The room `deploy`: model + ranges + target -> engine -> gate -> bundle.

build_bundle(request)              a bundle, or a reason why not
default_bundle(reference, size)    the one of this machine, built once into the cache
rebuild_bundle(path)               again, from the bundle alone
calibrate_model(request)           a range file
open_target(reference, size)       what `eval` runs

This door imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.core.deps import require
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import Runner, Size
from edgeseg.deploy.request import BuildReport, BuildRequest, CalibrationRequest, Timing

if TYPE_CHECKING:
    from edgeseg.quant.ranges import Ranges

__all__ = [
    "BuildReport",
    "BuildRequest",
    "CalibrationRequest",
    "Timing",
    "build_bundle",
    "calibrate_model",
    "default_bundle",
    "open_target",
    "rebuild_bundle",
]

_PACKAGES = ("onnx", "onnxruntime", "cv2", "PIL")


def build_bundle(request: BuildRequest, out: Path | None = None, progress: Progress | None = None) -> BuildReport:
    """Build, gate and write a bundle; see `edgeseg.deploy.build`."""
    require(*_PACKAGES, what="edgeseg build")
    from edgeseg.deploy import build

    return build.build_bundle(request, out, progress or Silent())


def rebuild_bundle(
    path: Path, progress: Progress | None = None, *, out: Path | None = None, trust: Path | None = None
) -> BuildReport:
    """Build a bundle again for this machine; see `edgeseg.deploy.rebuild`."""
    require(*_PACKAGES, what="edgeseg rebuild")
    from edgeseg.deploy import rebuild

    return rebuild.rebuild_bundle(path, progress or Silent(), out=out, trust=trust)


def default_bundle(reference: str, frame_size: Size | None = None, progress: Progress | None = None) -> Path:
    """The default bundle of a model on this machine; see `edgeseg.deploy.default`."""
    require(*_PACKAGES, what=f"the default bundle of {reference}")
    from edgeseg.deploy import default

    return default.default_bundle(reference, frame_size, progress or Silent())


def calibrate_model(
    request: CalibrationRequest, out: Path | None = None, progress: Progress | None = None
) -> tuple[Path, Ranges]:
    """Calibrate a model and write its range file; see `edgeseg.deploy.calibrated`."""
    require(*_PACKAGES, what="edgeseg calibrate")
    from edgeseg.deploy import calibrated

    return calibrated.calibrate_model(request, out, progress or Silent())


def open_target(reference: str, frame_size: Size | None = None) -> Runner:
    """A runner over a run, an ONNX file, `zoo:NAME` or a bundle; see `edgeseg.deploy.evaluated`."""
    from edgeseg.deploy import evaluated

    return evaluated.open_target(reference, frame_size)
