"""edgeseg: real-time semantic segmentation on a vehicle.

The doors of the rooms, imported when first used, so that `import edgeseg` costs nothing:

    open_dataset     labelled frames: "camvid:PATH", "folder:PATH", "street:seed=1,frames=200"
    open_source      frames in: a camera, a video file, a folder, "street:…"
    open_runner      the engine of a verified bundle
    open_live        the live loop, as an iterator of results
    build_bundle     model, ranges and target -> a bundle that verifies
    evaluate_runner  an engine over a data set -> scores
    measure_runner   an engine -> timing samples
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "open_dataset": "edgeseg.data",
    "open_source": "edgeseg.sources",
    "open_runner": "edgeseg.bundle",
    "open_live": "edgeseg.live",
    "build_bundle": "edgeseg.deploy",
    "evaluate_runner": "edgeseg.measure",
    "measure_runner": "edgeseg.measure",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'edgeseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
