"""Index masks: one class id a pixel, as a PNG whose palette makes it viewable.

They go through Pillow: OpenCV turns a palette PNG into its colours, and the ids are gone.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from edgeseg.core.artefacts import write_bytes
from edgeseg.core.errors import DataError
from edgeseg.core.types import U8, Classes
from edgeseg.data.pictures import open_picture

INDEX_MODES = ("L", "P", "1")


def read_index_png(path: Path) -> U8:
    """Read an index mask as uint8 [H, W], pixel values as they are in the file.

    Raises:
        DataError: The file is truncated, damaged, not a picture, or a colour picture instead of an index mask.
    """
    return _indices(open_picture(path), path)


def write_index_png(path: Path, mask_hw: U8, classes: Classes) -> None:
    """Write uint8 [H, W] class ids as a palette PNG, atomically."""
    write_bytes(path, encode_index_png(mask_hw, classes))


def encode_index_png(mask_hw: U8, classes: Classes, *, compress_level: int = 6) -> bytes:
    """The PNG bytes of uint8 [H, W] class ids, with the palette of `classes`; the ignore id is black.

    Args:
        mask_hw: Class ids.
        classes: Gives the palette.
        compress_level: zlib level, 0 to 9; 1 is several times faster than 6 and some percent larger.
    """
    image = Image.fromarray(np.ascontiguousarray(mask_hw))
    image.putpalette(palette_bytes(classes))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()


def palette_bytes(classes: Classes) -> bytes:
    """The palette of `classes` as 256 RGB triples; ids without a class are black."""
    colours = b"".join(bytes(colour) for colour in classes.palette_rgb)
    return colours.ljust(3 * 256, b"\0")


def _indices(image: Image.Image, path: Path) -> U8:
    if image.mode not in INDEX_MODES:
        raise DataError(
            "the mask is not an index mask",
            value=f"{path}: mode {image.mode}",
            allowed="8-bit PNG, one class id a pixel",
        )
    return np.array(image, dtype=np.uint8)
