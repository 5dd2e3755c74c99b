"""Optional packages: the one wording for a missing one, and probes that never raise.

The door of a room calls `require(...)` first; the room's files then import their packages in the ordinary way.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import UnavailableError

# package (import name) -> (distribution, extra that brings it, remedy on a Jetson)
_PACKAGES: dict[str, tuple[str, str, str]] = {
    "cv2": ("opencv-python", "video", "sudo apt install python3-opencv (JetPack's own, with GStreamer)"),
    "PIL": ("Pillow", "video", "pip install 'edgeseg[jetpack6]'"),
    "onnx": ("onnx", "onnx", "pip install 'edgeseg[jetpack6]'"),
    "onnxruntime": ("onnxruntime", "onnx", "pip install 'edgeseg[jetpack6]'"),
    "openvino": ("openvino", "cpu", "use --target auto: a Jetson runs TensorRT"),
    "torch": ("torch", "train", "train on another machine; the board needs only the exported ONNX"),
    "torchvision": ("torchvision", "train", "train on another machine; the board needs only the exported ONNX"),
    "safetensors": ("safetensors", "train", "train on another machine; the board needs only the exported ONNX"),
    "tensorboard": ("tensorboard", "train", "train on another machine; the board needs only the exported ONNX"),
    "tensorrt": ("tensorrt", "tensorrt", "sudo apt install python3-libnvinfer (a venv needs --system-site-packages)"),
    "tensorrt_rtx": ("tensorrt-rtx", "rtx", "TensorRT-RTX has no Jetson targets: use --target auto"),
    "tensorrt_rtx_bindings": (
        "tensorrt-rtx-cu13-bindings",
        "rtx",
        "TensorRT-RTX has no Jetson targets: use --target auto",
    ),
    "cryptography": ("cryptography", "sign", "pip install 'edgeseg[sign]'"),
    "mlperf_loadgen": ("mlcommons-loadgen", "bench", "pip install 'edgeseg[bench]'"),
    "pycocotools": ("pycocotools", "formats", "pip install 'edgeseg[formats]'"),
    "timm": ("timm", "encoders", "train on another machine; the board needs only the exported ONNX"),
    "pynvml": ("nvidia-ml-py", "bench", "a Jetson tells its readings through sysfs: nothing to install"),
    "mcap": ("mcap", "record", "pip install 'edgeseg[record]'"),
    "pycuda": ("pycuda", "tensorrt", "pip install 'edgeseg[jetpack6]'"),
}


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether something is here, and why not."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def on_jetson() -> bool:
    """Whether this machine is an NVIDIA Jetson (an L4T release file on 64-bit Arm)."""
    return platform.machine() == "aarch64" and Path("/etc/nv_tegra_release").exists()


def remedy_for(package: str) -> str:
    """The command that brings `package` on this machine."""
    _, extra, jetson = _PACKAGES[package]
    return jetson if on_jetson() else f"pip install 'edgeseg[{extra}]'"


def probe_package(package: str) -> Availability:
    """Whether `package` can be imported, without importing it; the detail is its version."""
    distribution = _PACKAGES[package][0] if package in _PACKAGES else package
    remedy = remedy_for(package) if package in _PACKAGES else f"pip install {distribution}"
    if package in sys.modules or _found(package):
        return Availability(package, True, package_version(package))
    return Availability(package, False, "not installed", remedy)


def package_version(package: str) -> str:
    """Version of an installed package by import name; "unknown" where its metadata is missing (JetPack's cv2)."""
    known = _PACKAGES[package][0] if package in _PACKAGES else package
    for distribution in (known, f"{known}-headless", f"{known}-contrib", package):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def require(*packages: str, what: str) -> None:
    """Raise one clear error unless every package can be imported.

    Args:
        packages: Import names.
        what: What asked for them, as the user knows it: "edgeseg train", "an openvino engine".

    Raises:
        UnavailableError: Names what asked, the package and the remedy for this machine.
    """
    for package in packages:
        found = probe_package(package)
        if not found.ok:
            raise UnavailableError(f"{what} needs the package {package}", value=found.detail, fix=found.remedy)


def _found(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
