"""Implicit INT8 of TensorRT 10 and older: ranges on tensors, NVIDIA's calibration cache, NVIDIA's own calibrators.

Explicit Q/DQ is the default everywhere and the only way from 11 on. This path is for DLA, which has no Q/DQ nodes, for
trtexec, which takes the cache, and for comparison. A cache is found by the content of graph and frames, never by name.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgeseg.backend.nvidia.api import TensorRtApi
from edgeseg.core.artefacts import sha256_bytes, write_bytes
from edgeseg.core.errors import VerifyError
from edgeseg.core.types import U8

CalibratorKind = Literal["entropy", "minmax"]
Ranges = Mapping[str, tuple[float, float]]
_HEADER = {"entropy": "EntropyCalibration2", "minmax": "MinMaxCalibration"}
_CLASS = {"entropy": "IInt8EntropyCalibrator2", "minmax": "IInt8MinMaxCalibrator"}
_STEPS = 127


def set_ranges(network: Any, ranges: Ranges) -> list[str]:
    """Give the float tensors of a network without Q/DQ nodes their symmetric dynamic ranges.

    A tensor without a range stays in a float type.

    Returns:
        Names of the tensors whose range the runtime refused.

    Raises:
        VerifyError: No named tensor has a range: the ranges are of another model.
    """
    missing, refused = [], []
    tensors = [tensor for tensor in _float_tensors(network) if not tensor.name.startswith("(Unnamed")]
    for tensor in tensors:
        found = ranges.get(tensor.name)
        if found is None:
            missing.append(tensor.name)
            continue
        amax = max(abs(found[0]), abs(found[1]))
        if not tensor.set_dynamic_range(-amax, amax):
            refused.append(tensor.name)
    if tensors and len(missing) == len(tensors):
        raise VerifyError(
            "the ranges are of another network",
            value=f"none of its {len(tensors)} tensors has one, for example {missing[0]}",
            allowed="ranges measured on this model",
            fix="edgeseg calibrate MODEL --frames SRC",
        )
    return refused


def encode_cache(ranges: Ranges, version: str, kind: CalibratorKind = "entropy") -> bytes:
    """Ranges as the calibration cache that trtexec takes (`--int8 --calib=FILE`).

    The first line names version and algorithm; then one line a tensor, its scale (largest magnitude / 127) as the
    eight hex digits of a big-endian float32.
    """
    lines = [f"TRT-{_version_number(version)}-{_HEADER[kind]}"]
    for name, (low, high) in ranges.items():
        scale = max(abs(low), abs(high)) / _STEPS
        lines.append(f"{name}: {struct.pack('>f', scale).hex()}")
    return ("\n".join(lines) + "\n").encode()


def decode_cache(data: bytes) -> dict[str, float]:
    """Largest magnitude by tensor name from a calibration cache.

    Raises:
        VerifyError: Not a calibration cache, or a scale that is not finite and positive.
    """
    lines = data.decode(errors="replace").splitlines()
    if not lines or not lines[0].startswith("TRT-"):
        raise VerifyError("not a TensorRT calibration cache", value=lines[0] if lines else "empty", allowed="TRT-…")
    found = {}
    for line in lines[1:]:
        name, _, digits = line.rpartition(": ")
        try:
            (scale,) = struct.unpack(">f", bytes.fromhex(digits))
        except (ValueError, struct.error):
            raise VerifyError("a line of the calibration cache is damaged", value=line, allowed="NAME: HEX") from None
        if not (np.isfinite(scale) and scale > 0):
            raise VerifyError("a scale of the calibration cache is refused", value=line, allowed="finite and positive")
        found[name] = scale * _STEPS
    return found


def make_calibrator(api: TensorRtApi, cuda: Any, frames: U8, kind: CalibratorKind, cache: Path) -> Any:
    """NVIDIA's calibrator over frames that are on their way to the GPU.

    Args:
        api: The runtime.
        cuda: An open `CudaDriver`.
        frames: uint8 [number, N, H, W, C]: submissions of the engine's own input.
        kind: `entropy` or `minmax`.
        cache: Where the result is kept; its name is `cache_key`, so it can only be of this graph and these frames.

    Raises:
        CapabilityError: The runtime has no implicit INT8.
    """
    base: Any = getattr(api.trt, _CLASS[kind], None)
    if base is None:
        raise api.lacks("an INT8 calibrator", allowed="explicit Q/DQ, which every version has")
    stream = cuda.stream()
    address = cuda.device_empty(frames[0].nbytes)
    staging = cuda.host_empty(frames[0].shape, mapped=False)

    class _Calibrator(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            self._next = 0

        def get_batch_size(self) -> int:
            return int(frames.shape[1])

        def get_batch(self, names: list[str]) -> list[int] | None:
            if self._next == len(frames):
                return None
            # one submission at a time through page-locked memory: a list of frames would not fit a board's memory
            np.copyto(staging, frames[self._next])
            cuda.copy_in(address, staging, stream)
            cuda.synchronize(stream)
            self._next += 1
            return [address] * len(names)

        def read_calibration_cache(self) -> bytes | None:
            return cache.read_bytes() if cache.is_file() else None

        def write_calibration_cache(self, data: bytes) -> None:
            write_bytes(cache, bytes(data))

    return _Calibrator()


def cache_key(model: bytes, frames: U8, kind: CalibratorKind, version: str) -> str:
    """Names a calibration by what it was measured on."""
    return sha256_bytes(model, frames.tobytes(), str(frames.shape).encode(), kind.encode(), version.encode())


def _float_tensors(network: Any) -> list[Any]:
    tensors = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        tensors += [tensor for number in range(layer.num_outputs) if (tensor := layer.get_output(number)) is not None]
    return [tensor for tensor in tensors if str(tensor.dtype).rsplit(".", 1)[-1].upper() in ("FLOAT", "HALF")]


def _version_number(version: str) -> int:
    """As NVIDIA's own header does: 8.6.1 is 8601, 10.3.0 is 100300."""
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    return major * (1000 if major < 10 else 10_000) + minor * 100 + patch
