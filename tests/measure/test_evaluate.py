import numpy as np
import pytest

from edgeseg.backend import open_null
from edgeseg.core.errors import RequestError
from edgeseg.core.types import Classes, Sample
from edgeseg.measure import evaluate_runner

CLASSES = Classes(names=("a", "b", "c"), palette_rgb=((0, 0, 0), (9, 9, 9), (5, 5, 5)))


class Frames:
    """Frames whose first channel is the label, so that null's masks are right; `wrong` of them are shifted by one."""

    name, split, classes = "made-up", "val", CLASSES

    def __init__(self, n, size=(20, 30), wrong=0):
        self.n, self.size, self.wrong = n, size, wrong

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        cells = np.random.default_rng(index).integers(0, 3, (self.size[0] // 10, self.size[1] // 10), dtype=np.uint8)
        label = cells.repeat(10, 0).repeat(10, 1)
        shown = (label + (index < self.wrong)) % 3
        return Sample(name=str(index), image_hwc=np.repeat(shown[..., None], 3, 2).astype(np.uint8), label_hw=label)


def test_right_masks_score_one():
    result = evaluate_runner(open_null(CLASSES, (20, 30)), Frames(4))
    assert result.miou == result.boundary_iou == result.pixel_accuracy == 1.0
    assert result.frames == result.engine_ms.n == 4
    assert np.array(result.confusion).sum() == 4 * 20 * 30


def test_wrong_masks_count_by_pixel():
    result = evaluate_runner(open_null(CLASSES, (20, 30)), Frames(4, wrong=1))
    assert result.pixel_accuracy == pytest.approx(0.75)
    assert 0 < result.miou < 1


def test_scores_are_at_label_size():
    result = evaluate_runner(open_null(CLASSES, (10, 15)), Frames(3))
    assert np.array(result.confusion).sum() == 3 * 20 * 30
    assert result.miou > 0.9


def test_an_observer_sees_each_mask_at_label_size():
    seen = []
    evaluate_runner(
        open_null(CLASSES, (10, 15)), Frames(3), observe=lambda sample, mask: seen.append((sample.name, mask.shape))
    )
    assert seen == [("0", (20, 30)), ("1", (20, 30)), ("2", (20, 30))]


def test_another_vocabulary_or_no_frames_is_refused():
    other = Classes(names=("x", "y", "z"), palette_rgb=CLASSES.palette_rgb)
    with pytest.raises(RequestError, match="vocabularies"):
        evaluate_runner(open_null(other, (20, 30)), Frames(1))
    with pytest.raises(RequestError, match="empty"):
        evaluate_runner(open_null(CLASSES, (20, 30)), Frames(0))
