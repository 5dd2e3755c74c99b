"""What a calibration or build is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from edgeseg.core.errors import RequestError
from edgeseg.core.types import Colour, InputFormat, Precision, Region, Size

PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16", "int8"]

DEFAULT_MAX_DROP = 0.5
"""The gate's budget, in points of mIoU, where data is given without one."""


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A build, as a person or program asks for it; stored resolved as `source/build.toml`.

    Attributes:
        model: Path of a canonical ONNX file, or `zoo:NAME`.
        target: Target recipe, or `auto`: the one of this machine.
        precision: Precision, or `auto`: the fastest that keeps the masks.
        ranges: Range file for INT8.
        frames: Frames to calibrate on, instead of `ranges`.
        recipe: Calibration recipe, instead of `ranges`.
        data: Labelled data of the gate; None builds without one.
        split: Its split.
        max_drop: Points of mIoU (0.5 is 0.005) that the engine may lose.
        max_drop_class: The same for single classes, in points of IoU.
        frame_size: (H, W) of frame and mask; by default what the model was trained at.
        network_size: (H, W) that the layers see; by default the trained height with the frame's aspect ratio.
        roi: Part of the frame that is segmented; None for all of it.
        input_format: Layout of the engine's input.
        colour: What the bytes of nv12 and yuyv mean.
        confidence: Whether the engine also gives a confidence plane.
        backend: Only this backend; None takes the fastest of the target's.
        threads: CPU threads; None takes the target's.
        options: Backend options over the target recipe's own, for example `dla_core`, `workspace_mb`.
        max_builds: Engines that the mixed-precision search of `auto` may build.
    """

    model: str
    target: str = "auto"
    precision: PrecisionChoice = "auto"
    ranges: str | None = None
    frames: str | None = None
    recipe: str | None = None
    data: str | None = None
    split: str = "val"
    max_drop: float | None = None
    max_drop_class: dict[str, float] = {}
    frame_size: Size | None = None
    network_size: Size | None = None
    roi: Region | None = None
    input_format: InputFormat = "bgr"
    colour: Colour = Colour()
    confidence: bool = False
    backend: str | None = None
    threads: int | None = None
    options: dict[str, str | int | float | bool] = {}
    max_builds: int = 12

    @property
    def budget(self) -> float:
        """Points of mIoU that the gate allows."""
        return DEFAULT_MAX_DROP if self.max_drop is None else self.max_drop

    def check(self) -> None:
        """Refuse what contradicts itself, before any work.

        Raises:
            RequestError: More than one origin of ranges, or a budget without data.
        """
        given = [name for name in ("ranges", "frames", "recipe") if getattr(self, name) is not None]
        if len(given) > 1:
            raise RequestError(
                "ranges come from one place",
                value=", ".join(f"--{name}" for name in given),
                allowed="one of --ranges, --frames, --recipe",
            )
        if self.data is None and (self.max_drop is not None or self.max_drop_class):
            raise RequestError(
                "a gate needs labelled data", value="--max-drop without --data", allowed="--data DATA --max-drop POINTS"
            )
        for name, points in {"miou": self.budget, **self.max_drop_class}.items():
            if not 0 <= points <= 100:
                raise RequestError(f"the budget of {name} cannot be", value=points, allowed="0 to 100 points")


class CalibrationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A calibration, as asked for: exactly one of `frames` and `recipe`; None takes the recipe's or the default.

    `as_is` measures the weights as they are, without equalisation and with every layer in integers; `corrupt` names bad
    conditions (`night`, `rain:2`, `all`) that some of the frames are seen under.
    """

    model: str
    frames: str | None = None
    recipe: str | None = None
    method: str | None = None
    percentile: float | None = None
    count: int | None = None
    network_size: Size | None = None
    as_is: bool = False
    corrupt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One candidate: what it is, and its median in ms of one interleaved run; None where it cannot run here."""

    name: str
    backend: str
    precision: Precision
    p50_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a build made.

    Attributes:
        bundle: Its folder.
        id: Its id.
        backend: The backend taken.
        precision: The precision taken.
        frame_size: (H, W) of frame and mask.
        timings: Every candidate, fastest first.
        scores: Of reference and engine where a gate ran: {"reference": {...}, "engine": {...}}.
        notes: What a person should know.
    """

    bundle: Path
    id: str
    backend: str
    precision: Precision
    frame_size: Size
    timings: tuple[Timing, ...] = ()
    scores: dict[str, dict[str, float | None]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
