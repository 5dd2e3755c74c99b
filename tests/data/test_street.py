"""The rendered street: seeded, random access, consistent, every class in it, motion along a drive."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from edgeseg.core.errors import RequestError
from edgeseg.data import open_dataset
from edgeseg.data.classes import CAMVID
from edgeseg.data.street import StreetScene

SMALL = (96, 128)


def test_a_frame_does_not_depend_on_what_was_rendered_before() -> None:
    walked, direct = StreetScene(3, SMALL, step_m=4.0), StreetScene(3, SMALL, step_m=4.0)
    for index in range(0, 60, 7):
        walked.render(index)
    first, second = walked.render(40), direct.render(40)
    assert np.array_equal(first.image_hwc, second.image_hwc)
    assert np.array_equal(first.label_hw, second.label_hw)


def test_threads_may_share_a_scene() -> None:
    scene = StreetScene(3, SMALL, step_m=25.0)
    order = [(7 * index) % 40 for index in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = dict(zip(order, pool.map(scene.render, order), strict=True))
    alone = StreetScene(3, SMALL, step_m=25.0)
    assert all(np.array_equal(together[index].image_hwc, alone.render(index).image_hwc) for index in range(40))


def test_seeds_give_different_streets() -> None:
    first, second = (StreetScene(seed, SMALL).render(5).label_hw for seed in (1, 2))
    assert (first != second).mean() > 0.1


def test_every_class_is_there_and_large_enough_to_learn() -> None:
    scene = StreetScene(5, step_m=4.0)
    counts = sum(np.bincount(scene.render(index).label_hw.ravel(), minlength=256) for index in range(0, 120, 6))
    shares = counts / counts.sum()
    assert shares[len(CAMVID) :].sum() == 0, "every pixel has a class"
    small = {name: share for name, share in zip(CAMVID.names, shares, strict=False) if share < 0.004}
    assert not small, small


def test_frames_of_a_video_follow_each_other() -> None:
    """From frame to frame little changes, over a second much: a drive, not unrelated pictures."""
    scene = StreetScene(7, (180, 240))
    frames = [scene.render(index) for index in (30, 31, 60)]
    near = (frames[0].label_hw != frames[1].label_hw).mean()
    far = (frames[0].label_hw != frames[2].label_hw).mean()
    assert near < 0.05
    assert far > 2 * near


def test_the_road_comes_nearer_as_perspective_demands() -> None:
    """Moving the camera forward maps the ground by a known homography; the next frame agrees with it."""
    scene = StreetScene(3, step_m=0.27)
    first, second = (
        cv2.GaussianBlur(cv2.cvtColor(scene.render(index).image_hwc, cv2.COLOR_BGR2GRAY), (0, 0), 2)
        for index in (100, 101)
    )
    before, after = (scene.camera(index) for index in (100, 101))
    ground = [(after.s_m + z, u, 0.0) for z, u in ((4, -1), (4, 2), (12, -3), (12, 4))]
    source, target = (np.array([camera.point(*p) for p in ground], np.float32) for camera in (before, after))
    moved = cv2.warpPerspective(first, cv2.getPerspectiveTransform(source, target), (480, 360))
    region = slice(260, 340), slice(150, 330)
    fits = np.corrcoef(moved[region].ravel(), second[region].ravel())[0, 1]
    stays = np.corrcoef(first[region].ravel(), second[region].ravel())[0, 1]
    assert fits > 0.9
    assert fits > stays + 0.05


def test_data_set_has_splits_of_different_towns() -> None:
    train = open_dataset("street:seed=1,frames=60,size=96x128", "train")
    val = open_dataset("street:seed=1,frames=60,size=96x128", "val")
    assert (len(train), len(val)) == (60, 12)
    assert train.classes == CAMVID
    assert train[0].image_hwc.shape == (96, 128, 3)
    assert not np.array_equal(train[3].label_hw, val[3].label_hw)
    with pytest.raises(IndexError):
        train[60]
    with pytest.raises(RequestError, match="train, val"):
        open_dataset("street:", "test")


@pytest.mark.parametrize("size", [(64, 64), (97, 203), (360, 640), (540, 960)])
def test_any_size_renders(size: tuple[int, int]) -> None:
    sample = StreetScene(2, size).render(17)
    assert sample.image_hwc.shape == (*size, 3)
    assert sample.label_hw.shape == size
    assert sample.label_hw.max() < len(CAMVID)
