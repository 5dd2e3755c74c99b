"""The default bundle of a model on this machine: built once into the cache, found again by what it was made from."""

from __future__ import annotations

import shutil
from pathlib import Path

import edgeseg
from edgeseg.backend import probe_backends
from edgeseg.bundle import open_bundle
from edgeseg.core.artefacts import sha256_bytes, sha256_file
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import VerifyError
from edgeseg.core.progress import Progress
from edgeseg.core.types import Size, format_size
from edgeseg.core.workspace import cache_dir, lock, resolve_model, shipped_ranges
from edgeseg.deploy.build import build_bundle
from edgeseg.deploy.request import BuildRequest
from edgeseg.deploy.target import AUTO, load_target


def default_bundle(reference: str, frame_size: Size | None, progress: Progress) -> Path:
    """The bundle that `live`, `bench` and `replay` use for an ONNX file or `zoo:NAME`.

    The key is model, shipped ranges, frame size, target, this machine and the versions of edgeseg and every backend.
    A second process waits for the first one's build; a bundle in the cache that does not verify is built again.

    Args:
        reference: `zoo:NAME` or a path.
        frame_size: (H, W) of the source; None takes the model's own.
        progress: Where the build is shown.
    """
    model = resolve_model(reference)
    key = build_key(reference, frame_size)
    size = format_size(frame_size) if frame_size else "own"
    path = cache_dir() / "bundles" / f"{model.stem}-{size}-{key[:16]}"
    with lock(path.with_name(f"{path.name}.lock")):
        if path.is_dir():
            try:
                return open_bundle(path).path
            except VerifyError as error:
                progress.say(f"the cached bundle does not verify and is built again: {error.what} ({error.value})")
                shutil.rmtree(path)
        progress.say(f"building the default bundle of {reference} for this machine, once: {path}")
        report = build_bundle(BuildRequest(model=reference, frame_size=frame_size), path, progress)
        return report.bundle


def build_key(reference: str, frame_size: Size | None, target: str = AUTO, *more: str) -> str:
    """What a bundle is found again by in a cache: hexadecimal SHA-256 of all that it is made from.

    Args:
        reference: `zoo:NAME` or a path.
        frame_size: (H, W) of the source; None takes the model's own.
        target: Whose recipe, as it is now.
        more: What else was asked for.
    """
    device = fingerprint()
    ranges = shipped_ranges(reference)
    parts = [
        edgeseg.__version__,
        sha256_file(resolve_model(reference)),
        sha256_file(ranges) if ranges else "",
        format_size(frame_size) if frame_size else "",
        repr(load_target(target, device)),
        device.machine,
        device.cpu,
        ",".join(device.cpu_features),
        str(device.gpu),
        str(device.driver),
        *(f"{item.name} {item.detail}" for item in probe_backends() if item.ok),
        *more,
    ]
    return sha256_bytes(*(part.encode() for part in parts))
