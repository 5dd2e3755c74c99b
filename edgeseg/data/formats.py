"""Every scheme of `open_dataset` that reads files, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.types import Dataset
from edgeseg.data.cityscapes import cityscapes_splits, open_cityscapes
from edgeseg.data.packed import PackedDataset, packed_splits
from edgeseg.data.paired import camvid_splits, folder_splits, open_camvid, open_folder
from edgeseg.data.polygons import coco_splits, labelme_splits, open_coco, open_labelme
from edgeseg.data.voc import open_voc, voc_splits


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
    "cityscapes": Format(cityscapes_splits, open_cityscapes),
    "coco": Format(coco_splits, open_coco),
    "folder": Format(folder_splits, open_folder),
    "labelme": Format(labelme_splits, open_labelme),
    "packed": Format(packed_splits, PackedDataset.open),
    "voc": Format(voc_splits, open_voc),
}
