"""tools/make_zoo.py: runs to zoo files in one command, cards of measured figures, the dev column of a sibling."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from edgeseg.core.config import convert
from edgeseg.data import open_dataset
from edgeseg.data.masks import write_index_png
from edgeseg.data.pictures import write_image_png
from edgeseg.train import train_model
from edgeseg.train.config import RecipeConfig
from edgeseg.train.request import TrainRequest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        import make_zoo

        yield make_zoo
    for name in ("make_zoo", "model_card"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in CamVid's layout, a run on all of its train, and a sibling that held dev out."""
    folder = tmp_path_factory.mktemp("zoo")
    for split, prefix in (("train", "0001TP_"), ("train", "0006R0_"), ("val", "0016E5_")):
        street = open_dataset(f"street:seed={len(prefix + split)},frames=8,size=64x96", "train")
        (folder / "camvid" / split).mkdir(parents=True, exist_ok=True)
        (folder / "camvid" / f"{split}annot").mkdir(exist_ok=True)
        for index in range(8):
            sample = street[index]
            write_image_png(folder / "camvid" / split / f"{prefix}{index}.png", sample.image_hwc)
            write_index_png(
                folder / "camvid" / f"{split}annot" / f"{prefix}{index}.png", sample.label_hw, street.classes
            )
    for name, split, lr in (("all", "train", 0.004), ("sibling", "train-dev", 0.002)):
        overrides = {
            "data": {"train": f"camvid:{folder / 'camvid'}", "split": split},
            "train": {"epochs": 1, "batch": 4, "threads": 1, "lr": lr, "seed": 7},
            "augment": {"crop": [64, 96]},
        }
        train_model(TrainRequest(out=folder / name, model="edge-s", overrides=overrides))
    return folder


@pytest.fixture(scope="module")
def zoo(tool: ModuleType, runs: Path) -> Path:
    pytest.importorskip("openvino")
    arguments = [str(runs / "all"), "--data", f"camvid:{runs / 'camvid'}", "--dev-run", str(runs / "sibling")]
    arguments += ["--corrupt", "fog", "--corrupt", "night:3", "--note", "edge-s: boats.", "--note", "Snow."]
    tool.main([*arguments, "--out", str(runs / "zoo")])
    return runs / "zoo"


@pytest.fixture
def card(zoo: Path) -> str:
    return (zoo / "edge-s.md").read_text(encoding="utf-8")


def test_every_file_of_a_model_is_written(tool: ModuleType, zoo: Path) -> None:
    assert {file.name for file in zoo.iterdir()} == {"edge-s" + suffix for suffix in tool.SUFFIXES}


def test_a_card_says_all_that_a_user_needs(card: str, runs: Path) -> None:
    assert "`edgeseg train --data camvid:PATH --model edge-s --config RECIPE.toml --seed 7 --out RUN`" in card
    assert re.search(r"0\.\d\d M parameters, 0\.\d\d G multiply-adds at 64x96", card)
    assert "| seed | 7 |" in card
    header = next(line for line in card.splitlines() if line.startswith("| IoU %"))
    assert header == "| IoU % | val FP32 | val INT8 | dev, sibling FP32 | val, sibling FP32 |"
    for name in open_dataset(f"camvid:{runs / 'camvid'}", "val").classes.names:
        assert re.search(rf"^\| {name} (\| [\d.–]+ ){{4}}\|$", card, re.MULTILINE)
    assert "the same recipe but for train.lr 0.002 for 0.004, split `train-dev`" in card
    assert re.search(r"^\| fog (\| [\d.]+ ){3}\|$", card, re.MULTILINE)
    assert re.search(r"^\| night \| – \| – \| [\d.]+ \|$", card, re.MULTILINE)
    assert "--split val --corrupt all`" in card
    assert "- boats." in card
    assert "- Snow." in card
    assert str(runs) not in card
    recipe = tomllib.loads(card.partition("```toml")[2].partition("```")[0])
    assert convert(recipe, RecipeConfig, origin="card").train.seed == 7  # what --config takes


def test_figures_of_a_card_are_those_of_eval(card: str, runs: Path, zoo: Path) -> None:
    from edgeseg.deploy import open_target
    from edgeseg.measure import evaluate_runner

    found = evaluate_runner(open_target(str(zoo / "edge-s.onnx")), open_dataset(f"camvid:{runs / 'camvid'}", "val"))
    assert found.miou is not None
    assert f"| **mean** | **{100 * found.miou:.1f}** |" in card


def test_what_would_flatter_is_refused(tool: ModuleType, runs: Path, tmp_path: Path) -> None:
    data, out = f"camvid:{runs / 'camvid'}", str(tmp_path / "zoo")
    with pytest.raises(SystemExit, match="the run has learned from dev"):
        tool.main([str(runs / "all"), "--data", data, "--splits", "val,dev", "--out", out])
    with pytest.raises(SystemExit, match="the sibling has learned from dev"):
        tool.main([str(runs / "all"), "--data", data, "--dev-run", str(runs / "all"), "--out", out])
    with pytest.raises(SystemExit, match="two runs of one model"):
        tool.main([str(runs / "all"), str(runs / "sibling"), "--data", data, "--out", out])
    assert not (tmp_path / "zoo").exists()


def test_shipped_cards_name_command_and_classes() -> None:
    for file in sorted((ROOT / "edgeseg" / "zoo").glob("*.md")):
        text = file.read_text(encoding="utf-8")
        assert "edgeseg train --data" in text
        assert "| **mean** |" in text
        assert "**Not good for**" in text
        ranges = json.loads(file.with_suffix(".ranges.json").read_text())
        assert ranges


def test_a_card_names_the_run_that_its_weights_started_from(tool: ModuleType) -> None:
    assert tool.Card.__module__ == "model_card"
    differences = sys.modules["model_card"].differences
    last = {"train": {"epochs": 1, "lr": 0.0002, "threads": 1}, "loss": {"weight_shift": 0.4, "dice": 0.0}}
    first = {"train": {"epochs": 182, "lr": 0.004, "threads": 4}, "loss": {}}
    assert differences(last, first) == [
        "train.epochs 182 for 1",
        "train.lr 0.004 for 0.0002",
        "loss.weight_shift none for 0.4",
    ]
    assert differences(last, last) == []
