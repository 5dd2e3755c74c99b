"""The comparison with peers: figures computed as said, and peers that are absent are named, not a failure."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "quantizer_report.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("quantizer_report", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_iou_counts_what_has_no_class_against_the_label(tool):
    # two classes, last column "no class"
    found = tool.iou(np.array([[6, 2, 2], [0, 10, 0]]))
    assert found == pytest.approx([6 / 10, 10 / 12])


def test_the_interval_of_equal_engines_is_nothing(tool):
    counts = np.random.default_rng(0).integers(1, 50, (7, 3, 4))
    assert tool.interval(counts, counts) == (0.0, 0.0)
    assert tool.class_intervals(counts, counts) == [(0.0, 0.0, 0.0)] * 3


def test_the_interval_contains_a_constant_loss(tool):
    base = np.tile(np.array([[90, 10, 0], [10, 90, 0]]), (9, 1, 1))
    worse = np.tile(np.array([[85, 15, 0], [10, 90, 0]]), (9, 1, 1))
    low, high = tool.interval(base, worse)
    lost = 100 * (tool.iou(base[0]) - tool.iou(worse[0]))
    assert low == pytest.approx(np.mean(lost))
    assert high == pytest.approx(np.mean(lost))
    assert tool.class_intervals(base, worse) == [pytest.approx((value,) * 3) for value in lost]


def test_classes_that_are_judged_by_themselves(tool):
    # large and good, large and bad, good but tiny
    counts = np.array([[[900, 0, 0, 0], [300, 100, 0, 0], [0, 0, 4, 0]]])
    assert tool.watched_classes(counts) == [0]


def test_the_page_says_what_was_lost_where(tool, tmp_path):
    base = np.tile(np.array([[90, 10, 0], [10, 90, 0]]), (4, 1, 1))
    worse = np.tile(np.array([[85, 15, 0], [10, 90, 0]]), (4, 1, 1))
    mask = [np.zeros((2, 5), np.uint8)] * 4
    other = [np.array([[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], np.uint8)] * 4
    rows = [
        tool.Row("FP32", "a", base, mask, p50_ms=20.0, flicker=0.01),
        tool.Row("BF16", "b", base, mask, p50_ms=10.0, flicker=0.01),
        tool.Row(
            *("INT8", "c", worse, other),
            int8_share=0.5,
            p50_ms=8.0,
            flicker=0.011,
            of_bf16=(0.8, (0.75, 0.85)),
            of_f32=(0.4, (0.39, 0.41)),
        ),
    ]
    text = tool.markdown(rows, ["road", "car"], "4 frames.", ["a peer is not installed"])
    (line,) = [line for line in text.splitlines() if line.startswith("| INT8")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[5:] == ["90.00%", "1.10", "50%", "8.00", "0.80 [0.75, 0.85]", "0.40 [0.39, 0.41]"]
    assert cells[4].startswith("road +4")
    assert "- a peer is not installed." in text
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n")
    tool.write_between_marks(page, text)
    assert page.read_text() == f"before\n<!-- measured: begin -->\n{text}<!-- measured: end -->\nafter\n"


def test_the_command_names_no_folder_of_this_machine(tool, monkeypatch):
    arguments = ["zoo:edge-s", "--data", "camvid:/some/where", "--drive", "../data/clip.mp4", "--out", "docs/int8.md"]
    monkeypatch.setattr(sys, "argv", ["compare_quantizers.py", *arguments, "--peers", ""])
    expected = 'zoo:edge-s --data camvid:PATH --drive clip.mp4 --out docs/int8.md --peers ""'
    assert tool.command("compare_quantizers.py") == f"python tools/compare_quantizers.py {expected}"
