"""PASCAL VOC's layout, which CVAT exports as "Segmentation mask".

`JPEGImages/NAME.*`, `SegmentationClass/NAME.png`, `ImageSets/Segmentation/SPLIT.txt`, and with CVAT `labelmap.txt`,
whose lines are `name:R,G,B:parts:actions`. Masks go by colour, since tools number their palettes differently.
"""

from __future__ import annotations

from pathlib import Path

from edgeseg.core.errors import DataError, RequestError
from edgeseg.data.classes import RGB, ClassFile, voc_palette
from edgeseg.data.labels import MaskReader
from edgeseg.data.paired import Pair, PairedDataset, need_folder, no_split
from edgeseg.data.pictures import IMAGE_SUFFIXES

_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_VOID: RGB = (224, 224, 192)
_SETS = Path("ImageSets") / "Segmentation"


def voc_splits(root: Path) -> list[str]:
    """The lists of frames that are there; `trainval`, the sum of two, is left out."""
    need_folder(root / _SETS)
    return sorted(path.stem for path in (root / _SETS).glob("*.txt") if path.stem != "trainval")


def open_voc(root: Path, split: str) -> PairedDataset:
    """Open the frames that a list names.

    Raises:
        RequestError: The folder or the list does not exist, or the label map cannot be read.
        DataError: The list is empty.
    """
    listing = root / _SETS / f"{split}.txt"
    if not listing.is_file():
        raise no_split(root, split, voc_splits(root))
    names = [line.split()[0] for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not names:
        raise DataError("the split has no frames", value=listing, allowed="one name a line")
    images = _images(root / "JPEGImages")
    pairs: list[Pair] = []
    problems: list[DataError] = []
    for name in names:
        image, mask = images.get(name), root / "SegmentationClass" / f"{name}.png"
        if image is None:
            problems.append(DataError("a listed image does not exist", value=root / "JPEGImages" / name))
        elif not mask.is_file():
            problems.append(DataError("an image has no mask", value=image, allowed=f"a mask {mask}"))
        else:
            pairs.append(Pair(image=image, label=mask))
    labels = MaskReader.by_colour_of(_label_map(root / "labelmap.txt"))
    return PairedDataset(name=f"voc:{root}", split=split, labels=labels, pairs=pairs, problems=problems)


def _images(folder: Path) -> dict[str, Path]:
    """Pictures by the name that a list gives them: CVAT keeps the folders of a task, so a name may hold some."""
    need_folder(folder)
    found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES)
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}


def _label_map(path: Path) -> ClassFile:
    if not path.is_file():
        return ClassFile(names=_NAMES, palette_rgb=voc_palette(len(_NAMES)), ignore_rgb=(_VOID,))
    names: list[str] = []
    colours: list[RGB] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, colour = line.split(":")[:2]
            red, green, blue = (int(part) for part in colour.split(","))
        except ValueError:
            raise RequestError("cannot read the label map", value=f"{path}: {line}", allowed="name:R,G,B::") from None
        names.append(name)
        colours.append((red, green, blue))
    try:
        void = () if _VOID in colours else (_VOID,)
        return ClassFile(names=tuple(names), palette_rgb=tuple(colours), ignore_rgb=void)
    except ValueError as error:
        raise RequestError("the label map is not valid", value=f"{path}: {error}") from None
