"""The comparison with peers: figures computed as said, and peers that are absent are named, not a failure."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "compare_quantizers.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("compare_quantizers", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_iou_counts_what_has_no_class_against_the_label(tool):
    # two classes, last column "no class"
    iou = tool._iou(np.array([[6, 2, 2], [0, 10, 0]]))
    assert iou == pytest.approx([6 / 10, 10 / 12])


def test_the_interval_of_equal_engines_is_nothing(tool):
    counts = np.random.default_rng(0).integers(1, 50, (7, 3, 4))
    assert tool._interval(counts, counts) == (0.0, 0.0)


def test_the_interval_contains_a_constant_loss(tool):
    base = np.tile(np.array([[90, 10, 0], [10, 90, 0]]), (9, 1, 1))
    worse = np.tile(np.array([[85, 15, 0], [10, 90, 0]]), (9, 1, 1))
    low, high = tool._interval(base, worse)
    expected = 100 * np.mean(tool._iou(base[0]) - tool._iou(worse[0]))
    assert low == pytest.approx(expected)
    assert high == pytest.approx(expected)
