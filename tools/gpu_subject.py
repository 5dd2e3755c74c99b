"""What gpu_check.py checks: one model at one size, its exact ONNX files, and the same network in torch."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.backend import get_builder
from edgeseg.core.resize import Resizer
from edgeseg.core.types import U8, EngineSpec, Precision, Size
from edgeseg.core.workspace import resolve_model, shipped_ranges
from edgeseg.data import open_dataset
from edgeseg.graph import apply_forms, fix_frame_size, load_model, make_variant, read_meta, save_model
from edgeseg.graph.forms import Forms
from edgeseg.quant import calibrate, load_ranges, quantize
from edgeseg.quant.placement import get_placement
from edgeseg.quant.thresholds import symmetric_range


@dataclass(frozen=True)
class Subject:
    """A model at a size, by a backend, on frames.

    Attributes:
        name: As it was given: `zoo:NAME` or a path.
        backend: Name of the backend.
        size: (H, W) of frame and mask.
        frames: uint8 [H, W, 3] at that size.
        options: Of the command line.
        folder: Scratch.
    """

    name: str
    backend: str
    size: Size
    frames: list[U8]
    options: argparse.Namespace
    folder: Path

    @property
    def model(self) -> Path:
        """The canonical ONNX file."""
        return resolve_model(self.name)

    @property
    def weakly_typed(self) -> bool:
        """Whether the runtime chooses precision by flags, and then has INT8 without Q/DQ nodes."""
        return bool(get_builder(self.backend).variant == "weak")  # type: ignore[attr-defined]

    def artefact(self, precision: Precision) -> Path:
        """The exact ONNX file that an engine of this precision is built from."""
        builder = get_builder(self.backend)
        variant = builder.variant  # type: ignore[attr-defined]
        model = fix_frame_size(load_model(self.model), self.size)
        if precision == "int8":
            placement = get_placement("nvidia-typed" if variant == "typed" else "nvidia")
            model = quantize(model, self._ranges(), placement)
        if variant == "typed" and precision == "bf16":
            model = apply_forms(model, Forms(transposed="shuffle"))
        file = self.folder / f"{precision}.onnx"
        save_model(file, make_variant(model, variant, precision))
        return file

    def symmetric_ranges(self) -> dict[str, tuple[float, float]]:
        """Ranges for INT8 without Q/DQ nodes, by tensor."""
        ranges = self._ranges()
        largest = {name: symmetric_range(item.distribution(), ranges.method) for name, item in ranges.tensors.items()}
        return {name: (-value, value) for name, value in largest.items()}

    def spec(self, artefact: Path, precision: Precision, **options: Any) -> EngineSpec:
        """What a backend opens."""
        meta = read_meta(load_model(artefact))
        return EngineSpec(frame_size=self.size, precision=precision, classes=meta.classes, options=options)

    def _ranges(self) -> Any:
        beside = shipped_ranges(self.name)
        if beside is not None:
            return load_ranges(beside)
        return calibrate(load_model(self.model), self.options.frames, count=16)


def read_frames(spec: str, size: Size, count: int = 16) -> list[U8]:
    """The first frames of a data set, at frame size."""
    dataset = open_dataset(spec, "val")
    frames = []
    for index in range(min(len(dataset), count)):
        image = dataset[index].image_hwc
        resizer = Resizer((image.shape[0], image.shape[1]), size)
        frames.append(resizer.to_frame(image, np.empty((*size, 3), np.uint8)).copy())
    return frames


def torch_network(subject: Subject) -> Any:
    """The network in torch: of --run, or of the preset that a zoo model is named after; None where there is neither.

    A zoo model's weights are not needed: what is timed does not depend on them.
    """
    from edgeseg.model import build_model, load_run, preset, preset_names

    if subject.options.run:
        return load_run(subject.options.run).model
    name = subject.name.removeprefix("zoo:")
    if name not in preset_names():
        return None
    return build_model(preset(name), len(read_meta(load_model(subject.model)).classes)).eval()
