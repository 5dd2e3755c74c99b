"""Options of the NVIDIA backends, as `EngineSpec.options` carries them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgeseg.backend.base import OUTPUTS
from edgeseg.backend.options import resolve_options
from edgeseg.core.errors import RequestError

HARDWARE_LEVELS = ("none", "ampere_plus", "same_compute_capability")


class NvidiaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a build and a run on NVIDIA hardware can be told.

    Attributes:
        workspace_mb: Scratch memory that kernels may use; 0 is half of the free memory on a Jetson, whose GPU shares
            it with everything else, and the runtime's own default elsewhere.
        optimization_level: 0 to 5, how long the builder searches; -1 is the runtime's default.
        version_compatible: A plan that later minor versions load. It carries host code, which this toolkit never
            allows a runtime to execute from a plan, so such a plan is for other programs.
        hardware_compatible: A plan for other GPUs too, at a cost in speed, not on Jetson: `ampere_plus` for every GPU
            from Ampere on, `same_compute_capability` for those of the same one; `none` for this GPU alone.
        compute_capabilities: TensorRT-RTX: comma-separated, for example `8.6,8.9`; empty is Ampere and later.
        implicit: INT8 from ranges on the graph without Q/DQ nodes (TensorRT 10 and older).
        calibrator: With `implicit` and frames instead of ranges: NVIDIA's `entropy` or `minmax`.
        dla_core: Core of the deep-learning accelerator; -1 is the GPU.
        max_gpu_fallback: With a DLA core, the largest share of layers, 0 to 1, that may run on the GPU instead.
        cuda_graph: Replay each buffer's enqueue as a CUDA graph where capture is possible.
        io: `mapped` binds page-locked host memory to the engine, `pinned` copies to device memory, `auto` measures.
        depth: Frames in flight: 2 overlaps the copy of one frame with the run of another, for files and offline runs.
        outputs: Output buffers beyond `depth`.
    """

    workspace_mb: int = 0
    optimization_level: int = -1
    version_compatible: bool = False
    hardware_compatible: str = "none"
    compute_capabilities: str = ""
    implicit: bool = False
    calibrator: str = "entropy"
    dla_core: int = -1
    max_gpu_fallback: float = 0.0
    cuda_graph: bool = True
    io: str = "auto"
    depth: int = 1
    outputs: int = OUTPUTS

    def __post_init__(self) -> None:
        if self.io not in ("auto", "mapped", "pinned"):
            raise ValueError(f"io {self.io}; allowed: auto, mapped, pinned")
        if self.hardware_compatible not in HARDWARE_LEVELS:
            raise ValueError(f"hardware_compatible {self.hardware_compatible}; allowed: {', '.join(HARDWARE_LEVELS)}")
        if self.calibrator not in ("entropy", "minmax"):
            raise ValueError(f"calibrator {self.calibrator}; allowed: entropy, minmax")
        if not -1 <= self.optimization_level <= 5:
            raise ValueError(f"optimization_level {self.optimization_level}; allowed: 0 to 5, or -1")
        if not 0.0 <= self.max_gpu_fallback <= 1.0:
            raise ValueError(f"max_gpu_fallback {self.max_gpu_fallback}; allowed: 0 to 1")
        if self.depth not in (1, 2):
            raise ValueError(f"depth {self.depth}; allowed: 1 or 2")
        if min(self.workspace_mb, self.outputs) < 0:
            raise ValueError("workspace_mb and outputs are not negative")


def nvidia_options(given: Mapping[str, str | int | float | bool], *, backend: str) -> NvidiaOptions:
    """The options of an engine.

    Raises:
        RequestError: An unknown option, one of another type, or a refused value.
    """
    resolved = resolve_options(given, msgspec.structs.asdict(NvidiaOptions()), backend=backend)
    try:
        return msgspec.convert(resolved, NvidiaOptions)
    except msgspec.ValidationError as error:
        raise RequestError(f"an option of the backend {backend} is refused", value=error) from None
