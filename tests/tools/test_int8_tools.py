"""The INT8 tools end to end on a small network: they run, and their tables say what was measured."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from edgeseg.graph import load_model, save_model
from edgeseg.graph.sample import CLASSES, sample_model
from edgeseg.quant import calibrate, open_pool, save_ranges

TOOLS = Path(__file__).parents[2] / "tools"
SIZE = (64, 96)


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / max(SIZE)
    waves = [np.sin(7 * (rng.uniform(0.5, 3) * x + rng.uniform(0.5, 3) * y) + rng.uniform(0, 6)) for _ in "bgr"]
    return np.clip(rng.uniform(60, 190) + 60 * np.stack(waves, -1), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model.onnx`, its `r.json`, and labelled frames in `data`."""
    root = tmp_path_factory.mktemp("int8")
    for split, count in {"train": 12, "val": 4}.items():
        images, masks = root / "data" / split / "images", root / "data" / split / "masks"
        images.mkdir(parents=True)
        masks.mkdir()
        for index in range(count):
            image = picture(index + 50 * (split == "val"))
            Image.fromarray(image).save(images / f"{index}.png")
            Image.fromarray((image[..., 0] // 64 % len(CLASSES)).astype(np.uint8)).save(masks / f"{index}.png")
    names = ", ".join(f'"{name}"' for name in CLASSES.names)
    (root / "data" / "classes.toml").write_text(f"names = [{names}]\n")
    save_model(root / "model.onnx", sample_model())
    pool = open_pool(f"folder:{root / 'data'}")
    save_ranges(root / "r.json", calibrate(load_model(root / "model.onnx"), pool, count=12, prepare=False))
    return root


def run(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a tool writes to stdout."""
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    module: ModuleType = importlib.import_module(name)
    module.main()
    return capsys.readouterr().out


def rows(text: str) -> dict[str, list[str]]:
    """Cells by the first one."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in reversed(cells)}


def test_three_artefacts_are_compared_with_float(folder, monkeypatch, capsys):
    arguments = ["--data", f"folder:{folder / 'data'}", "--splits", "val", "--ranges", str(folder / "r.json")]
    drive = ["--drive", "street:seed=3,frames=6"]
    quick = ["--peers", "", "--count", "12", "--seconds", "0"]
    found = rows(run("compare_quantizers", monkeypatch, capsys, str(folder / "model.onnx"), *arguments, *drive, *quick))
    assert {"FP32", "edgeseg INT8, cpu", "edgeseg INT8, weak", "edgeseg INT8, typed"} <= found.keys()
    assert found["FP32"][2].startswith("+0.00")
    for name in ("edgeseg INT8, cpu", "edgeseg INT8, weak", "edgeseg INT8, typed"):
        assert float(found[name][4].rstrip("%")) > 95
    assert found["FP32"][5] in ("1.00", "–")


def test_a_work_folder_keeps_scores_and_latency_is_measured_by_itself(folder, monkeypatch, capsys, tmp_path):
    work, page = tmp_path / "work", tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- edge: begin -->\nformer table\n<!-- edge: end -->\nrest\n")
    arguments = ["--data", f"folder:{folder / 'data'}", "--splits", "val", "--ranges", str(folder / "r.json")]
    arguments += ["--peers", "", "--count", "12", "--work", str(work)]
    model = str(folder / "model.onnx")
    scored = rows(run("compare_quantizers", monkeypatch, capsys, model, *arguments, "--seconds", "0"))
    assert scored["BF16"][7] == "–"

    kept = work / "edgeseg_INT8_cpu" / "row.npz"
    before = kept.stat().st_mtime_ns
    timed = rows(
        run(
            "compare_quantizers",
            monkeypatch,
            capsys,
            model,
            *arguments,
            *("--seconds", "0.5", "--out", str(page), "--mark", "edge"),
        )
    )
    assert kept.stat().st_mtime_ns == before  # not scored again
    assert {name: row[:6] for name, row in timed.items() if name != ""} == {
        name: row[:6] for name, row in scored.items() if name != ""
    }
    assert float(timed["edgeseg INT8, cpu"][7]) > 0
    assert timed["FP32"][9].startswith("1.00 [1.00")
    text = page.read_text()
    assert text.startswith("# Page")
    assert text.endswith("rest\n")
    assert "former table" not in text
    assert "edgeseg INT8, typed" in text

    with pytest.raises(SystemExit, match="a comparison of something else"):
        run("compare_quantizers", monkeypatch, capsys, model, *arguments, "--every", "2")


def test_every_layer_is_reported_with_what_it_costs(folder, monkeypatch, capsys):
    arguments = ["--data", f"folder:{folder / 'data'}", "--frames", "2", "--ranges", str(folder / "r.json")]
    found = rows(run("layer_report", monkeypatch, capsys, str(folder / "model.onnx"), *arguments))
    assert {"encoder.0.0.dw", "encoder.1.0.pw2", "decoder.0.fuse"} <= found.keys()
    assert found["encoder.0.0.dw"][0] == "depthwise"
    losses = [float(row[1]) for name, row in found.items() if "." in name]
    assert losses == sorted(losses)  # `rows` read the worst, which is first, last


def test_memory_grows_by_the_slope_of_the_frames(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setattr(sys, "argv", ["calibration_memory.py"])
    module = importlib.import_module("calibration_memory")
    text = module.table(
        {"a": [{"peak_mb": 100.0 + 5 * n, "cpu_s": 2.0, "wall_s": 9.0} for n in (8, 16, 32)]}, [8, 16, 32]
    )
    assert rows(text)["a"] == ["140 (2; 9)", "180 (2; 9)", "260 (2; 9)", "5.0"]
    text = module.table({"a": [{"peak_mb": 100.0, "cpu_s": 2.0, "wall_s": 9.0}]}, [256])
    assert rows(text)["a"] == ["100 (2; 9)", "–"]  # one number of frames has no slope


def test_a_calibration_is_measured_in_its_process(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    module = importlib.import_module("calibration_memory")
    for kind in ("edgeseg, as is", "onnxruntime, entropy"):
        found = module.measure_one(kind, str(folder / "model.onnx"), f"folder:{folder / 'data'}", 8)
        assert found["peak_mb"] > 10
        assert found["cpu_s"] > 0
        assert found["wall_s"] > 0
