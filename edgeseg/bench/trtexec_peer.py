"""NVIDIA's trtexec over the same plan, as a second opinion on the engine's own time.

Versions 10 and 11 time different things by default (11: CUDA graph and spin-wait on, transfers off), so every flag that
decides is given. It is a process of its own: it cannot take turns with the engine, and its ratio says so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edgeseg.bench.peers import PeerResult
from edgeseg.bench.request import BenchTarget
from edgeseg.core.errors import EdgesegError
from edgeseg.core.metrics import series_ms
from edgeseg.measure import Samples, ratio_interval

_JETPACK = "/usr/src/tensorrt/bin/trtexec"
_VERSION = re.compile(r"TensorRT[ .]v?(?P<digits>\d+)")


class _Sample(msgspec.Struct, rename="camel"):
    """One inference of `--exportTimes`."""

    latency_ms: float


def find_trtexec() -> str | None:
    """The installed trtexec: on the path, or where JetPack puts it."""
    return shutil.which("trtexec") or (_JETPACK if Path(_JETPACK).exists() else None)


def trtexec_flags(major: int) -> list[str]:
    """Host to host, without CUDA graph and spin-wait: what a call from a host program costs, in every version.

    Args:
        major: Version of TensorRT.
    """
    return ["--includeDataTransfers", "--noCudaGraph", "--noSpinWait"] if major >= 11 else []


def run_trtexec(target: BenchTarget, engine: Samples, *, duration_s: float) -> PeerResult | None:
    """Time a TensorRT plan with trtexec; None where there is no plan or no trtexec.

    Raises:
        EdgesegError: trtexec failed; says its last line.
    """
    program = find_trtexec()
    if program is None or target.bundle is None or target.bundle.manifest.engine.backend != "tensorrt":
        return None
    with tempfile.TemporaryDirectory(prefix="edgeseg-trtexec-") as scratch:
        times = Path(scratch) / "times.json"
        flags = trtexec_flags(_major(program))
        words = [f"--loadEngine={target.bundle.engine_file}", f"--duration={max(1, round(duration_s))}", *flags]
        _run([program, *words, f"--exportTimes={times}"])
        found = msgspec.json.decode(times.read_bytes(), type=list[_Sample], strict=False)
    samples_ns = np.array([sample.latency_ms * 1e6 for sample in found])
    ratio = ratio_interval(engine.engine_ns + engine.copy_in_ns + engine.copy_out_ns, samples_ns)
    if ratio is None:
        return None
    shown = " ".join(["trtexec", *flags]) or "trtexec"
    return PeerResult(
        name="trtexec",
        settings=f"{shown}; latency host to host; NOT interleaved",
        engine_ms=series_ms(samples_ns),
        ratio_p50=ratio[0],
        ci95=ratio[1],
    )


def _major(program: str) -> int:
    found = _VERSION.search(_run([program, "--help"]))
    digits = found["digits"] if found else "10"
    # the banner runs the parts together: v8503 is 8.5.3, v101300 is 10.13, v110100 is 11.1
    return int(digits[:-4] or digits) if len(digits) > 4 else int(digits[:1] if len(digits) == 4 else digits)


def _run(words: Sequence[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        last = ((done.stderr or done.stdout).strip().splitlines() or ["no message"])[-1]
        raise EdgesegError("trtexec failed", value=last, fix=" ".join(words))
    return done.stdout + done.stderr
