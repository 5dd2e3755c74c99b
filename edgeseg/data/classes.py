"""Class vocabularies: the 11 of CamVid, palettes for those who bring none, and the class file of a folder.

A class file (`classes.toml`) names the classes in the order of their ids::

    names = ["background", "person", "dog"]
    palette_rgb = [[0, 0, 0], [220, 20, 60], [0, 60, 100]]   # optional; else a palette is made
    ignore_id = 255                                          # optional: pixels that no metric counts
    values = [0, 15, 12]                                     # optional: pixel value of each class in the masks
    ignore_values = [254]                                    # optional: further pixel values that mean "no class"
    ignore_rgb = [[224, 224, 192]]                           # optional: the same for masks in colours
    mask_suffix = "_L"                                       # optional: the mask of 0001.jpg is 0001_L.png
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgeseg.core.config import convert, dump_toml, read_toml, to_tables
from edgeseg.core.errors import RequestError
from edgeseg.core.types import Classes

CLASS_FILE = "classes.toml"

RGB = tuple[int, int, int]

CAMVID = Classes(
    names=(
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    palette_rgb=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    ignore_id=11,
)
"""The 11 classes of the SegNet tutorial's CamVid, in its order and colours; 11 is void."""


class ClassFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A class file as it is written.

    Attributes:
        names: One name per id.
        palette_rgb: One colour per id; empty for a made palette.
        ignore_id: Id of "no class" in the labels that the toolkit works with.
        values: Pixel value of each class in index masks; empty where values are the ids themselves.
        ignore_values: Further pixel values that mean "no class" (`ignore_id` always does unless `values` has it).
        ignore_rgb: Colours of colour masks that mean "no class".
        mask_suffix: What the name of a mask has behind its picture's.
    """

    names: tuple[str, ...]
    palette_rgb: tuple[RGB, ...] = ()
    ignore_id: int = 255
    values: tuple[int, ...] = ()
    ignore_values: tuple[int, ...] = ()
    ignore_rgb: tuple[RGB, ...] = ()
    mask_suffix: str = ""

    def __post_init__(self) -> None:
        self.classes()
        if len(set(self.names)) != len(self.names):
            raise ValueError("two classes of one name")
        if any(not 0 <= channel <= 255 for colour in (*self.palette_rgb, *self.ignore_rgb) for channel in colour):
            raise ValueError("a palette colour outside 0 to 255")
        if self.values and len(self.values) != len(self.names):
            raise ValueError(f"{len(self.names)} class names but {len(self.values)} values")
        used = (*self.values, *self.ignore_values)
        if len(set(used)) != len(used):
            raise ValueError("a pixel value that is given twice")
        if any(not 0 <= value <= 255 for value in used):
            raise ValueError("a pixel value outside 0 to 255")

    def classes(self) -> Classes:
        """The vocabulary that this file describes."""
        palette = self.palette_rgb or voc_palette(len(self.names))
        return Classes(names=self.names, palette_rgb=palette, ignore_id=self.ignore_id)


def voc_palette(count: int) -> tuple[RGB, ...]:
    """The PASCAL VOC colour map: bit `3k + c` of the id is bit `7 - k` of channel `c` (VOC devkit, VOCcolormap)."""
    return tuple(_voc_colour(index) for index in range(count))


def read_class_file(path: Path) -> ClassFile:
    """Read a class file.

    Raises:
        RequestError: It is missing, not TOML, has an unknown key or values that do not fit.
    """
    if not path.is_file():
        example = 'names = ["road", "person"]'
        raise RequestError("the data set has no class file", value=path, allowed=f"a TOML file with: {example}")
    return convert(read_toml(path), ClassFile, origin=str(path))


def class_file_text(classes: Classes) -> str:
    """The text of a class file for `classes`."""
    file = ClassFile(names=classes.names, palette_rgb=classes.palette_rgb, ignore_id=classes.ignore_id)
    return dump_toml({key: value for key, value in to_tables(file).items() if value})


def _voc_colour(index: int) -> RGB:
    red = green = blue = 0
    for bit in range(8):
        red |= (index >> 3 * bit & 1) << 7 - bit
        green |= (index >> 3 * bit + 1 & 1) << 7 - bit
        blue |= (index >> 3 * bit + 2 & 1) << 7 - bit
    return red, green, blue
