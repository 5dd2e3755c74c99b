"""Arrays, sizes and the class vocabulary: what every other noun is made of."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Size = tuple[int, int]
"""(height, width) in pixels."""

Region = tuple[int, int, int, int]
"""(top, left, height, width) in pixels."""

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
