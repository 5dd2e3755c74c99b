"""Which board and processor this is: what a bundle must fit, and what every figure is quoted with.

All files are read under a root that tests can set. What cannot be read is None, never a guess.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

from edgeseg.core.types import DeviceInfo

# Linux's flag -> the name used here. Only what decides an engine's fit or speed.
_CPU_FLAGS = {
    "avx2": "avx2",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "bf16",
    "amx_tile": "amx",
    "amx_bf16": "amx_bf16",
    "amx_int8": "amx_int8",
    "asimd": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "sve": "sve",
}
# Device-tree compatible string -> module, by NVIDIA's public device trees; the first match wins.
_BOARDS = (
    ("nvidia,p3701", "Jetson AGX Orin"),
    ("nvidia,p3767-0003", "Jetson Orin Nano 8GB"),
    ("nvidia,p3767-0004", "Jetson Orin Nano 4GB"),
    ("nvidia,p3767-0005", "Jetson Orin Nano 8GB (developer kit)"),
    ("nvidia,p3767", "Jetson Orin NX"),
    ("nvidia,p3834", "Jetson AGX Thor"),
    ("nvidia,p2888", "Jetson AGX Xavier"),
    ("nvidia,p3668", "Jetson Xavier NX"),
)
_L4T = re.compile(r"R(?P<major>\d+)[^,]*,\s*REVISION:\s*(?P<minor>[\d.]+)")
_DRIVER = re.compile(r"Kernel Module(?: for \S+)?\s+(?P<version>\d+\.\d+(?:\.\d+)?)")


def fingerprint(root: Path = Path("/")) -> DeviceInfo:
    """Read the machine from /proc, the device tree and NVIDIA's files under `root`; starts no runtime."""
    cpu, features = _processor(root)
    board = _board(root)
    return DeviceInfo(
        machine=platform.machine(),
        cpu=cpu,
        cpu_features=features,
        cores=len(os.sched_getaffinity(0)),
        memory_mb=_memory_mb(root),
        os=_distribution(root),
        python=f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}",
        board=board,
        l4t=_l4t(root),
        gpu=_gpu_name(root, board),
        compute_capability=_jetson_compute_capability(board),
        driver=_driver(root),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _processor(root: Path) -> tuple[str, tuple[str, ...]]:
    text = _read(root / "proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    known = {_CPU_FLAGS[flag] for flag in (flags[1].split() if flags else ()) if flag in _CPU_FLAGS}
    return (name[1].strip() if name else platform.processor() or "unknown"), tuple(sorted(known))


def _memory_mb(root: Path) -> int:
    total = re.search(r"^MemTotal:\s*(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    return int(total[1]) // 1024 if total else 0


def _distribution(root: Path) -> str:
    name = re.search(r'^PRETTY_NAME="?([^"\n]+)"?', _read(root / "etc/os-release"), re.MULTILINE)
    return name[1] if name else platform.system()


def _board(root: Path) -> str | None:
    compatible = _read(root / "proc/device-tree/compatible").replace("\0", " ")
    for prefix, board in _BOARDS:
        if prefix in compatible:
            return board
    model = _read(root / "proc/device-tree/model").strip("\0 \n")
    return model if "jetson" in model.lower() else None


def _l4t(root: Path) -> str | None:
    match = _L4T.search(_read(root / "etc/nv_tegra_release"))
    return f"{match['major']}.{match['minor']}" if match else None


def _driver(root: Path) -> str | None:
    match = _DRIVER.search(_read(root / "proc/driver/nvidia/version"))
    return match["version"] if match else None


def _gpu_name(root: Path, board: str | None) -> str | None:
    for info in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        match = re.search(r"^Model:\s*(.+)$", _read(info), re.MULTILINE)
        if match:
            return match[1].strip()
    return f"{board} (integrated)" if board else None


def _jetson_compute_capability(board: str | None) -> str | None:
    if board is None:
        return None
    if "Orin" in board:
        return "8.7"
    if "Thor" in board:
        return "11.0"
    return "7.2" if "Xavier" in board else None
