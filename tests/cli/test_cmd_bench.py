import json

import pytest

from edgeseg.cli.main import run
from edgeseg.graph import save_model
from edgeseg.graph.sample import sample_model


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    save_model(root / "model.onnx", sample_model())
    args = ["build", str(root / "model.onnx"), "--target", "cpu", "--precision", "fp32", "--frame-size", "48x64"]
    assert run([*args, "--out", str(root / "bundle"), "--quiet"]) == 0
    return root / "bundle"


def test_json_is_one_object_and_a_result_is_saved(bundle, tmp_path, capsys):
    saved = tmp_path / "result.json"
    args = ["bench", str(bundle), "--duration", "400ms", "--rate", "50", "--json", "--quiet", "--save", str(saved)]
    assert run(args) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engine_ms"]["n"] > 0
    assert found["samples_file"] == str(saved.with_suffix(".npz"))
    assert saved.with_suffix(".npz").exists()
    assert json.loads(saved.read_text())["engine"]["precision"] == "fp32"

    again = ["bench", str(bundle), "--duration", "200ms", "--rate", "50", "--against", str(saved), "--json"]
    assert run(again) == 0
    captured = capsys.readouterr()
    assert set(json.loads(captured.out)["against"]) == {"engine_ms", "ratio_p50", "ci95"}
    assert "engine only" in captured.err
    assert "capture to mask" in captured.err
    assert "NOT interleaved" in captured.err


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["--against", "nowhere.json"], 2, "nowhere.json"),
        (["--against", "nowhere.onnx"], 2, "nowhere.onnx"),
        (["--against", "zoo:edge-xl"], 2, "edge-xl"),
        (["--against", __file__], 5, "test_cmd_bench.py"),
        (["--source", "nowhere.mp4"], 2, "nowhere.mp4"),
        (["--data", "camvid:nowhere"], 2, "nowhere"),
        (["--save", "/proc/result.json"], 2, "/proc/result.json"),
        (["--html", "/proc/page.html"], 2, "/proc/page.html"),
    ],
)
def test_what_is_named_is_looked_up_before_an_engine_is_built(args, code, word, monkeypatch, capsys):
    built = []
    monkeypatch.setattr("edgeseg.bench.request.default_bundle", lambda *asked: built.append(asked))
    assert run(["bench", "zoo:edge-s", *args]) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert word in last
    assert built == []


def test_what_is_no_model_is_refused_before_a_build(monkeypatch, capsys):
    monkeypatch.setattr("edgeseg.bench.request.default_bundle", lambda *asked: pytest.fail("a build"))
    assert run(["bench", __file__]) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert "test_cmd_bench.py" in line


@pytest.mark.parametrize("command", [["bench"], ["bench", "zoo:edge-s", "--against"], ["live", "--source=pattern:"]])
def test_ranges_that_a_model_ships_are_looked_at_before_a_build(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("edgeseg.bench.request.default_bundle", lambda *asked: pytest.fail("a build"))
    monkeypatch.setattr("edgeseg.deploy.default_bundle", lambda *asked: pytest.fail("a build"))
    save_model(tmp_path / "model.onnx", sample_model())
    (tmp_path / "model.ranges.json").write_text("{")
    assert run([*command, str(tmp_path / "model.onnx")]) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert "model.ranges.json" in line


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["--duration", "soon"], 2, "soon"),
        (["--rate", "0"], 2, "rate_hz"),
        (["--fail-if-slower", "5"], 2, "--against"),
        (["--against", "nowhere.json", "--duration", "200ms"], 2, "nowhere.json"),
        (["--source", "nowhere.mp4"], 2, "nowhere.mp4"),
        (["--loadgen", "Server"], 2, "MultiStream"),
        (["--predict", "no-board", "--duration", "24h"], 2, "orin-nano"),  # before the run, not after it
        (["--torch", "no-run", "--duration", "24h"], 2, "no-run"),
    ],
)
def test_bad_requests(bundle, args, code, word, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path))
    assert run(["bench", str(bundle), *args, "--quiet"]) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("edgeseg: error: ")
    assert word in last
