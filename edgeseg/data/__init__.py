"""The door to labelled frames.

    camvid:PATH      the SegNet tutorial's CamVid; splits train, val, test, and by sequence dev, train-dev
    folder:PATH      images, index masks and a class file of one's own
    street:OPTIONS   a rendered drive through a labelled street: seed=1,frames=200,size=360x480

Nothing heavy is imported before a data set is opened.
"""

from __future__ import annotations

from pathlib import Path

from edgeseg.core.deps import require
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
    from edgeseg.data import paired

    root = Path(rest).expanduser()
    return {"camvid": paired.open_camvid, "folder": paired.open_folder}[scheme](root, split)
