"""Index PNGs keep ids and show colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeseg.core.errors import DataError
from edgeseg.data.classes import CAMVID, class_file_text, read_class_file, voc_palette
from edgeseg.data.masks import read_index_png, write_index_png
from edgeseg.data.pictures import read_image, write_image_png


def test_masks_survive_and_carry_the_palette(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 12, (37, 53), dtype=np.uint8)
    mask[0, 0] = 255
    write_index_png(tmp_path / "m.png", mask, CAMVID)
    assert np.array_equal(read_index_png(tmp_path / "m.png"), mask)
    rgb = np.array(Image.open(tmp_path / "m.png").convert("RGB"))
    for index, colour in enumerate(CAMVID.palette_rgb):
        assert (rgb[mask == index] == colour).all()
    assert (rgb[mask >= CAMVID.ignore_id] == 0).all()


def test_images_survive(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (11, 13, 3), dtype=np.uint8)
    write_image_png(tmp_path / "i.png", image)
    assert np.array_equal(read_image(tmp_path / "i.png"), image)


def test_a_16_bit_picture_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        read_image(tmp_path / "deep.png")


def test_class_file_round_trip(tmp_path: Path) -> None:
    (tmp_path / "classes.toml").write_text(class_file_text(CAMVID))
    assert read_class_file(tmp_path / "classes.toml").classes() == CAMVID


def test_voc_palette_has_the_published_first_colours() -> None:
    assert voc_palette(5) == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
    assert voc_palette(21)[15] == (192, 128, 128)  # person
