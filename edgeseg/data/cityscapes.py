"""Cityscapes: `leftImg8bit/SPLIT/CITY/X_leftImg8bit.png` and `gtFine/SPLIT/CITY/X_gtFine_labelIds.png`.

The masks hold the 34 label ids; the labels that come out are the 19 classes of the benchmark (cityscapesScripts,
helpers/labels.py: id, trainId, color), everything else is ignored.
"""

from __future__ import annotations

from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.data.classes import RGB, ClassFile
from edgeseg.data.labels import MaskReader
from edgeseg.data.paired import Pair, PairedDataset, need_folder, no_split

_IMAGE, _MASK = "_leftImg8bit.png", "_gtFine_labelIds.png"

_CLASSES: tuple[tuple[str, int, RGB], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)

CLASS_FILE = ClassFile(
    names=tuple(name for name, _, _ in _CLASSES),
    palette_rgb=tuple(colour for _, _, colour in _CLASSES),
    ignore_id=255,
    values=tuple(value for _, value, _ in _CLASSES),
    ignore_values=tuple(value for value in range(34) if value not in {used for _, used, _ in _CLASSES}),
)


def cityscapes_splits(root: Path) -> list[str]:
    """The splits that have labels: train and val, since the labels of test are not published."""
    need_folder(root / "leftImg8bit")
    return [path.name for path in sorted((root / "gtFine").glob("*")) if path.is_dir() and path.name != "test"]


def open_cityscapes(root: Path, split: str) -> PairedDataset:
    """Open a split with its fine labels.

    Raises:
        RequestError: The folder or the split does not exist.
        DataError: No image at all.
    """
    if not (root / "leftImg8bit" / split).is_dir() or not (root / "gtFine" / split).is_dir():
        raise no_split(root, split, cityscapes_splits(root))
    pairs: list[Pair] = []
    problems: list[DataError] = []
    orphans = set((root / "gtFine" / split).glob(f"*/*{_MASK}"))
    for image in sorted((root / "leftImg8bit" / split).glob(f"*/*{_IMAGE}")):
        mask = root / "gtFine" / split / image.parent.name / image.name.replace(_IMAGE, _MASK)
        if mask.is_file():
            pairs.append(Pair(image=image, label=mask))
            orphans.discard(mask)
        else:
            problems.append(DataError("an image has no mask", value=image, allowed=f"a mask {mask}"))
    if not pairs and not problems:
        raise DataError("the folder has no images", value=root / "leftImg8bit" / split, allowed=f"CITY/NAME{_IMAGE}")
    labels = MaskReader.from_file(CLASS_FILE)
    return PairedDataset(
        name=f"cityscapes:{root}",
        split=split,
        labels=labels,
        pairs=pairs,
        problems=problems,
        orphans=sorted(orphans),
    )
