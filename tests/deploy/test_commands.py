"""`calibrate`, `build` and `rebuild` as another program calls them: one JSON object, the promised exit codes."""

from __future__ import annotations

import json

import pytest

from edgeseg.cli.main import run
from edgeseg.quant import load_ranges

SIZE = "72x96"


@pytest.fixture
def recipe(here):
    """A workspace whose own recipe asks for one backend."""
    folder = here / "engines" / "targets"
    folder.mkdir(parents=True)
    text = 'backends = ["onnxruntime"]\nprecisions = ["fp32", "int8"]\nplacement = "cpu"\n'
    (folder / "cpu.toml").write_text(text)


def answer(capsys, *args: str) -> dict[str, object]:
    assert run([*args, "--json", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_from_frames_to_a_rebuilt_bundle(workplace, here, recipe, capsys):
    model, data = str(workplace / "model.onnx"), str(workplace / "data")
    ranges = answer(capsys, "calibrate", model, "--frames", data, "--method", "percentile", "--out", "r.json")
    assert ranges["frames"] == 20
    assert ranges["method"] == "percentile 99.99"
    assert load_ranges(here / "r.json").id == ranges["id"]
    gate = ["--data", f"folder:{data}", "--max-drop", "5", "--max-drop-class", "red=5"]
    built = answer(
        capsys, "build", model, "--precision", "int8", "--ranges", "r.json", "--frame-size", SIZE, *gate, "--out", "b"
    )
    assert (built["precision"], built["frame_size"]) == ("int8", [72, 96])
    assert set(built["gate"]) == {"reference", "engine"}
    again = answer(capsys, "rebuild", "b")
    assert again["precision"] == "int8"
    assert (here / "b" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["calibrate", "{model}"], 2, "--frames SRC, --recipe NAME"),
        (["calibrate", "{model}", "--frames", "{data}", "--method", "max"], 2, "minmax"),
        (["calibrate", "{model}", "--frames", "{data}", "--count", "3"], 2, "--count of at least 8"),
        (["calibrate", "{model}", "--recipe", "nowhere"], 2, "nowhere"),
        (["build", "{model}", "--precision", "int4"], 2, "int4"),
        (["build", "{model}", "--data", "folder:{data}", "--max-drop-class", "red"], 2, "person=0.5"),
        (["build", "{model}", "--precision", "int8", "--ranges", "nowhere.json"], 2, "nowhere.json"),
        (["rebuild", "{data}"], 5, "edgeseg"),
    ],
)
def test_what_cannot_be_is_one_line(workplace, here, capsys, args, code, words):
    filled = [arg.format(model=workplace / "model.onnx", data=workplace / "data") for arg in args]
    assert run(filled) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("edgeseg: error: ")
    assert "internal" not in last
    assert words in last


TOO_SMALL = "at stride 32); sides of 32 to 16384; trained at 360x480; try: "


@pytest.mark.parametrize(
    ("words", "value", "way_out"),
    [
        ("calibrate zoo:edge-s --frames {data} --network-size 10x10", "10x10", "--network-size 360x480"),
        ("calibrate zoo:edge-s --frames {data} --network-size 360x31", "360x31", "--network-size 360x480"),
        ("build zoo:edge-s --network-size 10x10", "10x10", "edgeseg build zoo:edge-s --network-size 360x480"),
        ("build zoo:edge-s --frame-size 31x64", "31x64", "edgeseg build zoo:edge-s --frame-size 360x480"),
        ("build zoo:edge-s --frame-size 360x480 --roi 30x99+0+0", "30x99", "a larger --roi"),
    ],
)
def test_less_than_one_stride_of_the_network_is_refused_before_any_work(
    workplace, here, capsys, monkeypatch, words, value, way_out
):
    monkeypatch.setattr("edgeseg.quant.calibration.choose_frames", None)
    monkeypatch.setattr("edgeseg.deploy.build.plan_candidates", None)
    assert run(words.format(data=workplace / "data").split()) == 2
    assert f"the network size cannot be ({value} {TOO_SMALL}{way_out}" in capsys.readouterr().err.splitlines()[-1]
    assert list(here.iterdir()) == []
