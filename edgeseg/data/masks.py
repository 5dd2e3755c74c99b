"""Index masks: one class id a pixel, as a PNG whose palette makes it viewable.

They go through Pillow: OpenCV turns a palette PNG into its colours, and the ids are gone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeseg.core.artefacts import write_bytes
from edgeseg.core.errors import DataError
from edgeseg.core.types import U8, Classes
from edgeseg.data.classes import ClassFile
from edgeseg.data.pictures import open_picture

_INDEX_MODES = ("L", "P", "1")
_UNKNOWN = -1


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


@dataclass(frozen=True, slots=True)
class LabelCoding:
    """How the masks of a data set say which class a pixel has.

    Attributes:
        classes: The vocabulary of the labels that come out.
        ids: int16 [256]: class id of each pixel value of an index mask; -1 where the value is unknown.
    """

    classes: Classes
    ids: NDArray[np.int16]

    @classmethod
    def from_file(cls, file: ClassFile) -> LabelCoding:
        """The coding that a class file describes."""
        classes = file.classes()
        ids = np.full(256, _UNKNOWN, np.int16)
        ids[classes.ignore_id] = classes.ignore_id
        for value in file.ignore_values:
            ids[value] = classes.ignore_id
        for index, value in enumerate(file.values or range(len(classes))):
            ids[value] = index
        return cls(classes, ids)

    @classmethod
    def plain(cls, classes: Classes) -> LabelCoding:
        """Pixel values are class ids."""
        return cls.from_file(
            ClassFile(names=classes.names, palette_rgb=classes.palette_rgb, ignore_id=classes.ignore_id)
        )

    def read(self, path: Path) -> U8:
        """Read a mask as uint8 [H, W] class ids.

        Raises:
            DataError: The file cannot be used as a mask, or has a value without a class.
        """
        return self.decode(_indices(open_picture(path), path), origin=str(path))

    def decode(self, values_hw: U8, *, origin: str) -> U8:
        """Class ids uint8 [H, W] of pixel values uint8 [H, W].

        Raises:
            DataError: A value without a class; names it and how many pixels have it.
        """
        counts = np.bincount(values_hw.ravel(), minlength=256)
        unknown = np.flatnonzero((counts > 0) & (self.ids == _UNKNOWN))
        if unknown.size:
            value = int(unknown[0])
            raise DataError(
                "the mask has an unknown id",
                value=f"{origin}: id {value} in {counts[value]} pixels",
                allowed=f"allowed: {_ranges(np.flatnonzero(self.ids != _UNKNOWN))}",
            )
        return self.ids.astype(np.uint8)[values_hw]


def _indices(image: Image.Image, path: Path) -> U8:
    if image.mode not in _INDEX_MODES:
        raise DataError(
            "the mask is not an index mask",
            value=f"{path}: mode {image.mode}",
            allowed="8-bit PNG, one class id a pixel",
        )
    return np.array(image, dtype=np.uint8)


def _ranges(values: NDArray[np.int64]) -> str:
    """Sorted integers as text: 0-10, 255."""
    groups = np.split(values, np.flatnonzero(np.diff(values) != 1) + 1)
    return ", ".join(f"{group[0]}" if group.size == 1 else f"{group[0]}-{group[-1]}" for group in groups)
