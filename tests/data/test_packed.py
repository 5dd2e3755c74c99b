"""One file for a data set: what comes out, what is refused, and what it does not need."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeseg.core.errors import DataError, RequestError
from edgeseg.data import dataset_splits, open_dataset, pack
from edgeseg.data.packed import PackedFile

STREET = "street:seed=1,frames=8,size=72x96"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "street.packed"
    assert pack(out, {split: open_dataset(STREET, split) for split in ("train", "val")}) == {"train": 8, "val": 8}
    return out


@pytest.fixture
def packed(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path))


def test_labels_are_exact_and_pictures_close(packed: Path) -> None:
    assert dataset_splits(f"packed:{packed}") == ["train", "val"]
    for split in ("train", "val"):
        before, after = open_dataset(STREET, split), open_dataset(f"packed:{packed}", split)
        assert after.classes == before.classes
        for index in (0, 3, 7):
            assert after[index].name == before[index].name
            assert np.array_equal(after[index].label_hw, before[index].label_hw)
            error = np.abs(after[index].image_hwc.astype(int) - before[index].image_hwc).mean()
            assert error < 4
            assert after[index].image_hwc.flags.writeable


def test_it_is_read_without_opencv(packed: Path) -> None:
    code = (
        "import sys; sys.modules['cv2'] = None\n"
        "from edgeseg.data import open_dataset\n"
        f"data = open_dataset('packed:{packed}', 'train')\n"
        "assert data[7].image_hwc.shape == (72, 96, 3) and len(data) == 8\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_is_a_safetensors_file(packed: Path) -> None:
    safetensors = pytest.importorskip("safetensors", reason="needs the extra train")
    with safetensors.safe_open(packed, "np") as file:
        assert file.metadata()["format"] == "edgeseg.packed"
        assert file.get_tensor("val/labels.ends").shape == (8,)
        jpeg = file.get_tensor("train/images")[: int(file.get_tensor("train/images.ends")[0])].tobytes()
    assert jpeg.startswith(b"\xff\xd8")


@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, 0.999])
def test_truncated_files_are_refused_when_opened(packed: Path, keep: float) -> None:
    data = packed.read_bytes()
    packed.write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    with pytest.raises(DataError, match=r"street\.packed"):
        PackedFile.open(packed)


def test_a_flipped_bit_is_refused_when_its_frame_is_read(packed: Path) -> None:
    dataset = open_dataset(f"packed:{packed}", "train")
    assert dataset[0].image_hwc.any()
    offset = packed.stat().st_size - 40  # val/labels, the last tensor
    data = bytearray(packed.read_bytes())
    data[offset] ^= 4
    packed.write_bytes(data)
    val = open_dataset(f"packed:{packed}", "val")
    with pytest.raises(DataError, match="damaged"):
        val[7]


def test_other_formats_and_versions_are_refused(packed: Path, tmp_path: Path) -> None:
    data = packed.read_bytes()
    packed.write_bytes(data.replace(b'"version":"1"', b'"version":"9"'))
    with pytest.raises(DataError, match=r"another format.*9"):
        PackedFile.open(packed)
    packed.write_bytes(data.replace(b"edgeseg.packed", b"someone.elses_"))
    with pytest.raises(DataError, match="no packed data set"):
        PackedFile.open(packed)
    with pytest.raises(RequestError, match="nowhere"):
        open_dataset(f"packed:{tmp_path}/nowhere", "train")
    packed.write_bytes(data)
    with pytest.raises(RequestError, match="here: train, val"):
        open_dataset(f"packed:{packed}", "test")


def test_a_bad_frame_leaves_no_file(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder()
    (root / "train/masks/002.png").write_bytes(b"")
    with pytest.raises(DataError):
        pack(tmp_path / "x.packed", {"train": open_dataset(f"folder:{root}", "train")})
    assert not list(tmp_path.glob("*x.packed*"))


def test_parts_of_camvid_s_train_are_found_in_its_packed_train(tmp_path: Path) -> None:
    camvid = tmp_path / "camvid"
    for folder, shape in (("train", (24, 32, 3)), ("trainannot", (24, 32))):
        (camvid / folder).mkdir(parents=True)
        for index, sequence in enumerate(("0001TP", "0006R0", "0001TP", "0016E5")):
            picture = Image.fromarray(np.full(shape, index, np.uint8))
            picture.save(camvid / folder / f"{sequence}_{index:03d}.png")
    out = tmp_path / "parts.packed"
    pack(out, {"train": open_dataset(f"camvid:{camvid}", "train")})
    for split in ("dev", "train-dev"):
        before, after = open_dataset(f"camvid:{camvid}", split), open_dataset(f"packed:{out}", split)
        assert len(after) == len(before) == 2
        for index in range(2):
            assert after[index].name == before[index].name
            assert np.array_equal(after[index].label_hw, before[index].label_hw)
    assert dataset_splits(f"packed:{out}") == ["train"]


def test_other_data_sets_have_no_such_parts(packed: Path) -> None:
    with pytest.raises(RequestError, match="train, val"):
        open_dataset(f"packed:{packed}", "dev")
