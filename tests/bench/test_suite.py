import re
from xml.etree import ElementTree as ET

import pytest

from edgeseg.bench import run_suite
from edgeseg.bench.suite import EngineChoice, Suite, _key
from edgeseg.core.config import dump_toml
from edgeseg.core.errors import RequestError
from edgeseg.core.workspace import find_recipe
from edgeseg.graph import save_model
from edgeseg.graph.sample import sample_model


def write_suite(folder, **changes):
    fields = {
        "models": [str(folder / "model.onnx")],
        "sizes": ["48x64"],
        "duration_s": 0.1,
        "paced_s": 0.2,
        "layers": False,
        "out": str(folder / "docs" / "b.md"),
        **changes,
    }
    backends = [{"backend": name, "precision": "fp32"} for name in ("onnxruntime", "openvino")]
    text = dump_toml({**fields, "engines": backends})
    (folder / "suite.toml").write_text(text)
    return folder / "suite.toml"


def test_a_suite_writes_its_page_with_intervals_and_plots(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path / "cache"))
    save_model(tmp_path / "model.onnx", sample_model())
    result, files = run_suite(write_suite(tmp_path), command="edgeseg bench --suite suite.toml")
    assert [row.engine.split()[0] for row in result.rows] == ["onnxruntime", "onnxruntime", "openvino"]
    assert result.rows[0].ratio == 1
    assert 0 < result.rows[1].ratio_ci95[0] <= result.rows[1].ratio_ci95[1]
    page = files[0].read_text()
    assert "`edgeseg bench --suite suite.toml`" in page
    assert result.device.cpu in page
    table = [line for line in page.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + 3
    for name in re.findall(r"\]\((\S+\.svg)\)", page):
        ET.parse(files[0].with_name(name))


def test_an_engine_of_another_recipe_is_not_taken_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model.onnx", sample_model())
    choice = EngineChoice(backend="onnxruntime", precision="fp32")
    suite = Suite(models=("model.onnx",), engines=(choice,))
    made = suite, "model.onnx", (48, 64), choice
    before = _key(*made)
    assert _key(*made) == before
    folder = tmp_path / "engines" / "targets"
    folder.mkdir(parents=True)
    recipe = find_recipe("targets", "cpu").read_text().replace('pad = "pixels"', 'pad = "planes"')
    (folder / "cpu.toml").write_text(recipe)
    assert _key(*made) != before


def test_a_suite_that_is_not_valid(tmp_path):
    with pytest.raises(RequestError, match="durations"):
        run_suite(write_suite(tmp_path, durations=3), command="")
    with pytest.raises(RequestError, match="models"):
        run_suite(write_suite(tmp_path, models=[]), command="")
