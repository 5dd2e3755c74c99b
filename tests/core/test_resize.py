"""The host-side resize: geometry, masks back at camera size, and refusal of other sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.core.errors import RequestError
from edgeseg.core.resize import POLICIES, Policy, Resizer

SIZES = st.tuples(st.integers(1, 61), st.integers(1, 61))


def _blocks(size: tuple[int, int], block: int) -> np.ndarray:
    """A mask of constant square blocks, each with an id of its own."""
    rows, cols = np.indices(size) // block
    return ((rows * 7 + cols) % 200).astype(np.uint8)


@pytest.mark.parametrize("policy", POLICIES)
def test_same_size_changes_no_byte(policy: Policy) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (36, 48, 3), np.uint8)
    mask = rng.integers(0, 11, (36, 48), np.uint8)
    resizer = Resizer((36, 48), (36, 48), policy)
    assert resizer.identity
    assert np.array_equal(resizer.to_frame(image, np.zeros_like(image)), image)
    assert np.array_equal(resizer.to_camera(mask, np.full_like(mask, 77), outside=255), mask)


@settings(max_examples=60)
@given(camera=SIZES, frame=SIZES, policy=st.sampled_from(POLICIES))
def test_every_pixel_is_written_and_ids_are_never_mixed(
    camera: tuple[int, int], frame: tuple[int, int], policy: Policy
) -> None:
    resizer = Resizer(camera, frame, policy)
    image = np.full((*camera, 3), (10, 120, 250), np.uint8)
    framed = resizer.to_frame(image, np.zeros((*frame, 3), np.uint8))
    assert (framed == image[0, 0]).all(), "bars repeat the edge: a picture of one colour stays one"
    mask = np.random.default_rng(1).choice(np.array([3, 200], np.uint8), frame)
    back = resizer.to_camera(mask, np.full(camera, 99, np.uint8), outside=255)
    assert set(np.unique(back)) <= {3, 200, 255}
    assert (255 in back) <= (policy == "crop")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("camera", "frame"), [((540, 960), (270, 480)), ((720, 1280), (360, 480)), ((480, 640), (540, 960))]
)
def test_the_affine_map_names_the_camera_pixel_that_a_mask_pixel_came_from(
    policy: Policy, camera: tuple[int, int], frame: tuple[int, int]
) -> None:
    """Put a bright square into the picture, find it in the frame, map its centre back."""
    resizer = Resizer(camera, frame, policy)
    image = np.zeros((*camera, 3), np.uint8)
    top, left, side = camera[0] // 2 - 60, camera[1] // 2 + 31, 80
    image[top : top + side, left : left + side] = 255
    framed = resizer.to_frame(image, np.zeros((*frame, 3), np.uint8))
    weight = framed[..., 0].astype(np.float64)
    rows, cols = np.indices(frame)
    x, y = resizer.mask_to_camera((cols * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum())
    assert x == pytest.approx(left + side / 2 - 0.5, abs=0.1)
    assert y == pytest.approx(top + side / 2 - 0.5, abs=0.1)


@pytest.mark.parametrize("policy", ["stretch", "letterbox"])
def test_a_mask_comes_back_where_it_was_seen(policy: Policy) -> None:
    camera, frame = (120, 200), (60, 80)
    resizer = Resizer(camera, frame, policy)
    truth = _blocks(camera, 40)
    image = np.repeat(truth[..., None], 3, axis=2)
    framed = resizer.to_frame(image, np.zeros((*frame, 3), np.uint8))
    back = resizer.to_camera(np.ascontiguousarray(framed[..., 0]), np.zeros(camera, np.uint8), outside=255)
    assert (back == truth).mean() > 0.93, "only pixels at block borders may differ"


def test_crop_keeps_the_centre_and_says_no_class_outside() -> None:
    resizer = Resizer((100, 300), (50, 50), "crop")
    back = resizer.to_camera(np.full((50, 50), 4, np.uint8), np.zeros((100, 300), np.uint8), outside=11)
    assert (back[:, 100:200] == 4).all()
    assert (back[:, :100] == 11).all()
    assert (back[:, 200:] == 11).all()


def test_letterbox_bars_never_reach_the_mask() -> None:
    resizer = Resizer((100, 300), (60, 60), "letterbox")
    mask = np.full((60, 60), 9, np.uint8)
    mask[resizer.frame_rect.slices] = 2
    assert (resizer.to_camera(mask, np.zeros((100, 300), np.uint8), outside=255) == 2).all()


def test_other_sizes_and_policies_are_refused_by_name() -> None:
    resizer = Resizer((10, 20), (5, 10))
    with pytest.raises(RequestError, match="11x20"):
        resizer.to_frame(np.zeros((11, 20, 3), np.uint8), np.zeros((5, 10, 3), np.uint8))
    with pytest.raises(RequestError, match="4x10"):
        resizer.to_camera(np.zeros((4, 10), np.uint8), np.zeros((10, 20), np.uint8), 255)
    with pytest.raises(RequestError, match="stretch, crop, letterbox"):
        Resizer((10, 20), (5, 10), "squash")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="0x4"):
        Resizer((0, 4), (5, 10))
