import numpy as np
import pytest

from edgeseg.backend import open_null
from edgeseg.core.errors import RequestError
from edgeseg.data import open_dataset
from edgeseg.data.corrupt import KINDS
from edgeseg.measure.robustness import evaluate_corrupted, parse_conditions


def test_conditions_by_name_by_strength_and_all_at_once():
    assert parse_conditions(["rain", "fog:2"]) == [("rain", 1), ("rain", 2), ("rain", 3), ("fog", 2)]
    assert len(parse_conditions(["all", "rain"])) == 3 * len(KINDS)
    assert parse_conditions([]) == []


@pytest.mark.parametrize("text", ["hail", "rain:4", "rain:x", ""])
def test_what_is_no_condition(text):
    with pytest.raises(RequestError, match="night"):
        parse_conditions([text])


def test_each_condition_is_scored_on_the_same_labels():
    dataset = open_dataset("street:seed=1,frames=4,size=64x96", "val")
    runner = open_null(dataset.classes, (64, 96))
    found = evaluate_corrupted(runner, dataset, [("night", 1), ("fog", 3)])
    assert [(one.kind, one.strength) for one in found] == [("night", 1), ("fog", 3)]
    assert all(0 <= one.miou <= 1 for one in found)
    assert set(found[0].iou) == set(dataset.classes.names)
    assert not np.isclose(found[0].miou, found[1].miou)
