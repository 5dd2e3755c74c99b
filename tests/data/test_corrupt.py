"""Bad conditions: seeded, graded, and harmless to labels."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.errors import RequestError
from edgeseg.data import open_dataset
from edgeseg.data.corrupt import KINDS, STRENGTHS, corrupt, corrupted
from edgeseg.data.street import StreetScene

FRAME = StreetScene(4, (120, 160)).render(9)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_seeded_and_gets_worse(kind: str) -> None:
    image = FRAME.image_hwc.copy()
    results = [corrupt(image, kind, strength, seed=5, index=2) for strength in STRENGTHS]
    assert np.array_equal(image, FRAME.image_hwc), "the input is left as it is"
    assert np.array_equal(results[1], corrupt(image, kind, 2, seed=5, index=2))
    assert all(result.dtype == np.uint8 and result.shape == image.shape for result in results)
    harm = [np.abs(result.astype(float) - image).mean() for result in results]
    assert 0.5 < harm[0] < harm[1] < harm[2]
    assert results[2].std() > 3, "something can still be seen"


def test_frames_differ_but_dirt_stays() -> None:
    for kind in KINDS:
        first, second = (corrupt(FRAME.image_hwc, kind, 2, index=index) for index in (0, 1))
        assert np.array_equal(first, second) == (kind == "lens_dirt"), kind


def test_a_data_set_keeps_its_labels() -> None:
    clean = open_dataset("street:seed=1,frames=8,size=72x96", "val")
    rainy = corrupted(clean, "rain", 3)
    assert (len(rainy), rainy.classes, rainy.split) == (len(clean), clean.classes, "val")
    assert rainy.name.endswith("(rain 3)")
    assert np.array_equal(rainy[4].label_hw, clean[4].label_hw)
    assert not np.array_equal(rainy[4].image_hwc, clean[4].image_hwc)


def test_odd_sizes_and_unknown_names() -> None:
    tiny = np.full((9, 13, 3), 90, np.uint8)
    for kind in KINDS:
        assert corrupt(tiny, kind, 3).shape == (9, 13, 3)
    with pytest.raises(RequestError, match=r"did you mean fog\?"):
        corrupt(tiny, "fogg", 1)
    with pytest.raises(RequestError, match="1, 2 or 3"):
        corrupt(tiny, "fog", 4)
