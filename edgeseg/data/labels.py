"""How a data set says which class a pixel has: index masks, colour masks, or a reader of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.types import U8, Classes, Size
from edgeseg.data.classes import RGB, ClassFile
from edgeseg.data.masks import INDEX_MODES
from edgeseg.data.pictures import open_picture

_UNKNOWN = -1


class LabelReader(Protocol):
    """Reads the label of one picture."""

    @property
    def classes(self) -> Classes:
        """The vocabulary of the labels that come out."""

    def read(self, path: Path, size: Size, image: Path) -> U8:
        """The label of a picture as uint8 [H, W] class ids.

        Args:
            path: The file that holds the label.
            size: Size of the picture, for labels that have none of their own.
            image: The picture's file, for label files that describe several.

        Raises:
            DataError: The file cannot be used as a label.
        """


@dataclass(frozen=True, slots=True)
class MaskReader:
    """Reads masks: index masks by the value of a pixel, colour masks by the palette.

    Attributes:
        classes: The vocabulary of the labels that come out.
        ids: int16 [256]: class id of each pixel value of an index mask; -1 where the value is unknown.
        colours: Colour of each class in colour masks; empty where there is no palette to go by.
        ignore_rgb: Colours that mean "no class".
        by_colour: Take palette masks by their colours too, as tools do that write one palette for every label set.
    """

    classes: Classes
    ids: NDArray[np.int16]
    colours: tuple[RGB, ...] = ()
    ignore_rgb: tuple[RGB, ...] = ()
    by_colour: bool = False

    @classmethod
    def from_file(cls, file: ClassFile) -> MaskReader:
        """The reader that a class file describes."""
        classes = file.classes()
        ids = np.full(256, _UNKNOWN, np.int16)
        ids[classes.ignore_id] = classes.ignore_id
        for value in file.ignore_values:
            ids[value] = classes.ignore_id
        for index, value in enumerate(file.values or range(len(classes))):
            ids[value] = index
        return cls(classes, ids, file.palette_rgb, file.ignore_rgb)

    @classmethod
    def by_colour_of(cls, file: ClassFile) -> MaskReader:
        """The reader that takes palette masks by their colours, not by their indices."""
        return replace(cls.from_file(file), by_colour=True)

    @classmethod
    def plain(cls, classes: Classes) -> MaskReader:
        """Pixel values are class ids."""
        file = ClassFile(names=classes.names, palette_rgb=classes.palette_rgb, ignore_id=classes.ignore_id)
        return cls.from_file(file)

    def read(self, path: Path, size: Size, image: Path) -> U8:
        """Read a mask as uint8 [H, W] class ids; its size is the file's own.

        Raises:
            DataError: The file is damaged, or has a value or colour without a class.
        """
        del size, image
        picture = open_picture(path)
        if picture.mode in INDEX_MODES and not (self.by_colour and picture.mode == "P"):
            return self.decode(np.array(picture, dtype=np.uint8), origin=str(path))
        if picture.mode in ("RGB", "RGBA", "P") and self.colours:
            return self.decode_rgb(np.asarray(picture.convert("RGB")), origin=str(path))
        raise DataError(
            "the mask is neither an index mask nor a colour mask",
            value=f"{path}: mode {picture.mode}",
            allowed="an 8-bit PNG with one class id a pixel, or RGB where the class file has palette_rgb",
        )

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

    def decode_rgb(self, rgb_hwc: U8, *, origin: str) -> U8:
        """Class ids uint8 [H, W] of palette colours uint8 [H, W, 3] RGB.

        Raises:
            DataError: A colour that is none of the palette's; names it and how many pixels have it.
        """
        codes, inverse, counts = np.unique(_code(rgb_hwc), return_inverse=True, return_counts=True)
        table = {_code_of(rgb): self.classes.ignore_id for rgb in self.ignore_rgb}
        table |= {_code_of(rgb): index for index, rgb in reversed(list(enumerate(self.colours)))}
        ids = np.zeros(codes.size, np.uint8)
        for position, code in enumerate(codes.tolist()):
            if code not in table:
                colour = (code >> 16, code >> 8 & 255, code & 255)
                raise DataError(
                    "the mask has a colour that is no class",
                    value=f"{origin}: RGB {colour} in {counts[position]} pixels",
                    allowed="the colours of palette_rgb, or of ignore_rgb",
                )
            ids[position] = table[code]
        return ids[inverse].reshape(rgb_hwc.shape[:2])


def _code(rgb_hwc: U8) -> NDArray[np.int32]:
    wide = rgb_hwc.astype(np.int32)
    return wide[:, :, 0] << 16 | wide[:, :, 1] << 8 | wide[:, :, 2]


def _code_of(rgb: RGB) -> int:
    return rgb[0] << 16 | rgb[1] << 8 | rgb[2]


def _ranges(values: NDArray[np.int64]) -> str:
    """Sorted integers as text: 0-10, 255."""
    groups = np.split(values, np.flatnonzero(np.diff(values) != 1) + 1)
    return ", ".join(f"{group[0]}" if group.size == 1 else f"{group[0]}-{group[-1]}" for group in groups)
