"""The range file: what every quantisable tensor's values were, for which weights, on which frames.

One JSON object, content-addressed: `id` is the SHA-256 of all other fields, and nothing in it depends on when or
where it was made, so the same weights, geometry, frames and method give the same file. The histograms are there, so
thresholds of any method and placement are derived from it (`edgeseg.quant.thresholds`). A file that does not verify
is refused: truncated, foreign, of a newer format, edited, with a value that is not finite, with a tensor missing, or
stale (measured on other weights).
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.artefacts import sha256_bytes, write_text
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.core.types import F32
from edgeseg.quant.histogram import BINS, Histogram
from edgeseg.quant.thresholds import Distribution, Method

FORMAT = "edgeseg-ranges"
VERSION = 2
"""The newest format: 2 knows factors, layers in float and learnt scales; a file with none of them is written as 1."""
_FIX = "edgeseg calibrate MODEL --frames SRC"


class LearntScale(msgspec.Struct, frozen=True, kw_only=True):
    """A scale that quantisation-aware training learnt: it replaces what the histogram says, for one integer type."""

    dtype: Literal["uint8", "int8"]
    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale is {self.scale}; allowed: positive")


class TensorRange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One tensor's values over all frames.

    Attributes:
        minimum: Exact smallest value.
        maximum: Exact largest value.
        low: Lower edge of the first of 2048 bins.
        high: Upper edge of the last one.
        histogram: Counts, int64 little-endian, zlib, base64.
        means: Mean of each channel, float32 little-endian, base64: what bias correction needs.
        learnt: Scale that a training learnt, in place of the histogram's.
    """

    minimum: float
    maximum: float
    low: float
    high: float
    histogram: str
    means: str
    learnt: LearntScale | None = None

    def channel_means(self) -> F32:
        """Mean of each channel, float32 [C]."""
        return _floats(self.means)

    def distribution(self) -> Distribution:
        """The values with their counts decoded."""
        counts = np.frombuffer(zlib.decompress(base64.b64decode(self.histogram)), "<i8").astype(np.int64)
        return Distribution(self.minimum, self.maximum, self.low, self.high, counts)


class FrameReport(msgspec.Struct, frozen=True, kw_only=True):
    """Which frames were measured, and what was left out.

    Attributes:
        source: Where they came from, as given (credentials removed).
        sha256: Hash over the pixels of the frames in order.
        count: Frames measured.
        offered: Frames looked at.
        duplicates: Left out: too like a frame already taken.
        blank: Left out: black or of one colour.
        brightness: Mean brightness, 0 to 255, of the frames at their 5th, 50th and 95th percentile.
        class_shares: Share of the labelled pixels by class, where the frames have labels.
        warnings: What a person should know.
    """

    source: str
    sha256: str
    count: int
    offered: int
    duplicates: int = 0
    blank: int = 0
    brightness: tuple[float, float, float] = (0.0, 0.0, 0.0)
    class_shares: dict[str, float] | None = None
    warnings: tuple[str, ...] = ()


class Ranges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A range file's content.

    Attributes:
        model: Name of the model, information.
        weights_sha256: Hash of the canonical network's weights.
        layers_size: (H, W) that the layers saw, before padding.
        method: How thresholds are derived unless a build says otherwise.
        frames: What was measured.
        tensors: Values by tensor name of the canonical graph, its channels divided by the factors of `equalisation`.
        equalisation: Factors of each group of channels, by its first tensor: float32 little-endian, base64. Empty where
            the canonical weights were measured as they are (`edgeseg.quant.equalise`).
        in_float: Layers that lose too much in integers, by activation type of the placements (`edgeseg.quant.guard`).
    """

    model: str
    weights_sha256: str
    layers_size: tuple[int, int]
    method: Method
    frames: FrameReport
    tensors: dict[str, TensorRange]
    equalisation: dict[str, str] = {}
    in_float: dict[str, tuple[str, ...]] = {}

    @property
    def version(self) -> int:
        """The oldest format that holds this content."""
        new = self.equalisation or self.in_float or any(item.learnt for item in self.tensors.values())
        return VERSION if new else 1

    @property
    def id(self) -> str:
        """SHA-256 over the canonical JSON of all fields: the address of this content."""
        content = msgspec.json.encode(self, order="deterministic")
        return sha256_bytes(FORMAT.encode(), str(self.version).encode(), content)

    def factors(self) -> dict[str, F32]:
        """What the channels of each group were divided by, float32 [C]."""
        return {name: _floats(text) for name, text in self.equalisation.items()}

    def require(self, tensors: Iterable[str]) -> None:
        """Refuse a file that lacks one of these tensors.

        Raises:
            VerifyError: Names the first missing tensor.
        """
        for name in tensors:
            if name not in self.tensors:
                raise VerifyError("the range file lacks a tensor", value=name, fix=_FIX)


def tensor_range(histogram: Histogram, means: NDArray[np.float64]) -> TensorRange:
    """What a finished histogram and the means of the channels hold, in the file's form."""
    packed = zlib.compress(histogram.counts.astype("<i8").tobytes(), 9)
    return TensorRange(
        minimum=histogram.minimum,
        maximum=histogram.maximum,
        low=histogram.low,
        high=histogram.high,
        histogram=base64.b64encode(packed).decode(),
        means=pack_floats(means),
    )


