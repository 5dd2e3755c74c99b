import json

import msgspec
import pytest

from edgeseg.cli.main import run
from edgeseg.data.classes import CAMVID
from edgeseg.graph import read_meta, save_model, write_meta
from edgeseg.graph.sample import sample_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A rendered data set, and the sample network under the names of its classes: valid, and always wrong."""
    root = tmp_path_factory.mktemp("eval")
    assert run(["data", "synth", "--out", str(root / "data"), "--frames", "6", "--size", "72x96", "--quiet"]) == 0
    model = sample_model()
    write_meta(model, msgspec.structs.replace(read_meta(model), classes=CAMVID))
    save_model(root / "model.onnx", model)
    return root


def test_json_is_the_contract(folder, tmp_path, capsys):
    data = f"folder:{folder / 'data'}"
    args = ["eval", str(folder / "model.onnx"), "--data", data, "--json", "--save", str(tmp_path / "e.json")]
    assert run(args) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert set(found) == {"miou", "iou", "boundary_iou", "pixel_accuracy", "frames", "engine_ms"}
    assert set(found["iou"]) == set(CAMVID.names)
    assert 0 <= found["miou"] <= 1
    assert found["frames"] == found["engine_ms"]["n"] > 0
    assert "boundary IoU" in captured.err
    assert "confusion" in json.loads((tmp_path / "e.json").read_text())


def test_bad_conditions_are_added_where_asked_for(folder, capsys):
    data = f"folder:{folder / 'data'}"
    assert run(["eval", str(folder / "model.onnx"), "--data", data, "--corrupt", "fog:1", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)["corrupt"]
    assert [(one["kind"], one["strength"]) for one in found] == [("fog", 1)]
    assert "bad conditions" in captured.err
    assert run(["eval", str(folder / "model.onnx"), "--data", data, "--corrupt", "hail", "--quiet"]) == 2
    assert "hail" in capsys.readouterr().err.splitlines()[-1]


def test_another_vocabulary_is_refused(folder, tmp_path, capsys):
    save_model(tmp_path / "model.onnx", sample_model())
    assert run(["eval", str(tmp_path / "model.onnx"), "--data", f"folder:{folder / 'data'}", "--quiet"]) == 2
    assert "vocabularies" in capsys.readouterr().err.splitlines()[-1]
