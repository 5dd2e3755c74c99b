"""Golden frames and masks as PNG: frames in colour (or one plane), masks as index PNGs with the classes' palette."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from edgeseg.bundle.contents import GOLDEN, GOLDEN_COUNT, Bundle, BundleSource, Golden
from edgeseg.bundle.verify import naming_a_way_out
from edgeseg.core.errors import RequestError, VerifyError
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
        Image.fromarray(_as_picture(item.frame)).save(target / f"{index:03d}.png")
        write_index_png(target / f"{index:03d}.mask.png", item.mask_hw, classes)


def read_golden(bundle: Bundle) -> list[Golden]:
    """The golden frames, as the engine takes them, and the masks of a verified bundle.

    Raises:
        VerifyError: A picture cannot be read.
    """
    return [
        Golden(_read_frame(bundle, name), read_index_png(bundle.path / (name.removesuffix(".png") + ".mask.png")))
        for name in bundle.golden_names
    ]


def read_golden_frames(source: BundleSource) -> list[U8]:
    """The golden frames alone, as the engine takes them: what a rebuild keeps.

    Raises:
        VerifyError: A picture cannot be read.
    """
    return [_read_frame(source, name) for name in source.golden_names]


def _read_frame(bundle: BundleSource, name: str) -> U8:
    with naming_a_way_out(bundle.path, bundle.trusted_by, rebuild=False):  # it reads the same picture
        try:
            with Image.open(bundle.path / name) as picture:
                array = np.asarray(picture)
        except (UnidentifiedImageError, OSError) as error:
            raise VerifyError("a golden frame cannot be read", value=f"{name}: {error}", allowed="PNG") from None
    if array.ndim == 3:
        return np.ascontiguousarray(array[..., ::-1])
    form = bundle.manifest.spec.input_format
    return np.ascontiguousarray(array.reshape(array.shape[0], -1, 2) if form == "yuyv" else array)


def _as_picture(frame: U8) -> U8:
    """RGB of BGR; the bytes of a camera format as one grey plane, so that a PNG keeps them."""
    if frame.ndim == 3 and frame.shape[2] == 3:
        return np.ascontiguousarray(frame[..., ::-1])
    return frame.reshape(frame.shape[0], -1)
