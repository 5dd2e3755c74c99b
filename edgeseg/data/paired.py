"""Data sets that are files: a picture and the file that holds its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import DataError, RequestError
from edgeseg.core.types import Classes, Sample, format_size
from edgeseg.data.classes import CAMVID, CLASS_FILE, read_class_file
from edgeseg.data.labels import LabelReader, MaskReader
from edgeseg.data.pictures import IMAGE_SUFFIXES, read_image

CAMVID_PARTS = ("dev", "train-dev")
CAMVID_SPLITS = ("train", "val", "test", *CAMVID_PARTS)
_DEV_SEQUENCE = "0001TP_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One labelled picture on disk."""

    image: Path
    label: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """What a look at two folders found.

    Attributes:
        pairs: Pictures with their labels, in order of name.
        problems: Pictures that have none.
        orphans: Labels without a picture.
    """

    pairs: Sequence[Pair]
    problems: Sequence[DataError]
    orphans: Sequence[Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDataset:
    """Labelled frames from files, read when asked for.

    Attributes:
        name: The specification it was opened with.
        split: The split.
        labels: Reads the labels.
        pairs: The files, in order of name.
        problems: What is wrong with the folder as a whole: pictures without labels.
        orphans: Labels without a picture, which nothing reads: `edgeseg data lint` tells of them.
    """

    name: str
    split: str
    labels: LabelReader
    pairs: Sequence[Pair]
    problems: Sequence[DataError] = ()
    orphans: Sequence[Path] = ()

    @property
    def classes(self) -> Classes:
        """The vocabulary of the labels."""
        return self.labels.classes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one labelled frame.

        Raises:
            DataError: A picture that is truncated or damaged, a mask with an unknown id, sizes that differ.
        """
        pair = self.pairs[index]
        image_hwc = read_image(pair.image)
        size = (image_hwc.shape[0], image_hwc.shape[1])
        label_hw = self.labels.read(pair.label, size, pair.image)
        if size != label_hw.shape:
            raise DataError(
                "image and mask differ in size",
                value=f"{pair.image}: {format_size(size)}, {pair.label}: {format_size(label_hw.shape)}",
                allowed="one size for both",
            )
        return Sample(name=pair.image.stem, image_hwc=image_hwc, label_hw=label_hw)


def camvid_splits(root: Path) -> list[str]:
    """The splits that a CamVid folder has, without those that are parts of train."""
    need_folder(root)
    return [split for split in ("train", "val", "test") if (root / split).is_dir()]


def open_camvid(root: Path, split: str) -> PairedDataset:
    """CamVid in the SegNet tutorial's layout: `SPLIT/NAME.png` and `SPLITannot/NAME.png`.

    Besides the folders train, val and test there are two splits of train by sequence, for decisions: `dev`, the
    held-out sequence 0001TP, and `train-dev`, train without it. Only the folders of the split asked for are looked at.

    Raises:
        RequestError: An unknown split, or a folder that does not exist.
        DataError: No image at all.
    """
    if split not in CAMVID_SPLITS:
        raise RequestError("unknown split", value=split, allowed=f"allowed: {', '.join(CAMVID_SPLITS)}")
    folder = "train" if split in CAMVID_PARTS else split
    found = find_pairs(root / folder, root / f"{folder}annot")
    pairs, orphans = found.pairs, found.orphans
    if split != folder:
        pairs = [pair for pair in pairs if is_in_part(pair.image.stem, split)]
        orphans = [path for path in orphans if is_in_part(path.stem, split)]
    if not pairs and not found.problems:
        raise DataError("the split has no frames", value=f"{split} of {root}", allowed=f"names from {_DEV_SEQUENCE}")
    return PairedDataset(
        name=f"camvid:{root}",
        split=split,
        labels=MaskReader.plain(CAMVID),
        pairs=pairs,
        problems=found.problems,
        orphans=orphans,
    )


def is_in_part(name: str, part: str) -> bool:
    """Whether a frame of CamVid's train belongs to `dev`, the held-out sequence, or else to `train-dev`."""
    return name.startswith(_DEV_SEQUENCE) == (part == "dev")


def folder_splits(root: Path) -> list[str]:
    """The splits that a folder of one's own has."""
    need_folder(root)
    return sorted(path.parent.name for path in root.glob("*/images") if path.is_dir())


def open_folder(root: Path, split: str) -> PairedDataset:
    """A folder of one's own: `classes.toml`, `SPLIT/images/NAME.*`, `SPLIT/masks/NAME.png`.

    Raises:
        RequestError: A folder or the class file does not exist, or the class file is not valid.
        DataError: No image at all.
    """
    need_folder(root)
    if not (root / split).is_dir():
        raise no_split(root, split, folder_splits(root))
    file = read_class_file(root / CLASS_FILE)
    found = find_pairs(root / split / "images", root / split / "masks", mask_suffix=file.mask_suffix)
    return PairedDataset(
        name=f"folder:{root}",
        split=split,
        labels=MaskReader.from_file(file),
        pairs=found.pairs,
        problems=found.problems,
        orphans=found.orphans,
    )


def find_pairs(images: Path, masks: Path, *, mask_suffix: str = "") -> Pairing:
    """Every image of a folder with the mask of its name, and what is wrong with the others.

    Args:
        images: Folder of the pictures.
        masks: Folder of the masks.
        mask_suffix: What a mask's name has behind the picture's, before `.png`.

    Raises:
        RequestError: A folder does not exist.
        DataError: No image at all.
    """
    need_folder(masks)
    pairs: dict[str, Pair] = {}
    problems: list[DataError] = []
    for path in list_images(images):
        mask = masks / f"{path.stem}{mask_suffix}.png"
        if not mask.is_file():
            problems.append(DataError("an image has no mask", value=path, allowed=f"a mask {mask}"))
        elif path.stem in pairs:
            problems.append(DataError("two images have one name", value=f"{path}, {pairs[path.stem].image}"))
        else:
            pairs[path.stem] = Pair(image=path, label=mask)
    used = {pair.label for pair in pairs.values()}
    orphans = [path for path in sorted(masks.glob("*.png")) if path not in used and not path.name.startswith(".")]
    return Pairing(pairs=list(pairs.values()), problems=problems, orphans=orphans)


def list_images(folder: Path) -> list[Path]:
    """The pictures of a folder, in order of name.

    Raises:
        RequestError: The folder does not exist.
        DataError: It has no pictures.
    """
    need_folder(folder)
    found = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        raise DataError("the folder has no images", value=folder, allowed=", ".join(IMAGE_SUFFIXES))
    return found


def need_folder(path: Path) -> None:
    """Raise RequestError unless `path` is a folder."""
    if not path.is_dir():
        raise RequestError("the folder does not exist", value=path, allowed="a data set's folder")


def no_split(root: Path, split: str, found: Sequence[str]) -> RequestError:
    """The error for a split that a data set does not have."""
    return RequestError(
        "the data set has no such split", value=f"{split} of {root}", allowed=f"here: {', '.join(found) or 'none'}"
    )
