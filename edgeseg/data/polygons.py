"""Labels that are outlines: COCO and LabelMe.

Pixels inside no outline are the class `background` where the vocabulary has it, else they are ignored.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from PIL import Image, ImageDraw

from edgeseg.core.deps import require
from edgeseg.core.errors import DataError
from edgeseg.core.types import U8, Classes, Size, format_size
from edgeseg.data.classes import CLASS_FILE, ClassFile, read_class_file
from edgeseg.data.paired import Pair, PairedDataset, list_images, need_folder, no_split
from edgeseg.data.pictures import decode_picture

BACKGROUND = "background"
_Decoded = TypeVar("_Decoded", bound=msgspec.Struct)
_ROBOFLOW = "_annotations.coco.json"

# ---------------------------------------------------------------- COCO


class _Rle(msgspec.Struct, frozen=True):
    counts: str | list[int]
    size: tuple[int, int]


class _Annotation(msgspec.Struct, frozen=True):
    image_id: int
    category_id: int
    segmentation: list[list[float]] | _Rle = []
    area: float = 0.0
    iscrowd: int = 0


class _Picture(msgspec.Struct, frozen=True):
    id: int
    file_name: str
    height: int
    width: int


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Coco(msgspec.Struct, frozen=True):
    images: list[_Picture]
    categories: list[_Category]
    annotations: list[_Annotation] = []


@dataclass(frozen=True, slots=True)
class CocoReader:
    """Fills the outlines and run lengths of a COCO file, large ones first; crowds are ignored.

    Attributes:
        classes: The vocabulary of the labels that come out.
        ids: Class id of each category id.
        outlines: Annotations by the file of their picture.
    """

    classes: Classes
    ids: Mapping[int, int]
    outlines: Mapping[Path, Sequence[_Annotation]]

    def read(self, path: Path, size: Size, image: Path) -> U8:
        """Fill the outlines of a picture.

        Raises:
            DataError: An outline is damaged or of another size, or its category is unknown.
        """
        # imported here, since every other format is read without this package
        from pycocotools import mask as coco  # type: ignore[import-untyped, unused-ignore]

        label = np.full(size, _unlabelled(self.classes), np.uint8)
        for outline in self.outlines.get(image, ()):
            if outline.category_id not in self.ids:
                raise DataError("an outline has an unknown category", value=f"{path}: {outline.category_id}")
            shape = outline.segmentation
            if isinstance(shape, _Rle):
                if shape.size != size:
                    said = f"{path}: {format_size(shape.size)}, {image}: {format_size(size)}"
                    raise DataError("image and mask differ in size", value=said, allowed="one size for both")
                plain = {"counts": shape.counts, "size": list(shape.size)}
                runs = coco.frPyObjects(plain, *size) if isinstance(shape.counts, list) else plain
            elif any(len(polygon) < 6 or len(polygon) % 2 for polygon in shape):
                raise DataError("an outline has fewer than three corners", value=f"{path}: {image.name}")
            elif not shape:
                continue
            else:
                runs = coco.merge(coco.frPyObjects(shape, *size))
            inside = np.asarray(coco.decode(runs), bool)
            label[inside] = self.classes.ignore_id if outline.iscrowd else self.ids[outline.category_id]
        return label


def coco_splits(root: Path) -> list[str]:
    """Splits of both layouts that `open_coco` reads."""
    need_folder(root)
    named = [path.stem.removeprefix("instances_") for path in (root / "annotations").glob("instances_*.json")]
    return sorted({*named, *(path.parent.name for path in root.glob(f"*/{_ROBOFLOW}"))})


def open_coco(root: Path, split: str) -> PairedDataset:
    """COCO: `annotations/instances_SPLIT.json` with pictures in `SPLIT/` or `images/SPLIT/`.

    Or as Roboflow exports it, `SPLIT/_annotations.coco.json` beside the pictures. The classes are `background` and the
    categories in the order of their ids, or what `classes.toml` says.

    Raises:
        RequestError: The folder or the split does not exist.
        DataError: The file is damaged, or has no pictures.
        UnavailableError: pycocotools is missing.
    """
    require("pycocotools", what="coco:")
    file, folder = root / split / _ROBOFLOW, root / split
    if not file.is_file():
        file = root / "annotations" / f"instances_{split}.json"
        folder = root / split if (root / split).is_dir() else root / "images" / split
    if not file.is_file():
        raise no_split(root, split, coco_splits(root))
    content = _decode(file, _Coco)
    classes, ids = _coco_classes(root, content.categories)
    files = {picture.id: folder / picture.file_name for picture in content.images}
    outlines: dict[Path, list[_Annotation]] = {}
    for annotation in sorted(content.annotations, key=lambda annotation: -annotation.area):
        if annotation.image_id not in files:
            raise DataError("an outline belongs to no picture", value=f"{file}: image {annotation.image_id}")
        outlines.setdefault(files[annotation.image_id], []).append(annotation)
    pairs, problems = [], []
    for picture in sorted(content.images, key=lambda picture: picture.file_name):
        if (folder / picture.file_name).is_file():
            pairs.append(Pair(image=folder / picture.file_name, label=file))
        else:
            problems.append(DataError("a listed image does not exist", value=folder / picture.file_name))
    if not pairs and not problems:
        raise DataError("the file lists no images", value=file)
    labels = CocoReader(classes, ids, outlines)
    return PairedDataset(name=f"coco:{root}", split=split, labels=labels, pairs=pairs, problems=problems)


def _coco_classes(root: Path, categories: Sequence[_Category]) -> tuple[Classes, dict[int, int]]:
    ordered = sorted(categories, key=lambda category: category.id)
    if (root / CLASS_FILE).is_file():
        classes = read_class_file(root / CLASS_FILE).classes()
    else:
        named = [category.name for category in ordered if category.name != BACKGROUND]
        classes = ClassFile(names=(BACKGROUND, *dict.fromkeys(named))).classes()
    unknown = [category.name for category in ordered if category.name not in classes.names]
    if unknown:
        raise DataError("a category is no class", value=", ".join(unknown), allowed=", ".join(classes.names))
    return classes, {category.id: classes.names.index(category.name) for category in ordered}


# ---------------------------------------------------------------- LabelMe


class _Shape(msgspec.Struct, frozen=True):
    label: str
    points: list[tuple[float, float]]
    shape_type: str = "polygon"
    mask: str | None = None


class _LabelMe(msgspec.Struct, frozen=True, rename="camel"):
    shapes: list[_Shape]
    image_height: int
    image_width: int
    image_path: str = ""


@dataclass(frozen=True, slots=True)
class LabelMeReader:
    """Fills the shapes of a LabelMe file in their order, later ones on top; `__ignore__` is ignored.

    Attributes:
        classes: The vocabulary of the labels that come out.
    """

    classes: Classes

    def read(self, path: Path, size: Size, image: Path) -> U8:
        """Fill the shapes of a picture.

        Raises:
            DataError: The file is damaged, of another size, or has a label or shape that is not known.
        """
        content = _decode(path, _LabelMe)
        if (content.image_height, content.image_width) != size:
            said = f"{path}: {content.image_height}x{content.image_width}, {image}: {format_size(size)}"
            raise DataError("image and mask differ in size", value=said, allowed="one size for both")
        label = Image.new("L", (size[1], size[0]), _unlabelled(self.classes))
        draw = ImageDraw.Draw(label)
        for shape in content.shapes:
            class_id = self._id(shape.label, path)
            if shape.shape_type == "mask":
                _paste(label, shape, class_id, path)
            else:
                _fill(draw, shape, class_id, path)
        return np.array(label, dtype=np.uint8)

    def _id(self, label: str, path: Path) -> int:
        if label == "__ignore__":
            return self.classes.ignore_id
        name = BACKGROUND if label == "_background_" else label
        if name not in self.classes.names:
            allowed = ", ".join((*self.classes.names, "__ignore__"))
            raise DataError("a shape has an unknown label", value=f"{path}: {label}", allowed=allowed)
        return self.classes.names.index(name)


def labelme_splits(root: Path) -> list[str]:
    """The folders that hold LabelMe files."""
    need_folder(root)
    return sorted({path.parent.name for path in root.glob("*/*.json")})


def open_labelme(root: Path, split: str) -> PairedDataset:
    """LabelMe: `classes.toml` and `SPLIT/NAME.json` beside the pictures.

    Raises:
        RequestError: A folder or the class file does not exist.
        DataError: No pictures at all.
    """
    if not (root / split).is_dir():
        raise no_split(root, split, labelme_splits(root))
    classes = read_class_file(root / CLASS_FILE).classes()
    pairs, problems = [], []
    for image in list_images(root / split):
        if image.with_suffix(".json").is_file():
            pairs.append(Pair(image=image, label=image.with_suffix(".json")))
        else:
            problems.append(DataError("an image has no label", value=image, allowed=image.with_suffix(".json").name))
    used = {pair.label for pair in pairs}
    orphans = [path for path in sorted((root / split).glob("*.json")) if path not in used]
    return PairedDataset(
        name=f"labelme:{root}",
        split=split,
        labels=LabelMeReader(classes),
        pairs=pairs,
        problems=problems,
        orphans=orphans,
    )


def _fill(draw: ImageDraw.ImageDraw, shape: _Shape, class_id: int, path: Path) -> None:
    points = shape.points
    if shape.shape_type == "polygon" and len(points) >= 3:
        draw.polygon(points, fill=class_id)
    elif shape.shape_type == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        draw.rectangle([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)], fill=class_id)
    elif shape.shape_type == "circle" and len(points) == 2:
        (x, y), radius = points[0], math.dist(points[0], points[1])
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=class_id)
    else:
        said = f"{path}: {shape.shape_type} of {len(points)} points"
        raise DataError("a shape encloses no area", value=said, allowed="polygon, rectangle, circle, mask")


def _paste(label: Image.Image, shape: _Shape, class_id: int, path: Path) -> None:
    """A shape of LabelMe's mask tool: a base64 PNG whose first pixel lies at the first point."""
    try:
        inside = decode_picture(base64.b64decode(shape.mask or "", validate=True), origin=f"{path}: mask")
    except binascii.Error as error:
        raise DataError("the label file is damaged", value=f"{path}: {error}") from None
    if not shape.points:
        raise DataError("the label file is damaged", value=f"{path}: a mask without points")
    x, y = (round(side) for side in shape.points[0])
    label.paste(class_id, (x, y), inside.convert("L").point([0] + [255] * 255))


def _unlabelled(classes: Classes) -> int:
    return classes.names.index(BACKGROUND) if BACKGROUND in classes.names else classes.ignore_id


def _decode(path: Path, kind: type[_Decoded]) -> _Decoded:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError("the label file is damaged", value=f"{path}: {error}") from None
