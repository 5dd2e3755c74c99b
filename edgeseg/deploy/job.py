"""One build under way: what was asked for, resolved once and checked before any long work."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import onnx

from edgeseg.backend.nvidia.calibration import encode_cache
from edgeseg.core.artefacts import write_bytes
from edgeseg.core.clock import now_ns
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import RequestError
from edgeseg.core.packing import check_packable
from edgeseg.core.progress import Progress
from edgeseg.core.types import Dataset, DeviceInfo, EngineSpec, Precision, Size, format_size
from edgeseg.core.workspace import resolve_model
from edgeseg.data import open_dataset
from edgeseg.deploy.calibrated import ranges_for
from edgeseg.deploy.candidates import Artefact
from edgeseg.deploy.gate import check_classes
from edgeseg.deploy.request import BuildRequest
from edgeseg.deploy.target import Target, check_board, load_target, wanted_precisions, with_options
from edgeseg.graph import (
    apply_forms,
    camera_input,
    default_network_size,
    fix_frame_size,
    load_model,
    make_variant,
    read_meta,
    save_model,
)
from edgeseg.graph.meta import ModelMeta
from edgeseg.graph.sizes import check_network_size, check_roi
from edgeseg.quant import quantize, save_ranges
from edgeseg.quant.equalise import equalised
from edgeseg.quant.placement import get_placement
from edgeseg.quant.ranges import Ranges
from edgeseg.quant.thresholds import symmetric_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A build, resolved.

    Attributes:
        request: As asked for.
        progress: Where stages are shown.
        scratch: Folder for what is under way.
        model_file: The canonical ONNX file.
        model: Its content.
        meta: What it says about itself.
        target: Target recipe.
        device: This machine.
        frame_size: (H, W) of frame and mask.
        layers_size: (H, W) that the layers see, before padding.
        dataset: Of the gate.
        ranges: For INT8.
        precisions: What to build.
        started_ns: When.
        notes: What a person should know; grows.
    """

    request: BuildRequest
    progress: Progress
    scratch: Path
    model_file: Path
    model: onnx.ModelProto
    meta: ModelMeta
    target: Target
    device: DeviceInfo
    frame_size: Size
    layers_size: Size
    dataset: Dataset | None
    ranges: Ranges | None
    precisions: list[Precision]
    started_ns: int
    notes: list[str] = field(default_factory=list)

    @property
    def spec(self) -> EngineSpec:
        """What every candidate is built with, but for precision and options."""
        request = self.request
        return EngineSpec(
            frame_size=self.frame_size,
            classes=self.meta.classes,
            input_format=request.input_format,
            colour=request.colour,
            roi=request.roi,
            confidence=request.confidence,
            threads=self.target.threads if request.threads is None else request.threads,
        )

    @property
    def ranges_file(self) -> Path | None:
        """Where the ranges were written for the bundle."""
        return None if self.ranges is None else self.scratch / "ranges.json"

    @property
    def reference_file(self) -> Path:
        """The FP32 graph at this frame size: what the gate compares with."""
        return self.scratch / "fp32.onnx"


def start_job(request: BuildRequest, scratch: Path, progress: Progress) -> Job:
    """Resolve and check a request; calibrates where it says so.

    Raises:
        RequestError: It cannot be.
        VerifyError: Model or ranges do not verify.
    """
    request.check()
    started_ns = now_ns()
    model_file = resolve_model(request.model)
    model = load_model(model_file)
    meta = read_meta(model)
    if meta.input_format not in ("bgr", request.input_format):
        raise RequestError(
            "the model does not take that input", value=request.input_format, allowed=f"it takes {meta.input_format}"
        )
    check_classes(request, meta.classes)
    device = fingerprint()
    target = with_options(load_target(request.target, device), request.options)
    check_board(target, device)
    wanted_precisions(target, request.precision, has_ranges=True)  # an unknown one is refused before calibrating
    frame_size = request.frame_size or meta.frame_size or meta.network_size
    check_packable(frame_size, request.input_format)
    if request.roi is not None:
        check_roi(request.roi, frame_size)
    layers_size = request.network_size or _layers_size(meta, frame_size, request)
    check_network_size(layers_size, meta, fix=_another_size(meta, request))
    dataset = open_dataset(request.data, request.split) if request.data is not None else None
    ranges = ranges_for(request, model, progress)
    return Job(
        request=request,
        progress=progress,
        scratch=scratch,
        model_file=model_file,
        model=model,
        meta=meta,
        target=target,
        device=device,
        frame_size=frame_size,
        layers_size=layers_size,
        dataset=dataset,
        ranges=ranges,
        precisions=wanted_precisions(target, request.precision, has_ranges=ranges is not None),
        started_ns=started_ns,
    )


