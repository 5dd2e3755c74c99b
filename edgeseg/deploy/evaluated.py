"""What `eval` runs: a trained run in torch, an ONNX file's FP32 graph in ONNX Runtime, or a bundle's engine."""

from __future__ import annotations

from pathlib import Path

from edgeseg.backend import open_onnx
from edgeseg.bundle import open_bundle, open_runner
from edgeseg.core.errors import RequestError
from edgeseg.core.types import Runner, Size
from edgeseg.core.workspace import is_zoo, resolve_model
from edgeseg.graph import default_network_size, fix_frame_size, load_model, read_meta
from edgeseg.model import open_run

_MANIFEST = "manifest.json"
_CONFIG = "config.toml"


def open_target(reference: str, frame_size: Size | None) -> Runner:
    """A runner, not entered, over whatever a person may name.

    Args:
        reference: A RUN folder, an ONNX file, `zoo:NAME` or a bundle.
        frame_size: (H, W) of the frames to come, None for the trained size; a bundle keeps its own.

    Raises:
        RequestError: The path does not exist or is none of these.
        VerifyError: It does not verify.
    """
    path = resolve_model(reference)
    if path.is_dir() and not is_zoo(reference):
        return _open_folder(path, frame_size)
    model = load_model(path)
    meta = read_meta(model)
    if meta.frame_size is not None:
        return open_onnx(model, meta.frame_size)  # a size was fixed at export: frames are resized on the host
    size = frame_size or meta.network_size
    return open_onnx(fix_frame_size(model, size, default_network_size(meta.network_size, size)), size)


def _open_folder(path: Path, frame_size: Size | None) -> Runner:
    if (path / _MANIFEST).exists():
        return open_runner(open_bundle(path))
    if (path / _CONFIG).exists():
        return open_run(path, frame_size)
    raise RequestError(
        "the folder is neither a run nor a bundle", value=path, allowed=f"a folder with {_MANIFEST} or {_CONFIG}"
    )
