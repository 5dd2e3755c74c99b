"""The room `backend`: what builds an engine from an ONNX file and runs it. Its door is light to import.

get_builder("openvino").build(model, folder, spec)   an engine file, in a folder
get_builder("openvino").open(engine, spec)           a Runner
open_onnx(model, frame_size)                         the FP32 reference in ONNX Runtime
open_null(...)                                       an injected latency, for tests
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.backend.registry import backend_names, device_of, get_builder, probe_backends
from edgeseg.core.deps import require
from edgeseg.core.types import Classes, Colour, EngineSpec, Runner, Size

if TYPE_CHECKING:
    import onnx

__all__ = ["backend_names", "device_of", "get_builder", "open_null", "open_onnx", "probe_backends"]


def open_onnx(model: Path | onnx.ModelProto, frame_size: Size, *, batch: int = 1, threads: int = 0) -> Runner:
    """The FP32 reference of a model: its own graph in ONNX Runtime, at one frame size.

    Args:
        model: An exported ONNX file, or a loaded one; symbolic sizes are fixed here, static ones must agree.
        frame_size: (H, W) of frames and masks; the layers see the trained height, as in a build.
        batch: Frames in one call.
        threads: CPU threads; 0 lets ONNX Runtime choose.

    Returns:
        A runner that is not entered yet. Q/DQ nodes in the model run as they are, so this is also how the exact
        artefact of an engine that cannot run here is evaluated.

    Raises:
        UnavailableError: onnx or onnxruntime is not installed.
        VerifyError: The file is not a model that edgeseg wrote.
    """
    require("onnx", "onnxruntime", what="evaluating an ONNX model")
    from edgeseg.backend import onnxruntime as backend
    from edgeseg.backend.onnx_model import has_qdq
    from edgeseg.graph import default_network_size, fix_frame_size, load_model, read_meta

    proto = load_model(model) if isinstance(model, Path) else model
    meta = read_meta(proto)
    if (meta.frame_size, meta.batch) != (frame_size, batch):
        layers_size = default_network_size(meta.network_size, frame_size)
        proto = fix_frame_size(proto, frame_size, layers_size, batch=batch)
    spec = EngineSpec(
        frame_size=frame_size,
        batch=batch,
        precision="int8" if has_qdq(proto) else "fp32",
        classes=meta.classes,
        input_format=meta.input_format,
        colour=Colour.from_text(meta.notes["colour"]) if "colour" in meta.notes else Colour(),
        roi=meta.roi,
        confidence=meta.confidence,
        threads=threads,
    )
    return backend.OnnxRuntimeRunner(proto.SerializeToString(), backend.runner_spec(spec), threads=threads)


def open_null(
    classes: Classes,
    frame_size: Size,
    *,
    latency_ms: float = 0.0,
    sigma_ms: float = 0.0,
    tail_ms: float = 0.0,
    tail_share: float = 0.0,
    seed: int = 0,
    confidence: bool = False,
    outputs: int = 8,
) -> Runner:
    """A runner without a network: waits for a drawn latency, then gives `frame[..., 0] % len(classes)` as the mask.

    Args:
        classes: Vocabulary of the masks.
        frame_size: (H, W) of frames and masks.
        latency_ms: Mean of the body of the distribution.
        sigma_ms: Standard deviation of body and tail.
        tail_ms: Mean of the tail.
        tail_share: Probability of the tail.
        seed: Of the draws.
        confidence: Whether to give a confidence plane (255 everywhere).
        outputs: Output buffers beyond the depth.
    """
    from edgeseg.backend.null import Latency, runner_of

    latency = Latency(ms=latency_ms, sigma_ms=sigma_ms, tail_ms=tail_ms, tail_share=tail_share, seed=seed)
    spec = EngineSpec(frame_size=frame_size, classes=classes, confidence=confidence)
    return runner_of(spec, latency, outputs=outputs)
