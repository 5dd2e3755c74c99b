"""Data sets that are files: an image and a mask of one name in two folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import DataError, RequestError
from edgeseg.core.types import Classes, Sample, format_size
from edgeseg.data.classes import CAMVID, CLASS_FILE, read_class_file
from edgeseg.data.masks import LabelCoding
from edgeseg.data.pictures import IMAGE_SUFFIXES, read_image

CAMVID_SPLITS = ("train", "val", "test", "dev", "train-dev")
_DEV_SEQUENCE = "0001TP_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One labelled picture on disk."""

    image: Path
    mask: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDataset:
    """Labelled frames from files, read when asked for.

    Attributes:
        name: The specification it was opened with.
        split: The split.
        coding: How its masks name classes.
        pairs: The files, in order of name.
    """

    name: str
    split: str
    coding: LabelCoding
    pairs: Sequence[Pair]

    @property
    def classes(self) -> Classes:
        """The vocabulary of the labels."""
        return self.coding.classes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one labelled frame.

        Raises:
            DataError: A picture that is truncated or damaged, a mask with an unknown id, sizes that differ.
        """
        pair = self.pairs[index]
        image_hwc, label_hw = read_image(pair.image), self.coding.read(pair.mask)
        if image_hwc.shape[:2] != label_hw.shape:
            raise DataError(
                "image and mask differ in size",
                value=f"{pair.image}: {format_size(image_hwc.shape[:2])}, {pair.mask}: {format_size(label_hw.shape)}",
                allowed="one size for both",
            )
        return Sample(name=pair.image.stem, image_hwc=image_hwc, label_hw=label_hw)


def open_camvid(root: Path, split: str) -> PairedDataset:
    """CamVid in the SegNet tutorial's layout: `SPLIT/NAME.png` and `SPLITannot/NAME.png`.

    Besides the folders train, val and test there are two splits of train by sequence, for decisions: `dev`, the
    held-out sequence 0001TP, and `train-dev`, train without it. Only the folders of the split asked for are looked at.

    Raises:
        RequestError: An unknown split, or a folder that does not exist.
        DataError: An image without its mask, or no image at all.
    """
    _known_split(split, CAMVID_SPLITS)
    folder = "train" if split in ("dev", "train-dev") else split
    pairs = find_pairs(root / folder, root / f"{folder}annot")
    if split != folder:
        pairs = [pair for pair in pairs if pair.image.stem.startswith(_DEV_SEQUENCE) == (split == "dev")]
    if not pairs:
        raise DataError("the split has no frames", value=f"{split} of {root}", allowed=f"names from {_DEV_SEQUENCE}")
    return PairedDataset(name=f"camvid:{root}", split=split, coding=LabelCoding.plain(CAMVID), pairs=pairs)


def open_folder(root: Path, split: str) -> PairedDataset:
    """A folder of one's own: `classes.toml`, `SPLIT/images/NAME.*`, `SPLIT/masks/NAME.png`.

    Raises:
        RequestError: A folder or the class file does not exist, or the class file is not valid.
        DataError: An image without its mask, or no image at all.
    """
    need_folder(root)
    if not (root / split).is_dir():
        splits = sorted(path.parent.name for path in root.glob("*/images"))
        raise RequestError(
            "the data set has no such split", value=f"{split} of {root}", allowed=f"here: {', '.join(splits) or 'none'}"
        )
    file = read_class_file(root / CLASS_FILE)
    pairs = find_pairs(root / split / "images", root / split / "masks")
    return PairedDataset(name=f"folder:{root}", split=split, coding=LabelCoding.from_file(file), pairs=pairs)


def find_pairs(images: Path, masks: Path) -> list[Pair]:
    """Every image of a folder with the mask of its name.

    Raises:
        RequestError: A folder does not exist.
        DataError: An image without its mask, two images of one name, or no image at all.
    """
    need_folder(images)
    need_folder(masks)
    pairs: dict[str, Pair] = {}
    for path in sorted(images.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        mask = masks / f"{path.stem}.png"
        if not mask.is_file():
            raise DataError("an image has no mask", value=path, allowed=f"a mask {mask}")
        if path.stem in pairs:
            raise DataError("two images have one name", value=f"{path}, {pairs[path.stem].image}")
        pairs[path.stem] = Pair(image=path, mask=mask)
    if not pairs:
        raise DataError("the folder has no images", value=images, allowed=", ".join(IMAGE_SUFFIXES))
    return list(pairs.values())


def need_folder(path: Path) -> None:
    """Raise RequestError unless `path` is a folder."""
    if not path.is_dir():
        raise RequestError("the folder does not exist", value=path, allowed="a data set's folder")


def _known_split(split: str, allowed: Sequence[str]) -> None:
    if split not in allowed:
        raise RequestError("unknown split", value=split, allowed=f"allowed: {', '.join(allowed)}")
