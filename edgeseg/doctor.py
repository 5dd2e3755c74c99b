"""Every probe of this machine, with the remedy for what is missing: what `edgeseg doctor` prints.

A probe never raises and never starts a device; it answers in `Availability`s.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from edgeseg.backend.nvidia.gpu import complete_device
from edgeseg.core import workspace
from edgeseg.core.deps import Availability, on_jetson, probe_package, remedy_for
from edgeseg.core.device import fingerprint
from edgeseg.core.types import DeviceInfo

Group = Literal["python", "engines", "camera", "train", "device"]
_GSTREAMER_REMEDY = "sudo apt install python3-opencv gstreamer1.0-plugins-good, and remove the opencv-python wheel"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report."""

    group: Group
    name: str
    ok: bool
    detail: str
    remedy: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What this machine can do.

    Attributes:
        device: The machine.
        findings: One per probe.
        can: The commands that work here as it stands.
    """

    device: DeviceInfo
    findings: tuple[Finding, ...]
    can: dict[str, bool]


def examine() -> Report:
    """Run every probe."""
    probes: Sequence[tuple[Group, Callable[[], list[Availability]]]] = (
        ("python", _python),
        ("engines", _engines),
        ("camera", _camera),
        ("train", _train),
        ("device", _device),
    )
    findings = tuple(
        Finding(group=group, name=found.name, ok=found.ok, detail=found.detail, remedy="" if found.ok else found.remedy)
        for group, probe in probes
        for found in probe()
    )
    ok = {finding.name: finding.ok for finding in findings}
    engine = ok["onnx"] and any(ok[name] for name in ("onnxruntime", "openvino", "tensorrt"))
    return Report(
        device=complete_device(fingerprint()),
        findings=findings,
        can={
            "train": ok["torch"] and ok["torchvision"] and ok["safetensors"] and ok["onnx"],
            "build": engine and ok["onnxruntime"],
            "live": engine and ok["cv2"],
            "bench": engine,
        },
    )


def _python() -> list[Availability]:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    good = (3, 10) <= sys.version_info[:2] <= (3, 13)
    return [
        Availability("python", good, version, "use Python 3.10 to 3.13: make setup PYTHON=python3.12"),
        *(probe_package(name) for name in ("numpy", "msgspec", "click", "rich")),
    ]


def _engines() -> list[Availability]:
    found = [probe_package(name) for name in ("onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "pycuda")]
    if on_jetson():
        # an x86 runtime is no remedy on the board
        found = [item for item in found if item.ok or item.name not in ("openvino", "tensorrt_rtx")]
    return found


def _train() -> list[Availability]:
    return [probe_package(name) for name in ("torch", "torchvision", "safetensors", "tensorboard")]


def _camera() -> list[Availability]:
    cv2_found = probe_package("cv2")
    found = [cv2_found, probe_package("PIL")]
    if cv2_found.ok:
        found += _opencv()
    cameras = sorted(str(path) for path in Path("/dev").glob("video[0-9]*"))
    found.append(
        Availability(
            "cameras", bool(cameras), ", ".join(cameras) or "no /dev/video*", "plug a camera in, or use --source FILE"
        )
    )
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    found.append(
        Availability(
            "display", bool(display), display or "none", "use --save FILE.mp4 or --masks DIR instead of --show"
        )
    )
    return found


def _opencv() -> list[Availability]:
    try:
        import cv2
    except ImportError as error:
        # the wheel imports the system's libGL and glib; without them the package is there and useless
        remedy = "sudo apt install libgl1 libglib2.0-0" if "libG" in str(error) else remedy_for("cv2")
        return [Availability("cv2 import", False, str(error), remedy)]
    build = cv2.getBuildInformation()
    return [
        Availability("cv2 import", True, cv2.__version__),
        _build_flag(
            build, "FFMPEG", "FFmpeg", "install the opencv-python wheel, or FFmpeg for the distribution's OpenCV"
        ),
        _build_flag(build, "GStreamer", "GStreamer", _GSTREAMER_REMEDY),
        _encoder(),
    ]


def _encoder() -> Availability:
    """Listed, not tried: that takes seconds, and `live --save` does it."""
    from edgeseg.sinks.encoder import present

    found = [encoder.name for encoder in present(".mp4", (720, 1280))]
    return Availability(
        "video encoder in hardware",
        bool(found),
        ", ".join(found) or "none: overlay videos are encoded in software",
        "an OpenCV with GStreamer and the board's encoder elements, or /dev/dri",
    )


def _build_flag(build: str, key: str, name: str, remedy: str) -> Availability:
    match = re.search(rf"^\s*{key}:\s+(YES|NO)(.*)$", build, re.MULTILINE)
    ok = match is not None and match[1] == "YES"
    return Availability(name, ok, match[2].strip(" ()") or "built in" if ok and match else "not in this OpenCV", remedy)


def _device() -> list[Availability]:
    info = complete_device(fingerprint())
    cache = workspace.cache_dir()
    # the cache may not exist yet: ask the nearest folder that does
    parent = next(path for path in (cache, *cache.parents) if path.exists())
    free_gb = shutil.disk_usage(parent).free / 1e9
    int8 = {"avx512_vnni", "avx_vnni", "amx_int8", "dotprod", "i8mm"} & set(info.cpu_features)
    told = (
        ("driver", info.driver),
        ("CUDA", info.cuda),
        ("compute capability", info.compute_capability),
    )
    return [
        Availability(
            "GPU",
            info.gpu is not None,
            ", ".join([info.gpu or "none", *(f"{name} {value}" for name, value in told if value)]),
            "the CPU engine is the default without one",
        ),
        Availability(
            "CPU INT8",
            bool(int8),
            ", ".join(sorted(int8)) or "no dot-product instructions",
            "build --precision fp32 will be as fast as int8 here",
        ),
        Availability(
            "cache",
            os.access(parent, os.W_OK) and free_gb > 1,
            f"{cache}, {free_gb:.0f} GB free",
            "set EDGESEG_CACHE to a folder that you may write to",
        ),
        Availability(
            "zoo",
            bool(workspace.zoo_names()),
            ", ".join(workspace.zoo_names()) or "no models",
            "install edgeseg from a wheel or a checkout",
        ),
    ]
