"""The command line of NVIDIA's trtexec for an ONNX file: what builds where edgeseg itself does not run (JetPack 5)."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from edgeseg.core.errors import CapabilityError
from edgeseg.core.types import Precision

TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
"""Where JetPack installs it; pip wheels do not have it."""
_FLAGS: dict[str, tuple[str, ...]] = {"fp32": (), "fp16": ("--fp16",), "int8": ("--fp16", "--int8")}


def trtexec_line(model: str, plan: str, precision: Precision, *, workspace_mb: int = 1024, cache: str = "") -> str:
    """The line that builds a plan with TensorRT 8.5, and times it with transfers and a CUDA graph.

    Args:
        model: The ONNX file in the variant `jetpack5`, as the board will see it.
        plan: The plan to write.
        precision: `fp32`, `fp16` or `int8`.
        workspace_mb: Scratch memory; on a board it is everybody's.
        cache: Calibration cache, for INT8 without Q/DQ nodes.

    Raises:
        CapabilityError: TensorRT 8 has no bfloat16.
    """
    if precision not in _FLAGS:
        raise CapabilityError(
            f"precision {precision}",
            runtime="TensorRT 8.5",
            allowed=f"allowed: {', '.join(_FLAGS)}",
            fix="edgeseg build MODEL --precision fp16",
        )
    words = [TRTEXEC, f"--onnx={model}", f"--saveEngine={plan}", *_FLAGS[precision]]
    if cache:
        words.append(f"--calib={cache}")
    words += [
        f"--memPoolSize=workspace:{workspace_mb}",
        f"--timingCacheFile={PurePosixPath(plan).with_suffix('.timing')}",
        "--profilingVerbosity=detailed",
        "--useCudaGraph",
        "--useSpinWait",
    ]
    return shlex.join(words)
