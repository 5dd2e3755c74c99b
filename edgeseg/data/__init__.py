"""The door to labelled frames.

    camvid:PATH      the SegNet tutorial's CamVid; splits train, val, test, and by sequence dev, train-dev
    folder:PATH      images, index or colour masks, and a class file of one's own
    cityscapes:PATH  its fine labels as the 19 classes of the benchmark
    voc:PATH         PASCAL VOC and CVAT's "Segmentation mask"
    coco:PATH        COCO polygons and run lengths (needs pycocotools)
    labelme:PATH     LabelMe's JSON beside the pictures, and a class file
    packed:FILE      one file that `edgeseg data pack` wrote, read without OpenCV
    street:OPTIONS   a rendered drive through a labelled street: seed=1,frames=200,size=360x480

Nothing heavy is imported before a data set is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.core.deps import require
from edgeseg.core.errors import DataError, RequestError
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import Dataset
from edgeseg.data.spec import parse_street, split_spec

if TYPE_CHECKING:
    from edgeseg.data.survey import Survey

SCHEMES = ("camvid", "cityscapes", "coco", "folder", "labelme", "packed", "street", "voc")

# what a split `train` consists of, for whoever named a wrong folder
_TRAIN_OF = {
    "camvid": "train/ and trainannot/",
    "cityscapes": "leftImg8bit/train/ and gtFine/train/",
    "coco": "annotations/instances_train.json, or train/_annotations.coco.json",
    "folder": "classes.toml, train/images/ and train/masks/",
    "labelme": "classes.toml, and train/NAME.json beside the pictures",
    "packed": "the tensors of train, as `edgeseg data pack` writes them",
    "voc": "ImageSets/Segmentation/train.txt",
}


def open_dataset(spec: str, split: str) -> Dataset:
    """Open one split of a data set.

    Args:
        spec: `SCHEME:PATH` or `street:KEY=VALUE,…`; relative paths are taken from the working directory.
        split: `train`, `val`, or another split of that data set.

    Raises:
        RequestError: An unknown scheme or split, or a path that does not exist.
        DataError: Files that cannot be used: an image without its mask, no images.
        UnavailableError: Pillow or OpenCV is missing.
    """
    dataset, problems, _ = _open(spec, split)
    if problems:
        raise problems[0]
    return dataset


def dataset_splits(spec: str) -> list[str]:
    """The splits of a data set that share no frame; CamVid's `dev` and `train-dev`, parts of `train`, are left out.

    Raises:
        RequestError: An unknown scheme, a path that does not exist, or no split at all.
    """
    scheme, rest = split_spec(spec, SCHEMES)
    if scheme == "street":
        return ["train", "val"]
    require("PIL", what=f"{scheme}:")
    from edgeseg.data.formats import FORMATS

    splits = FORMATS[scheme].splits(Path(rest).expanduser())
    if not splits:
        raise RequestError(
            "no split of such a data set is here",
            value=spec,
            allowed=f"a folder that holds, for example, {_TRAIN_OF[scheme]} (docs/data.md)",
        )
    return splits


def _open(spec: str, split: str) -> tuple[Dataset, Sequence[DataError], Sequence[Path]]:
    """A split, what is wrong with its files as far as a look at the folder tells, and labels without a picture."""
    scheme, rest = split_spec(spec, SCHEMES)
    if scheme == "street":
        options = parse_street(rest)
        require("cv2", what="street:")
        from edgeseg.data.street import StreetDataset

        return StreetDataset.open(spec, options, split), (), ()
    require("PIL", what=f"{scheme}:")
    from edgeseg.data.formats import FORMATS
    from edgeseg.data.paired import PairedDataset

    dataset = FORMATS[scheme].open(Path(rest).expanduser(), split)
    if not isinstance(dataset, PairedDataset):
        return dataset, (), ()
    return dataset, dataset.problems, dataset.orphans


def write_folder(out: Path, splits: Mapping[str, Dataset], *, progress: Progress | None = None) -> dict[str, int]:
    """Write data sets as a folder that `folder:OUT` reads; see `edgeseg.data.write`.

    Raises:
        RequestError: The folder exists, or the data sets differ in their classes.
        DataError: The disk is full.
    """
    require("PIL", what="writing pictures")
    from edgeseg.data import write

    return write.write_folder(out, splits, progress=progress or Silent())


def survey_dataset(spec: str, split: str, *, progress: Progress | None = None) -> tuple[Dataset, Survey]:
    """Open a split leniently and read every frame: what cannot be used is listed, not raised.

    Raises:
        RequestError: An unknown scheme or split, or a path that does not exist.
        DataError: No image at all.
    """
    require("PIL", what="edgeseg data")
    from edgeseg.data.survey import survey

    dataset, problems, orphans = _open(spec, split)
    return dataset, survey(dataset, problems, orphans, progress=progress or Silent())


def pack(
    out: Path, splits: Mapping[str, Dataset], *, quality: int = 95, progress: Progress | None = None
) -> dict[str, int]:
    """Pack data sets into one file that `packed:OUT` reads; see `edgeseg.data.packed`.

    Raises:
        RequestError: The data sets differ in their classes.
        DataError: A frame cannot be read, or the disk is full.
    """
    require("PIL", what="packing pictures")
    from edgeseg.data.packed import write_packed

    return write_packed(out, splits, quality=quality, progress=progress or Silent())


def corrupted(dataset: Dataset, kind: str, strength: int, *, seed: int = 0) -> Dataset:
    """The same frames under a bad condition: night, glare, rain, fog and others; see `edgeseg.data.corrupt`.

    Raises:
        RequestError: An unknown kind, or a strength other than 1, 2 and 3.
    """
    require("cv2", what="corrupted frames")
    from edgeseg.data import corrupt

    return corrupt.corrupted(dataset, kind, strength, seed=seed)
