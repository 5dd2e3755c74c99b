"""tools/train_speed.py end to end: three loops in turns, one JSON object."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from train_speed import main


def test_it_measures_three_loops_and_says_both_ratios(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = "street:seed=1,frames=4,size=64x96"
    sets = ["train.batch=2", "train.threads=1", "augment.crop=[32, 64]", "model.depths=[0, 0, 0, 0, 1]"]
    arguments = ["--data", data, "--model", "edge-s", "--device", "cpu", "--rounds", "2", "--steps", "1"]
    arguments += ["--warm-up", "1", *(word for value in sets for word in ("--set", value))]
    monkeypatch.setattr(sys, "argv", ["train_speed.py", *arguments])
    threads = torch.get_num_threads()
    try:
        main()
    finally:
        torch.set_num_threads(threads)
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert (answer["model"], answer["batch"], answer["crop"], answer["rounds"]) == ("edge-s", 2, [32, 64], 2)
    assert answer["ratio_min"] <= answer["ratio"] <= answer["ratio_max"]
    assert answer["ratio_same_loss"] > 0
    assert answer["images_per_s"] > 0
    assert "of one with the same loss" in told.err
