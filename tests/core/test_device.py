from __future__ import annotations

from pathlib import Path

from edgeseg.core.device import fingerprint


def write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def orin_nano(root: Path) -> Path:
    """A root shaped from the public layout of an Orin Nano on JetPack 6.2."""
    write(
        root, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
    )
    write(
        root, "proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"
    )
    write(root, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0")
    write(root, "proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n")
    write(root, "proc/meminfo", "MemTotal:        7802128 kB\n")
    write(root, "etc/os-release", 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\n')
    return root


def test_a_jetson_is_read_from_its_files(tmp_path: Path) -> None:
    info = fingerprint(orin_nano(tmp_path))
    assert info.board == "Jetson Orin Nano 8GB (developer kit)"
    assert (info.l4t, info.compute_capability) == ("36.4.3", "8.7")
    assert info.cpu_features == ("dotprod", "i8mm", "neon")
    assert info.memory_mb == 7802128 // 1024
    assert info.os == "Ubuntu 22.04.5 LTS"


def test_a_desktop_gpu_is_read_from_the_driver(tmp_path: Path) -> None:
    write(
        tmp_path,
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n",
    )
    write(tmp_path, "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA GeForce RTX 4060\n")
    write(tmp_path, "proc/cpuinfo", "model name\t: Some CPU\nflags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16\n")
    info = fingerprint(tmp_path)
    assert (info.gpu, info.driver) == ("NVIDIA GeForce RTX 4060", "580.95.05")
    assert info.cpu == "Some CPU"
    assert info.cpu_features == ("avx2", "avx512", "avx512_vnni", "bf16")
    assert info.board is None
    assert info.compute_capability is None


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    info = fingerprint(tmp_path)
    assert (info.board, info.l4t, info.gpu, info.driver) == (None, None, None, None)
    assert info.memory_mb == 0


def test_this_machine_has_cores_and_memory() -> None:
    info = fingerprint()
    assert info.cores >= 1
    assert info.memory_mb > 0
