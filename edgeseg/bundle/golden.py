"""Golden frames and masks as PNG: frames in colour (or one plane), masks as index PNGs with the classes' palette."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from edgeseg.bundle.contents import GOLDEN, GOLDEN_COUNT, Bundle, Golden
from edgeseg.bundle.sums import refusal
from edgeseg.core.errors import RequestError
from edgeseg.core.types import U8, Classes
from edgeseg.data.masks import read_index_png, write_index_png


def write_golden(folder: Path, golden: Sequence[Golden], classes: Classes) -> None:
    """Write `golden/000.png`, `golden/000.mask.png`, … under a bundle's folder.

    Raises:
        RequestError: Fewer than 4 or more than 8 frames.
    """
    if len(golden) not in GOLDEN_COUNT:
        raise RequestError("wrong number of golden frames", value=len(golden), allowed="4 to 8")
    target = folder / GOLDEN
    target.mkdir()
    for index, item in enumerate(golden):
        picture = item.frame if item.frame.ndim == 2 else np.ascontiguousarray(item.frame[..., ::-1])
        Image.fromarray(picture).save(target / f"{index:03d}.png")
        write_index_png(target / f"{index:03d}.mask.png", item.mask_hw, classes)


def read_golden(bundle: Bundle) -> list[Golden]:
    """The golden frames (BGR, or one plane) and masks of a verified bundle.

    Raises:
        VerifyError: A picture cannot be read.
    """
    return [
        Golden(_read_frame(bundle, name), read_index_png(bundle.path / (name.removesuffix(".png") + ".mask.png")))
        for name in bundle.golden_names
    ]


def _read_frame(bundle: Bundle, name: str) -> U8:
    try:
        with Image.open(bundle.path / name) as picture:
            array = np.asarray(picture)
    except (UnidentifiedImageError, OSError) as error:
        raise refusal(bundle.path, "a golden frame cannot be read", value=f"{name}: {error}", allowed="PNG") from None
    return np.ascontiguousarray(array if array.ndim == 2 else array[..., ::-1])
