"""What the gate counts and what it refuses, on masks made by hand."""

import numpy as np
import pytest

from edgeseg.core.types import Classes, Sample
from edgeseg.deploy.gate import Bands, gate_error, losses
from edgeseg.deploy.request import BuildRequest

CLASSES = Classes(names=("road", "person"), palette_rgb=((0, 0, 0), (1, 1, 1)))
REFERENCE = {"miou": 0.80, "iou.road": 0.9, "iou.person": 0.7, "recall.person": 0.85}


def request(**changes):
    return BuildRequest(model="m.onnx", data="camvid:x", **changes)


@pytest.mark.parametrize(
    ("engine", "changes", "names"),
    [
        ({"miou": 0.7951}, {}, []),
        ({"miou": 0.7949}, {}, ["miou"]),
        ({"miou": 0.7949}, {"max_drop": 1.0}, []),
        ({"iou.person": 0.6}, {}, []),
        ({"iou.person": 0.694}, {"max_drop_class": {"person": 0.5}}, ["iou.person"]),
        ({"recall.person": 0.8}, {"max_drop_class": {"person": 0.5}}, ["recall.person"]),
        ({"iou.person": None}, {"max_drop_class": {"person": 50}}, ["iou.person"]),
        ({"miou": 0.9}, {"max_drop": 0.0}, []),
    ],
)
def test_points_are_hundredths(engine, changes, names):
    assert [loss.name for loss in losses(REFERENCE, {**REFERENCE, **engine}, request(**changes))] == names


def test_a_class_that_the_data_do_not_have_is_no_loss():
    reference = {**REFERENCE, "iou.person": None, "recall.person": None}
    assert losses(reference, reference, request(max_drop_class={"person": 0.5})) == []


def test_near_and_far_are_the_halves_of_the_picture():
    label = np.zeros((10, 8), np.uint8)
    mask = label.copy()
    mask[:2] = 1  # wrong far away only
    bands = Bands(CLASSES)
    bands(Sample(name="a", image_hwc=np.zeros((10, 8, 3), np.uint8), label_hw=label), mask)
    scores = bands.scores(["road"])
    assert scores["near.iou.road"] == 1.0
    assert scores["far.iou.road"] == pytest.approx(0.6)
    assert scores["far.miou"] == pytest.approx(0.3)


def test_the_error_says_what_each_candidate_lost():
    lost = losses(REFERENCE, {**REFERENCE, "miou": 0.75}, request())
    text = str(gate_error(request(), {"openvino int8": lost}))
    assert "openvino int8: miou lost 5.00 points, allowed 0.5" in text
    assert "--max-drop 5.0" in text
