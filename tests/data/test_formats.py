"""Data formats people have, each from a data set that the test writes in that format."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeseg.core.errors import DataError, RequestError
from edgeseg.data import dataset_splits, open_dataset, survey_dataset
from edgeseg.data.cityscapes import CLASS_FILE
from edgeseg.data.classes import voc_palette

SIZE = (24, 32)

# pycocotools 2.0.11 itself, under numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def _picture(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (90, 120, 60)).save(path)


def _mask(path: Path, mask: np.ndarray, palette: bytes | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)


def _json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


# ---------------------------------------------------------------- Cityscapes


def _cityscapes(root: Path, mask: np.ndarray) -> None:
    stem = "aachen/aachen_000000_000019"
    _picture(root / f"leftImg8bit/train/{stem}_leftImg8bit.png")
    _mask(root / f"gtFine/train/{stem}_gtFine_labelIds.png", mask)


def test_cityscapes_ids_become_the_19_classes(tmp_path: Path) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[:4], mask[4:8], mask[8:12] = 7, 33, 26
    _cityscapes(tmp_path, mask)
    dataset = open_dataset(f"cityscapes:{tmp_path}", "train")
    label = dataset[0].label_hw
    names = dataset.classes.names
    assert len(names) == 19
    assert [names[label[row, 0]] for row in (0, 4, 8)] == ["road", "bicycle", "car"]
    assert label[20, 0] == dataset.classes.ignore_id == 255
    assert dataset_splits(f"cityscapes:{tmp_path}") == ["train"]


def test_every_cityscapes_id_has_a_place() -> None:
    assert sorted((*CLASS_FILE.values, *CLASS_FILE.ignore_values)) == list(range(34))


def test_cityscapes_without_a_mask_or_split(tmp_path: Path) -> None:
    _cityscapes(tmp_path, np.full(SIZE, 7, np.uint8))
    _picture(tmp_path / "leftImg8bit/train/aachen/b_leftImg8bit.png")
    with pytest.raises(DataError, match="no mask"):
        open_dataset(f"cityscapes:{tmp_path}", "train")
    with pytest.raises(RequestError, match="here: train"):
        open_dataset(f"cityscapes:{tmp_path}", "val")


def test_labels_without_a_picture_are_known(tmp_path: Path) -> None:
    _cityscapes(tmp_path / "city", np.full(SIZE, 7, np.uint8))
    lost = tmp_path / "city/gtFine/train/aachen/b_gtFine_labelIds.png"
    _mask(lost, np.full(SIZE, 7, np.uint8))
    _labelme(tmp_path / "labelme", [])
    _json(tmp_path / "labelme/val/y.json", {})
    for spec, split, orphan in (
        (f"cityscapes:{tmp_path / 'city'}", "train", lost),
        (f"labelme:{tmp_path / 'labelme'}", "val", tmp_path / "labelme/val/y.json"),
    ):
        dataset, survey = survey_dataset(spec, split)
        assert (len(dataset), list(survey.orphans), list(survey.problems)) == (1, [orphan], [])


# ---------------------------------------------------------------- VOC, CVAT


def _voc(root: Path, mask: np.ndarray, palette: bytes | None) -> None:
    _picture(root / "JPEGImages/2007_000032.jpg")
    _mask(root / "SegmentationClass/2007_000032.png", mask, palette)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("2007_000032\n")


def _voc_bytes() -> bytes:
    return b"".join(bytes(colour) for colour in voc_palette(256))


def test_voc_palette_masks(tmp_path: Path) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[3:9], mask[9] = 15, 255
    _voc(tmp_path, mask, _voc_bytes())
    dataset = open_dataset(f"voc:{tmp_path}", "train")
    label = dataset[0].label_hw
    assert dataset.classes.names[label[4, 4]] == "person"
    assert label[9, 0] == dataset.classes.ignore_id
    assert label[0, 0] == 0


def test_cvat_goes_by_the_colours_of_its_label_map(tmp_path: Path) -> None:
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[:6] = (250, 50, 83)
    _voc(tmp_path, rgb, None)
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:1,1,1::\nlane:250,50,83::\n"
    )
    dataset = open_dataset(f"voc:{tmp_path}", "train")
    assert dataset.classes.names == ("background", "car", "lane")
    assert np.array_equal(np.unique(dataset[0].label_hw), [0, 2])
    (tmp_path / "labelmap.txt").write_text("background:0,0\n")
    with pytest.raises(RequestError, match="name:R,G,B"):
        open_dataset(f"voc:{tmp_path}", "train")


def test_cvat_keeps_the_folders_of_a_task(tmp_path: Path) -> None:
    """Two clips number their frames alike: each picture has its own mask."""
    for clip, value in (("north", 1), ("south", 15)):
        _picture(tmp_path / f"JPEGImages/{clip}/0001.jpg")
        _mask(tmp_path / f"SegmentationClass/{clip}/0001.png", np.full(SIZE, value, np.uint8), _voc_bytes())
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/default.txt").write_text("north/0001\nsouth/0001\n")
    dataset = open_dataset(f"voc:{tmp_path}", "default")
    assert [int(dataset[index].label_hw[0, 0]) for index in range(2)] == [1, 15]


def test_voc_lists_what_is_missing(tmp_path: Path) -> None:
    _voc(tmp_path, np.zeros(SIZE, np.uint8), _voc_bytes())
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("2007_000032\nghost\n")
    with pytest.raises(DataError, match="ghost"):
        open_dataset(f"voc:{tmp_path}", "train")


# ---------------------------------------------------------------- COCO


def _coco(**changes: object) -> dict[str, object]:
    content: dict[str, object] = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 7, "name": "person"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"image_id": 5, "category_id": 7, "segmentation": [[4, 4, 12, 4, 12, 12, 4, 12]], "area": 64},
            {"image_id": 5, "category_id": 3, "segmentation": [[0, 0, 20, 0, 20, 16, 0, 16]], "area": 320},
        ],
    }
    return content | changes


@pytest.mark.parametrize("layout", ["annotations/instances_train.json", "train/_annotations.coco.json"])
def test_coco_polygons_small_over_large(tmp_path: Path, layout: str) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra formats")
    _json(tmp_path / layout, _coco())
    _picture(tmp_path / "train/a.jpg")
    dataset = open_dataset(f"coco:{tmp_path}", "train")
    assert dataset_splits(f"coco:{tmp_path}") == ["train"]
    assert dataset.classes.names == ("background", "car", "person")
    label = dataset[0].label_hw
    assert [label[8, 8], label[1, 1], label[22, 30]] == [2, 1, 0]
    assert (label == 2).sum() == 64


def test_coco_pictures_of_one_name_in_two_folders_keep_their_own_outlines(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra formats")
    sizes = {"height": SIZE[0], "width": SIZE[1]}
    images = [{"id": index, "file_name": f"{clip}/a.jpg", **sizes} for index, clip in enumerate(("north", "south"))]
    annotations = [{"image_id": 1, "category_id": 3, "segmentation": [[0, 0, 20, 0, 20, 16, 0, 16]], "area": 320}]
    _json(tmp_path / "annotations/instances_train.json", _coco(images=images, annotations=annotations))
    for clip in ("north", "south"):
        _picture(tmp_path / f"train/{clip}/a.jpg")
    dataset = open_dataset(f"coco:{tmp_path}", "train")
    assert [int((dataset[index].label_hw == 1).sum()) for index in range(2)] == [0, 320]


def test_coco_run_lengths_crowds_and_a_class_file(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra formats")
    runs = {"counts": [0, SIZE[0] * 3, SIZE[0] * (SIZE[1] - 3)], "size": list(SIZE)}
    crowd = {"image_id": 5, "category_id": 7, "segmentation": runs, "iscrowd": 1}
    _json(tmp_path / "annotations/instances_train.json", _coco(annotations=[crowd]))
    _picture(tmp_path / "images/train/a.jpg")
    (tmp_path / "classes.toml").write_text('names = ["person", "car"]\n')
    label = open_dataset(f"coco:{tmp_path}", "train")[0].label_hw
    assert (label == 255).all(), "a crowd is ignored, and without a background so is the rest"
    (tmp_path / "classes.toml").write_text('names = ["person"]\n')
    with pytest.raises(DataError, match="car"):
        open_dataset(f"coco:{tmp_path}", "train")


def test_coco_that_is_damaged(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra formats")
    _picture(tmp_path / "train/a.jpg")
    file = tmp_path / "annotations/instances_train.json"
    _json(file, _coco())
    file.write_text(file.read_text()[:-30])
    with pytest.raises(DataError, match=r"instances_train\.json"):
        open_dataset(f"coco:{tmp_path}", "train")
    _json(file, _coco(annotations=[{"image_id": 5, "category_id": 7, "segmentation": [[1, 1, 2, 2]]}]))
    with pytest.raises(DataError, match="three corners"):
        open_dataset(f"coco:{tmp_path}", "train")[0]


# ---------------------------------------------------------------- LabelMe


def _labelme(root: Path, shapes: list[dict[str, object]], size: tuple[int, int] = SIZE) -> None:
    _picture(root / "val/x.png")
    _json(root / "val/x.json", {"shapes": shapes, "imageHeight": size[0], "imageWidth": size[1], "imagePath": "x.png"})
    (root / "classes.toml").write_text('names = ["background", "road", "car"]\n')


def test_labelme_shapes_in_their_order(tmp_path: Path) -> None:
    _labelme(
        tmp_path,
        [
            {"label": "road", "points": [[0, 12], [31, 12], [31, 23], [0, 23]], "shape_type": "polygon"},
            {"label": "car", "points": [[14, 20], [8, 15]], "shape_type": "rectangle"},
            {"label": "__ignore__", "points": [[26, 4], [28, 4]], "shape_type": "circle"},
        ],
    )
    dataset = open_dataset(f"labelme:{tmp_path}", "val")
    label = dataset[0].label_hw
    assert [label[14, 2], label[17, 10], label[4, 26], label[2, 2]] == [1, 2, 255, 0]
    assert dataset_splits(f"labelme:{tmp_path}") == ["val"]


def test_labelme_masks_lie_at_their_first_point(tmp_path: Path) -> None:
    """What LabelMe's mask tool writes: ones and zeros as a base64 PNG, with its box as points."""
    inside = np.array([[0, 1, 1], [1, 1, 0]], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(inside).save(buffer, "PNG")
    mask = base64.b64encode(buffer.getvalue()).decode()
    shape: dict[str, object] = {"label": "car", "points": [[10, 5], [12, 6]], "shape_type": "mask", "mask": mask}
    _labelme(tmp_path, [shape])
    label = open_dataset(f"labelme:{tmp_path}", "val")[0].label_hw
    assert np.array_equal(label[5:7, 10:13], 2 * inside)
    assert (label == 2).sum() == 4
    _labelme(tmp_path, [shape | {"mask": mask[:-9]}])
    with pytest.raises(DataError, match=r"x\.json"):
        open_dataset(f"labelme:{tmp_path}", "val")[0]


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"label": "cart", "points": [[0, 0], [5, 0], [5, 5]]}, "cart"),
        ({"label": "car", "points": [[0, 0], [5, 0]], "shape_type": "line"}, "encloses no area"),
        ({"label": "car"}, "damaged"),
    ],
)
def test_labelme_that_cannot_be_used(tmp_path: Path, shape: dict[str, object], said: str) -> None:
    _labelme(tmp_path, [shape])
    with pytest.raises(DataError, match=said):
        open_dataset(f"labelme:{tmp_path}", "val")[0]


def test_labelme_of_another_size(tmp_path: Path) -> None:
    _labelme(tmp_path, [], size=(24, 31))
    with pytest.raises(DataError, match="differ in size"):
        open_dataset(f"labelme:{tmp_path}", "val")[0]
