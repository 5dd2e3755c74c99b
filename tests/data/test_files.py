"""camvid: and folder:, and every way in which files can be wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeseg.core.errors import DataError, EdgesegError, ExitCode, RequestError
from edgeseg.data import open_dataset
from edgeseg.data.classes import CAMVID

MakeFolder = Callable[..., Path]


def _refused(spec: str, split: str = "train", *, index: int | None = None) -> EdgesegError:
    def attempt() -> None:
        dataset = open_dataset(spec, split)
        if index is not None:
            dataset[index]

    with pytest.raises(EdgesegError) as caught:
        attempt()
    return caught.value


def test_folder_gives_images_and_class_ids(make_folder: MakeFolder) -> None:
    root = make_folder(frames=3)
    dataset = open_dataset(f"folder:{root}", "train")
    assert (len(dataset), dataset.split, dataset.classes.names) == (3, "train", ("road", "person", "tree"))
    sample = dataset[1]
    rgb = np.array(Image.open(root / "train/images/001.png"))
    assert sample.name == "001"
    assert sample.image_hwc.dtype == sample.label_hw.dtype == np.uint8
    assert np.array_equal(sample.image_hwc, rgb[:, :, ::-1])
    assert sample.image_hwc.flags.c_contiguous
    assert sample.label_hw[0, 0] == 255
    assert set(np.unique(sample.label_hw)) == {0, 1, 2, 255}


def test_pixel_values_of_the_masks_may_differ_from_the_ids(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "classes.toml").write_text('names = ["tree", "road"]\nvalues = [2, 0]\nignore_values = [1]\n')
    raw = np.array(Image.open(root / "train/masks/000.png"))
    label = open_dataset(f"folder:{root}", "train")[0].label_hw
    assert np.array_equal(label, np.choose(np.minimum(raw, 3), [1, 255, 0, 255]))


def test_the_mask_of_a_picture_may_have_a_suffix(make_folder: MakeFolder) -> None:
    root = make_folder(frames=2)
    for mask in sorted((root / "train/masks").iterdir()):
        mask.rename(mask.with_stem(f"{mask.stem}_L"))
    assert "no mask" in str(_refused(f"folder:{root}"))
    (root / "classes.toml").write_text('names = ["road", "person", "tree"]\nmask_suffix = "_L"\n')
    assert [open_dataset(f"folder:{root}", "train")[index].name for index in range(2)] == ["000", "001"]


def test_palette_png_keeps_its_indices(make_folder: MakeFolder) -> None:
    root = make_folder()
    mask = Image.open(root / "train/masks/000.png")
    expected = np.array(mask)
    mask.putpalette([7, 8, 9] * 256)
    mask.save(root / "train/masks/000.png")
    assert np.array_equal(open_dataset(f"folder:{root}", "train")[0].label_hw, expected)


@pytest.mark.camvid
def test_camvid_splits_go_by_sequence(camvid_dir: Path) -> None:
    spec = f"camvid:{camvid_dir}"
    sizes = {split: len(open_dataset(spec, split)) for split in ("train", "val", "dev", "train-dev")}
    assert sizes == {"train": 367, "val": 101, "dev": 62, "train-dev": 305}
    assert open_dataset(spec, "dev")[0].name.startswith("0001TP_")
    sample = open_dataset(spec, "val")[0]
    assert sample.image_hwc.shape == (360, 480, 3)
    assert sample.label_hw.max() <= CAMVID.ignore_id


@pytest.mark.camvid
def test_camvid_looks_only_for_the_split_asked_for(camvid_dir: Path, tmp_path: Path) -> None:
    for folder in ("val", "valannot"):
        (tmp_path / folder).symlink_to(camvid_dir / folder)
    assert len(open_dataset(f"camvid:{tmp_path}", "val")) == 101
    assert isinstance(_refused(f"camvid:{tmp_path}", "train"), RequestError)


def test_requests_that_cannot_be_are_exit_2(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    for spec, split, said in [
        ("folder:/nowhere", "train", "/nowhere"),
        (f"folder:{root}", "test", "here: train"),
        (f"camvid:{tmp_path}", "trian", "allowed: train, val"),
        (f"camvid:{tmp_path}/none", "train", "does not exist"),
        ("camvdi:here", "train", "did you mean camvid?"),
        (str(root), "train", f"folder:{root}"),
        ("street:seed=x", "train", "a whole number"),
        ("street:seeds=1", "train", "did you mean seed?"),
        ("street:size=10x10", "train", "64 to 4096"),
        ("street:size=10", "train", "HEIGHTxWIDTH"),
        ("street:seed", "train", "KEY=VALUE"),
    ]:
        error = _refused(spec, split)
        assert isinstance(error, RequestError), spec
        assert error.exit_code == ExitCode.REQUEST
        assert said in str(error), str(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('names = ["a", "b", "a"]', "one name"),
        ('names = ["a"]\nignore_id = 0', "ignore id 0"),
        ('names = ["a", "b"]\nvalues = [1]', "2 class names but 1 values"),
        ('names = ["a"]\npalette_rgb = [[1, 2, 300]]', "0 to 255"),
        ('nmaes = ["a"]', "did you mean names?"),
        ("names = [", "not TOML"),
    ],
)
def test_a_class_file_that_is_not_valid(make_folder: MakeFolder, text: str, said: str) -> None:
    root = make_folder()
    (root / "classes.toml").write_text(text)
    error = _refused(f"folder:{root}")
    assert isinstance(error, RequestError)
    assert said in str(error), str(error)


def test_missing_class_file(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "classes.toml").unlink()
    assert "classes.toml" in str(_refused(f"folder:{root}"))


def test_image_without_mask(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "train/masks/001.png").unlink()
    error = _refused(f"folder:{root}")
    assert isinstance(error, DataError)
    assert error.exit_code == ExitCode.FAILED
    assert "001.png" in str(error)


def test_folder_without_images(make_folder: MakeFolder) -> None:
    root = make_folder()
    shutil.rmtree(root / "train/images")
    (root / "train/images").mkdir()
    assert isinstance(_refused(f"folder:{root}"), DataError)


def test_mask_with_unknown_id(make_folder: MakeFolder) -> None:
    root = make_folder()
    mask = np.array(Image.open(root / "train/masks/002.png"))
    mask[3, 4:6] = 7
    Image.fromarray(mask).save(root / "train/masks/002.png")
    error = _refused(f"folder:{root}", index=2)
    assert isinstance(error, DataError)
    assert "id 7 in 2 pixels" in str(error)
    assert "allowed: 0-2, 255" in str(error)


def test_size_mismatch(make_folder: MakeFolder) -> None:
    root = make_folder()
    Image.new("L", (31, 24)).save(root / "train/masks/000.png")
    error = _refused(f"folder:{root}", index=0)
    assert isinstance(error, DataError)
    assert "24x32" in str(error)
    assert "24x31" in str(error)


def test_colour_mask_needs_a_palette(make_folder: MakeFolder) -> None:
    root = make_folder()
    Image.new("RGB", (32, 24)).save(root / "train/masks/000.png")
    assert "mode RGB" in str(_refused(f"folder:{root}", index=0))


def test_colour_masks_go_by_the_palette(make_folder: MakeFolder) -> None:
    root = make_folder()
    palette = [[9, 0, 0], [0, 9, 0], [0, 0, 9]]
    (root / "classes.toml").write_text(
        f'names = ["road", "person", "tree"]\npalette_rgb = {palette}\nignore_rgb = [[255, 255, 255]]\n'
    )
    ids = np.array(Image.open(root / "train/masks/000.png"))
    rgb = np.array([*palette, *[[255, 255, 255]] * 253], np.uint8)[ids]
    Image.fromarray(rgb).save(root / "train/masks/000.png")
    assert np.array_equal(open_dataset(f"folder:{root}", "train")[0].label_hw, ids)
    rgb[5, 5] = (1, 2, 3)
    Image.fromarray(rgb).save(root / "train/masks/000.png")
    assert "RGB (1, 2, 3) in 1 pixels" in str(_refused(f"folder:{root}", index=0))


@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("cut", [1, 5, 12, 40, 200])
def test_truncated_png_is_refused_at_every_cut(make_folder: MakeFolder, kind: str, cut: int) -> None:
    # 12 cuts exactly the IEND chunk: Pillow and OpenCV both decode such a file without a word
    root = make_folder()
    file = root / "train" / kind / "000.png"
    file.write_bytes(file.read_bytes()[:-cut])
    error = _refused(f"folder:{root}", index=0)
    assert isinstance(error, DataError)
    assert "000.png" in str(error)


def test_a_flipped_bit_in_a_png_is_refused(make_folder: MakeFolder) -> None:
    root = make_folder()
    file = root / "train/images/000.png"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert "checksum" in str(_refused(f"folder:{root}", index=0))


def test_truncated_jpeg_and_foreign_files_are_refused(make_folder: MakeFolder) -> None:
    root = make_folder()
    image = root / "train/images/000.png"
    Image.open(image).resize((200, 200)).save(image.with_suffix(".jpg"))
    image.unlink()
    jpeg = image.with_suffix(".jpg")
    jpeg.write_bytes(jpeg.read_bytes()[:-600])
    assert "truncated" in str(_refused(f"folder:{root}", index=0))
    jpeg.write_bytes(b"not a picture at all")
    assert "not a picture" in str(_refused(f"folder:{root}", index=0))
