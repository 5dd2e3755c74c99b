"""The door to labelled frames.

    camvid:PATH      the SegNet tutorial's CamVid; splits train, val, test, and by sequence dev, train-dev
    folder:PATH      images, index or colour masks, and a class file of one's own
    street:OPTIONS   a rendered drive through a labelled street: seed=1,frames=200,size=360x480

Nothing heavy is imported before a data set is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeseg.core.deps import require
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import Dataset
from edgeseg.data.spec import parse_street, split_spec

SCHEMES = ("camvid", "folder", "street")


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
    scheme, rest = split_spec(spec, SCHEMES)
    if scheme == "street":
        options = parse_street(rest)
        require("cv2", what="street:")
        from edgeseg.data.street import StreetDataset

        return StreetDataset.open(spec, options, split)
    require("PIL", what=f"{scheme}:")
    from edgeseg.data.formats import FORMATS

    dataset = FORMATS[scheme].open(Path(rest).expanduser(), split)
    if dataset.problems:
        raise dataset.problems[0]
    return dataset


def dataset_splits(spec: str) -> list[str]:
    """The splits that a data set has, those that overlap others (`dev`) included.

    Raises:
        RequestError: An unknown scheme, or a path that does not exist.
    """
    scheme, rest = split_spec(spec, SCHEMES)
    if scheme == "street":
        return ["train", "val"]
    require("PIL", what=f"{scheme}:")
    from edgeseg.data.formats import FORMATS

    return FORMATS[scheme].splits(Path(rest).expanduser())


def write_folder(out: Path, splits: Mapping[str, Dataset], *, progress: Progress | None = None) -> dict[str, int]:
    """Write data sets as a folder that `folder:OUT` reads; see `edgeseg.data.write`.

    Raises:
        RequestError: The folder exists, or the data sets differ in their classes.
        DataError: The disk is full.
    """
    require("PIL", what="writing pictures")
    from edgeseg.data import write

    return write.write_folder(out, splits, progress=progress or Silent())
