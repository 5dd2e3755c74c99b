import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeseg.core.errors import DataError
from edgeseg.core.metrics import BoundaryIou, Confusion, boundary_width_px, contour_band, series_ms
from edgeseg.core.types import Classes

CLASSES = Classes(names=("road", "car", "person"), palette_rgb=((1, 2, 3), (4, 5, 6), (7, 8, 9)), ignore_id=3)


# ---------------------------------------------------------------- series


def test_percentiles_are_observed_values_by_nearest_rank():
    series = series_ms(np.random.default_rng(0).permutation(np.arange(1, 1001)) * 1_000_000)
    assert (series.p50, series.p90, series.p95, series.p99, series.max) == (500, 900, 950, 990, 1000)
    assert series.mean == 500.5
    assert series.jitter == pytest.approx(np.arange(1, 1001).std(ddof=1))


@pytest.mark.parametrize(("field", "needed"), [("p50", 20), ("p90", 100), ("p95", 200), ("p99", 1000), ("p999", 10000)])
def test_a_percentile_needs_ten_samples_beyond_it(field, needed):
    assert getattr(series_ms(np.arange(needed)), field) is not None
    assert getattr(series_ms(np.arange(needed - 1)), field) is None


def test_nothing_is_trimmed():
    series = series_ms([1_000_000] * 999 + [70_000_000])
    assert series.max == 70
    assert series.mean == pytest.approx(1.069)


def test_an_empty_series_claims_nothing():
    series = series_ms([])
    assert series.n == 0
    assert series.max is None
    assert series.mean is None
    assert series_ms([5]).jitter is None


# ---------------------------------------------------------------- confusion


def test_iou_of_a_worked_example():
    label = np.array([[0, 0, 1, 1], [0, 0, 1, 3]], np.uint8)
    mask = np.array([[0, 1, 1, 1], [0, 0, 0, 2]], np.uint8)
    confusion = Confusion(CLASSES)
    confusion.add(label, mask)
    assert confusion.iou() == {"road": 3 / 5, "car": 2 / 4, "person": None}
    assert confusion.miou == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert confusion.pixel_accuracy == pytest.approx(5 / 7)


def test_a_mask_without_class_is_a_miss():
    confusion = Confusion(CLASSES)
    confusion.add(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))
    assert confusion.iou()["road"] == 0
    assert confusion.pixel_accuracy == 0


def test_a_class_predicted_but_never_labelled_counts_as_zero():
    confusion = Confusion(CLASSES)
    confusion.add(np.zeros((1, 4), np.uint8), np.array([[0, 0, 0, 2]], np.uint8))
    assert confusion.iou() == {"road": 0.75, "car": None, "person": 0.0}


def test_merging_equals_adding():
    rng = np.random.default_rng(1)
    frames = [(rng.integers(0, 4, (9, 7), np.uint8), rng.integers(0, 3, (9, 7), np.uint8)) for _ in range(4)]
    whole, first, second = Confusion(CLASSES), Confusion(CLASSES), Confusion(CLASSES)
    for i, (label, mask) in enumerate(frames):
        whole.add(label, mask)
        (first if i < 2 else second).add(label, mask)
    first.merge(second)
    assert (first.matrix == whole.matrix).all()


def test_bad_pairs_are_refused():
    with pytest.raises(DataError, match="two sizes"):
        Confusion(CLASSES).add(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match=r"unknown id \(9\)"):
        Confusion(CLASSES).add(np.full((2, 2), 9, np.uint8), np.zeros((2, 2), np.uint8))


# ---------------------------------------------------------------- boundary IoU


def _band_by_definition(ids, width_px):
    height, width = ids.shape
    padded = np.full((height + 2 * width_px, width + 2 * width_px), 254, np.uint8)
    padded[width_px : width_px + height, width_px : width_px + width] = ids
    side = 2 * width_px + 1
    return np.array(
        [[(padded[y : y + side, x : x + side] != ids[y, x]).any() for x in range(width)] for y in range(height)]
    )


@settings(max_examples=40)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 2)), st.integers(1, 4)
)
def test_the_band_is_the_erosion_of_every_class(ids, width_px):
    assert (contour_band(ids, width_px) == _band_by_definition(ids, width_px)).all()


def test_boundary_iou_sees_what_iou_hides():
    label = np.zeros((100, 100), np.uint8)
    label[20:80, 20:80] = 1
    mask = np.zeros((100, 100), np.uint8)
    mask[22:82, 20:80] = 1
    plain, boundary = Confusion(CLASSES), BoundaryIou(CLASSES, width_px=2)
    plain.add(label, mask)
    boundary.add(label, mask)
    assert plain.iou()["car"] > 0.93
    assert boundary.iou()["car"] < 0.5


def test_perfect_masks_have_boundary_iou_one_also_beside_void():
    rng = np.random.default_rng(2)
    label = rng.integers(0, 4, (10, 12), np.uint8).repeat(6, 0).repeat(6, 1)
    boundary = BoundaryIou(CLASSES)
    boundary.add(label, np.where(label == 3, 1, label).astype(np.uint8))
    assert boundary.mean == 1.0
    assert set(boundary.iou()) == set(CLASSES.names)


def test_the_width_is_half_a_percent_of_the_diagonal():
    assert boundary_width_px(360, 480) == 3
    assert boundary_width_px(540, 960) == 6
    assert boundary_width_px(8, 8) == 1
