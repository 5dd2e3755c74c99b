"""`street:`, a renderer of labelled street scenes, so that demo and tests need no download."""

from __future__ import annotations

from edgeseg.data.street.scene import DATASET_STEP_M, VIDEO_STEP_M, StreetDataset, StreetScene

__all__ = ["DATASET_STEP_M", "VIDEO_STEP_M", "StreetDataset", "StreetScene"]
