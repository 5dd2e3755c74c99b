"""Which frames are measured: spread over the pool, distinct, showing something, no noise."""

import numpy as np
import pytest

from edgeseg.core.errors import DataError, RequestError
from edgeseg.core.types import Classes, Sample
from edgeseg.quant.frames import ArrayPool, CorruptedPool, DatasetPool, choose_frames

from .test_calibration import picture

PICTURES = [picture(seed) for seed in range(40)]
BLACK = np.zeros_like(PICTURES[0])


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, PICTURES[0].shape, dtype=np.uint8)


def test_spread_over_the_pool():
    indices = choose_frames(ArrayPool(PICTURES), 16).indices
    assert indices[0] == 0
    assert indices[-1] == 39
    assert np.diff(indices).max() <= 4


def test_repeated_frames_count_once():
    choice = choose_frames(ArrayPool([frame for frame in PICTURES[:20] for _ in "xx"]), 40)
    assert choice.report.count == 20
    assert choice.report.duplicates == 20
    assert "20 distinct frames found, 40 asked for" in choice.report.warnings


def test_black_and_uniform_frames_are_left_out():
    white = np.full_like(BLACK, 200)
    choice = choose_frames(ArrayPool([BLACK, white, *PICTURES[:20]]), 22)
    assert choice.report.blank == 2
    assert set(choice.indices) == set(range(2, 22))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([noise(i) for i in range(30)], "noise, not pictures"),
        ([*PICTURES[:20], *(noise(i) for i in range(10))], "noise, not pictures"),
        ([BLACK] * 30, "30 black or blank"),
        ([PICTURES[0]] * 30, "29 repeated"),
    ],
    ids=["noise", "a third noise", "black", "one picture"],
)
def test_frames_that_teach_nothing_are_refused(frames, message):
    with pytest.raises(DataError, match=message):
        choose_frames(ArrayPool(frames), 30)


def test_too_few_are_refused():
    with pytest.raises(RequestError, match=r"\(3\)"):
        choose_frames(ArrayPool(PICTURES), 3)
    with pytest.raises(DataError, match="5 usable of 5"):
        choose_frames(ArrayPool(PICTURES[:5]), 16)


class Labelled:
    name = "stub:"
    split = "train"
    classes = Classes(names=("a", "b", "c"), palette_rgb=((0, 0, 0), (1, 1, 1), (2, 2, 2)))

    def __len__(self):
        return 20

    def __getitem__(self, index):
        label = np.zeros(PICTURES[0].shape[:2], np.uint8)
        label[:10] = 1
        label[10:20] = 255
        return Sample(name=str(index), image_hwc=PICTURES[index], label_hw=label)


def test_class_coverage_is_reported_and_a_class_that_never_occurs_warned_of():
    report = choose_frames(DatasetPool(Labelled()), 16).report
    assert report.class_shares["c"] == 0
    assert report.class_shares["a"] + report.class_shares["b"] == pytest.approx(1)
    assert "no frame shows: c" in report.warnings


def test_dark_frames_are_warned_of():
    dark = [(frame // 6).astype(np.uint8) for frame in PICTURES]
    assert any("dark" in warning for warning in choose_frames(ArrayPool(dark), 16).report.warnings)


@pytest.mark.parametrize(
    ("name", "portable"),
    [
        ("camvid:/home/me/CamVid", "camvid:CamVid"),
        ("/home/me/drive.mp4", "drive.mp4"),
        ("street:seed=1,frames=20", "street:seed=1,frames=20"),
        ("rtsp://camera/stream", "rtsp://camera/stream"),
        ("frames/*.png", "frames/*.png"),
    ],
)
def test_no_folder_of_this_machine_gets_into_a_range_file(name, portable):
    dataset = Labelled()
    dataset.name = name
    assert DatasetPool(dataset).name == f"{portable} (train)"


def test_some_frames_are_seen_under_bad_conditions_and_always_the_same_ones():
    plain = ArrayPool(PICTURES[:9])
    pool = CorruptedPool(plain, [("night", 3), ("fog", 2)])
    assert len(pool) == 9
    assert pool.name == "frames in memory, also under night:3, fog:2"
    frames = [frame.image_hwc for frame in pool.read(range(9))]
    same = [np.array_equal(frame, picture) for frame, picture in zip(frames, PICTURES, strict=False)]
    assert same == [True, False, False] * 3
    assert frames[1].mean() < 0.6 * PICTURES[1].mean()  # night
    (again,) = pool.read([4])
    assert np.array_equal(again.image_hwc, frames[4])
    assert choose_frames(pool, 9).report.source == pool.name
