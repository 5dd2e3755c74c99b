"""The nouns that rooms hand each other: classes, frames, results, specs, and the Protocols of the replaceable parts.

Layout is in the name: `_hwc` is [height, width, channel], `_nhwc` a batch of those, `_hw` a plane of class ids.
Colour pictures are BGR, as OpenCV gives them; palettes are RGB, as PNG writes them. Sizes are (height, width).
"""

from __future__ import annotations

from edgeseg.core.types.colour import Colour
from edgeseg.core.types.common import F32, U8, Classes, DeviceInfo, InputFormat, Precision, Region, Size, format_size
from edgeseg.core.types.engines import Builder, BuiltEngine, EngineSpec, Output, Runner, RunnerSpec, RunTimes, Ticket
from edgeseg.core.types.frames import Dataset, Frame, Sample, Source, SourceInfo, Suitable
from edgeseg.core.types.results import Picture, Result, Sink, SinkContext, Stage, State

__all__ = [
    "F32",
    "U8",
    "Builder",
    "BuiltEngine",
    "Classes",
    "Colour",
    "Dataset",
    "DeviceInfo",
    "EngineSpec",
    "Frame",
    "InputFormat",
    "Output",
    "Picture",
    "Precision",
    "Region",
    "Result",
    "RunTimes",
    "Runner",
    "RunnerSpec",
    "Sample",
    "Sink",
    "SinkContext",
    "Size",
    "Source",
    "SourceInfo",
    "Stage",
    "State",
    "Suitable",
    "Ticket",
    "format_size",
]
