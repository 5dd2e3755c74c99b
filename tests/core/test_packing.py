"""BGR into camera formats: back through OpenCV's own decoder, the colours are those that went in."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgeseg.core.errors import RequestError
from edgeseg.core.packing import check_packable, pack, packed
from edgeseg.core.types import Colour, InputFormat

BACK = {"nv12": cv2.COLOR_YUV2BGR_NV12, "yuyv": cv2.COLOR_YUV2BGR_YUY2}


def smooth(size: tuple[int, int]) -> np.ndarray:
    rows, cols = np.indices(size)
    return np.stack([60 + rows * 2, 200 - cols, 90 + rows + cols], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("form", ["nv12", "yuyv"])
def test_there_and_back(form: InputFormat) -> None:
    image = smooth((24, 32))
    out = np.zeros((36, 32) if form == "nv12" else (24, 32, 2), np.uint8)
    back = cv2.cvtColor(pack(image, form, out), BACK[form])
    assert np.abs(back.astype(int) - image).max() <= 8, "chroma is at half the resolution"


@pytest.mark.parametrize("colour", ["bt601-limited", "bt601-full", "bt709-limited", "bt709-full"])
@pytest.mark.parametrize("size", [(24, 32), (25, 32)])
def test_every_meaning_comes_back_through_its_own_matrix(colour: str, size: tuple[int, int]) -> None:
    meaning = Colour.from_text(colour)
    assert str(meaning) == colour
    image = smooth(size)
    yuyv = packed(image, "yuyv", meaning).astype(float)
    u, v = (yuyv[:, start::2, 1].repeat(2, axis=1) for start in (0, 1))
    matrix, offset = meaning.to_bgr()
    back = np.stack([yuyv[..., 0], u, v], axis=-1) @ matrix.T + offset
    assert np.abs(back - image).max() <= 8, "chroma is at half the resolution"


def test_an_unknown_meaning_names_those_that_are_known() -> None:
    with pytest.raises(RequestError, match="bt709-full"):
        Colour.from_text("bt2020")


def test_bgr_is_copied() -> None:
    image = smooth((5, 7))
    assert np.array_equal(pack(image, "bgr", np.zeros_like(image)), image)


def test_odd_sizes_are_refused() -> None:
    check_packable((5, 7), "bgr")
    check_packable((5, 8), "yuyv")
    for size, form in (((5, 8), "nv12"), ((6, 7), "yuyv")):
        with pytest.raises(RequestError, match="odd"):
            check_packable(size, form)  # type: ignore[arg-type]