def _layers_size(meta: ModelMeta, frame_size: Size, request: BuildRequest) -> Size:
    """The trained height with the frame's aspect ratio; even where chroma has half the pixels.

    Of a region of interest the layers see what they would see of it in the whole frame: things keep their size.
    """
    height, width = default_network_size(meta.network_size, frame_size)
    if request.roi is not None:
        height = max(8, round(height * request.roi[2] / frame_size[0]))
        width = max(8, round(width * request.roi[3] / frame_size[1]))
    return (height, width) if request.input_format == "bgr" else (height + height % 2, width + width % 2)


def _another_size(meta: ModelMeta, request: BuildRequest) -> str:
    """The option that the size of the layers came from, with what to give it."""
    if request.network_size is None and request.roi is not None:
        return "a larger --roi"
    option = "--frame-size" if request.network_size is None else "--network-size"
    return f"edgeseg build {request.model} {option} {format_size(meta.network_size)}"


class ArtefactWriter:
    """Writes the exact ONNX files that engines are built from, each when it is asked for; the FP32 reference at once.

    Args:
        job: The build.
    """

    def __init__(self, job: Job) -> None:
        confidence = job.request.confidence or None
        self._job = job
        static = fix_frame_size(job.model, job.frame_size, job.layers_size, confidence=confidence, roi=job.request.roi)
        # before forms and integers: they are placed on the graph that runs, whose stem reads the camera's bytes
        self._static = camera_input(static, job.request.input_format, job.request.colour)
        self._files: dict[Artefact, Path] = {}
        save_model(job.reference_file, self._static)
        if job.ranges is not None and job.ranges_file is not None:
            save_ranges(job.ranges_file, job.ranges)

    def __call__(self, artefact: Artefact) -> Path:
        """The file of an artefact, written once.

        Raises:
            VerifyError: The ranges lack a tensor.
        """
        if artefact not in self._files:
            path = self._job.scratch / f"artefact{len(self._files)}.onnx"
            save_model(path, self._graph(artefact))
            if artefact.calibration is not None:
                assert self._job.ranges is not None
                write_bytes(
                    path.with_suffix(".cache"), encode_cache(_symmetric(self._job.ranges), artefact.calibration)
                )
            self._files[artefact] = path
        return self._files[artefact]

    def _graph(self, artefact: Artefact) -> onnx.ModelProto:
        """Channels as measured, then forms: integers are placed on the graph that runs. Element types last."""
        model = self._static
        if artefact.placement is not None or artefact.calibration is not None:
            assert self._job.ranges is not None
            model = equalised(model, self._job.ranges)
        model = apply_forms(model, artefact.forms)
        if artefact.placement is not None:
            assert self._job.ranges is not None
            placement = get_placement(artefact.placement)
            model = quantize(model, self._job.ranges, placement, keep_float=artefact.keep_float)
        return model if artefact.variant == "cpu" else make_variant(model, artefact.variant, artefact.precision)


def _symmetric(ranges: Ranges) -> dict[str, tuple[float, float]]:
    """Symmetric ranges by tensor, as TensorRT's implicit INT8 takes them."""
    largest = {name: symmetric_range(item.distribution(), ranges.method) for name, item in ranges.tensors.items()}
    return {name: (-value, value) for name, value in largest.items()}