def pack_floats(values: NDArray[Any]) -> str:
    """Float32 little-endian, base64."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _floats(text: str) -> F32:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)


def save_ranges(path: Path, ranges: Ranges) -> None:
    """Write a range file, atomically."""
    content = {"format": FORMAT, "version": ranges.version, "id": ranges.id, **msgspec.to_builtins(ranges)}
    write_text(path, json.dumps(content, indent=1, sort_keys=False, allow_nan=False) + "\n")


def load_ranges(path: Path, *, weights_sha256: str | None = None) -> Ranges:
    """Read and verify a range file.

    Args:
        path: The file.
        weights_sha256: Hash of the weights it must have been measured on; None checks the file alone.

    Raises:
        RequestError: There is no such file.
        VerifyError: It is truncated, foreign, of a newer format, edited, not finite or stale.
    """
    content = _read(path)
    for name, entry in _tensors(content).items():
        _check_tensor(path, name, entry)
    claimed = content.pop("id", None)
    fields = {key: value for key, value in content.items() if key not in ("format", "version")}
    try:
        ranges = msgspec.convert(fields, Ranges)
    except msgspec.ValidationError as error:
        raise VerifyError("the range file is damaged", value=f"{path}: {error}", fix=_FIX) from error
    needed = set(Ranges.__struct_fields__) - {"equalisation", "in_float"}
    if not needed <= set(fields) <= set(Ranges.__struct_fields__) or ranges.id != claimed:
        raise VerifyError("the range file was altered", value=path, allowed="an unedited file", fix=_FIX)
    _check_factors(path, ranges)
    for name, item in ranges.tensors.items():
        _check_histogram(path, name, item)
    if weights_sha256 is not None and ranges.weights_sha256 != weights_sha256:
        raise VerifyError(
            "the range file is stale: it was measured on other weights",
            value=f"{path}: {ranges.weights_sha256[:12]}, the model has {weights_sha256[:12]}",
            fix=_FIX,
        )
    return ranges


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())  # accepts NaN, so that the tensor can be named
    except FileNotFoundError:
        raise RequestError("the range file does not exist", value=path, fix=_FIX) from None
    except (ValueError, RecursionError) as error:
        raise VerifyError("the range file is truncated or not JSON", value=path, fix=_FIX) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise VerifyError("not a range file of edgeseg", value=path, fix=_FIX)
    version = content.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise VerifyError("the range file is of a newer format", value=f"{path}: {version}", allowed=f"up to {VERSION}")
    return content


def _tensors(content: dict[str, Any]) -> dict[str, Any]:
    tensors = content.get("tensors")
    return tensors if isinstance(tensors, dict) else {}


def _check_tensor(path: Path, name: str, entry: object) -> None:
    values = [entry.get(key) for key in ("minimum", "maximum", "low", "high")] if isinstance(entry, dict) else [None]
    learnt = entry.get("learnt") if isinstance(entry, dict) else None
    if isinstance(learnt, dict):
        values.append(learnt.get("scale"))
    for value in values:
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise VerifyError("the range file has a value that is not finite", value=f"{path}: {name}", fix=_FIX)


def _check_factors(path: Path, ranges: Ranges) -> None:
    for name in ranges.equalisation:
        try:
            factor = ranges.factors()[name]
        except ValueError as error:
            raise VerifyError("the range file has damaged factors", value=f"{path}: {name}", fix=_FIX) from error
        if not len(factor) or not np.isfinite(factor).all() or factor.min() <= 0:
            raise VerifyError("the range file has damaged factors", value=f"{path}: {name}", fix=_FIX)


def _check_histogram(path: Path, name: str, item: TensorRange) -> None:
    try:
        values, means = item.distribution(), item.channel_means()
    except (ValueError, zlib.error) as error:
        raise VerifyError("the range file has a damaged histogram", value=f"{path}: {name}", fix=_FIX) from error
    sound = len(values.counts) == BINS and values.counts.min() >= 0 and values.counts.any()
    sound = sound and len(means) > 0 and bool(np.isfinite(means).all())
    if not sound or not item.low <= item.minimum <= item.maximum <= item.high:
        raise VerifyError("the range file has a damaged histogram", value=f"{path}: {name}", fix=_FIX)
