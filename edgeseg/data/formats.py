"""Every scheme of `open_dataset` that reads files, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.types import Dataset
from edgeseg.data.packed import PackedDataset, packed_splits
from edgeseg.data.paired import camvid_splits, folder_splits, open_camvid, open_folder


@dataclass(frozen=True, slots=True)
class Format:
    """A layout of files.

    Attributes:
        splits: The splits that are there.
        open: Opens one; lists what is wrong in `PairedDataset.problems` instead of raising it.
    """

    splits: Callable[[Path], list[str]]
    open: Callable[[Path, str], Dataset]


FORMATS: Mapping[str, Format] = {
    "camvid": Format(camvid_splits, open_camvid),
    "folder": Format(folder_splits, open_folder),
    "packed": Format(packed_splits, PackedDataset.open),
}
