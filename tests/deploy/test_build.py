"""From a model to a bundle that opens: precisions, ranges, the gate, golden frames, rebuild, the default bundle."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from edgeseg.backend import get_builder
from edgeseg.bundle import open_bundle, open_runner, verify_bundle
from edgeseg.core.errors import GateError, RequestError, VerifyError
from edgeseg.core.types import DeviceInfo
from edgeseg.data import open_dataset
from edgeseg.deploy import (
    BuildRequest,
    CalibrationRequest,
    build_bundle,
    calibrate_model,
    default_bundle,
    open_target,
    rebuild_bundle,
)
from edgeseg.deploy.candidates import _artefact
from edgeseg.deploy.target import load_target
from edgeseg.graph import save_model
from edgeseg.graph.sample import sample_model
from edgeseg.measure import evaluate_runner

from .conftest import SIZE


def request(workplace, **changes):
    return BuildRequest(**{"model": str(workplace / "model.onnx"), "frame_size": SIZE, **changes})


@pytest.fixture(scope="module")
def ranges(workplace):
    file = workplace / "r.json"
    calibrate_model(CalibrationRequest(model=str(workplace / "model.onnx"), frames=str(workplace / "data")), file)
    return str(file)


@pytest.fixture(scope="module")
def int8(workplace, ranges):
    gate = {"data": f"folder:{workplace / 'data'}", "max_drop": 5.0, "max_drop_class": {"red": 5.0}}
    return build_bundle(request(workplace, precision="int8", ranges=ranges, **gate), workplace / "int8")


def test_the_bundle_opens_and_its_engine_agrees_with_the_golden_masks(int8, here):
    bundle = open_bundle(int8.bundle)
    manifest = bundle.manifest
    assert manifest.engine.precision == "int8"
    assert manifest.engine.layers["int8"] > 0
    assert manifest.verified
    assert manifest.agreement.measured > 0.97
    assert manifest.calibration.frames == 20
    assert manifest.device.cpu
    assert manifest.times_ms["engine_p50"] > 0
    assert len(bundle.golden_names) == 6
    with open_runner(bundle) as runner, runner.infer(np.zeros((1, *SIZE, 3), np.uint8)) as output:
        assert output.mask_nhw.shape == (1, *SIZE)


def test_the_gate_is_kept_in_the_manifest(int8, workplace):
    gate = verify_bundle(int8.bundle).manifest.gate
    assert gate.max_drop == {"miou": 5.0, "red": 5.0}
    assert "int8" in gate.executor
    assert gate.reference["miou"] > 0.5
    assert {"recall.red", "near.miou", "far.miou", "near.iou.red", "far.iou.red"} <= set(gate.engine)
    assert abs(gate.reference["miou"] - gate.engine["miou"]) <= 0.05
    report = json.loads((int8.bundle / "report.json").read_text())
    assert {item["precision"] for item in report["candidates"]} == {"int8"}


def test_the_gate_scores_what_eval_scores(int8, workplace):
    dataset = open_dataset(f"folder:{workplace / 'data'}", "val")
    gate = verify_bundle(int8.bundle).manifest.gate
    for reference, scores in ((str(workplace / "model.onnx"), gate.reference), (str(int8.bundle), gate.engine)):
        found = evaluate_runner(open_target(reference, frame_size=SIZE), dataset)
        assert found.miou == pytest.approx(scores["miou"], abs=1e-6)


def test_a_gate_that_is_not_met_leaves_no_bundle(workplace, here, ranges, monkeypatch):
    from edgeseg.deploy import choice

    # a reference that is right everywhere: no engine can stay within the budget
    scores = iter([{"miou": 1.0, "iou.red": 1.0}])
    real = choice.score
    data = f"folder:{workplace / 'data'}"
    monkeypatch.setattr(choice, "score", lambda *args: next(scores, None) or real(*args))
    with pytest.raises(GateError, match=r"gate was not met.*miou lost .* points, allowed 0\.5") as caught:
        build_bundle(request(workplace, precision="int8", ranges=ranges, data=data), here / "b")
    assert caught.value.exit_code == 3
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"precision": "int8"}, "--ranges R, --frames SRC, --recipe NAME"),
        ({"precision": "fp16"}, "fp16"),
        ({"target": "cpuu"}, "cpu"),
        ({"ranges": "a", "frames": "b"}, "one place"),
        ({"max_drop": 0.5}, "needs labelled data"),
        ({"backend": "tensorflow"}, "onnxruntime"),
        ({"input_format": "nv12", "frame_size": (71, 96)}, "odd"),
        ({"data": "folder:nowhere"}, "nowhere"),
        ({"frames": "nowhere.mp4", "precision": "int8"}, "nowhere"),
    ],
)
def test_a_request_that_cannot_be_is_refused_before_work(workplace, here, changes, words):
    with pytest.raises(RequestError, match=words):
        build_bundle(request(workplace, **changes), here / "b")
    assert not (here / "b").exists()


def test_an_unknown_class_in_the_budget(workplace, here):
    data = f"folder:{workplace / 'data'}"
    with pytest.raises(RequestError, match="did you mean red"):
        build_bundle(request(workplace, data=data, max_drop_class={"reed": 1.0}), here / "b")


def test_ranges_of_another_model_are_stale(workplace, here, ranges):
    save_model(here / "other.onnx", sample_model(seed=9))
    with pytest.raises(VerifyError, match="stale"):
        build_bundle(BuildRequest(model=str(here / "other.onnx"), precision="int8", ranges=ranges), here / "b")


def test_auto_builds_what_is_fastest_and_names_every_candidate(workplace, here, ranges):
    report = build_bundle(request(workplace, ranges=ranges), here / "b")
    assert {item.precision for item in report.timings} >= {"fp32", "int8"}
    times = [item.p50_ms for item in report.timings]
    assert report.bundle == here / "b"
    kept = report.timings[0]
    assert (kept.backend, kept.precision) == (report.backend, report.precision)
    assert times[1:] == sorted(times[1:])


def test_without_ranges_auto_stays_in_float(workplace, here):
    report = build_bundle(request(workplace, backend="onnxruntime"), here / "b")
    assert [item.precision for item in report.timings] == ["fp32"]


def test_ranges_beside_the_model_are_its_own(workplace, here, ranges):
    (here / "m.onnx").write_bytes((workplace / "model.onnx").read_bytes())
    shutil.copy(ranges, here / "m.ranges.json")
    report = build_bundle(BuildRequest(model=str(here / "m.onnx"), precision="int8", frame_size=SIZE))
    assert report.precision == "int8"
    assert report.bundle.parent == here / "engines"


@pytest.mark.parametrize(("precision", "form"), [("fp32", "blocks"), ("int8", "node")])
def test_integers_keep_the_transposed_convolution_where_floats_have_blocks(precision, form):
    target = load_target("cpu", DeviceInfo(machine="x86_64"))
    assert _artefact(get_builder("onnxruntime"), precision, target).forms.transposed == form


def test_an_existing_folder_is_not_overwritten(int8, workplace):
    with pytest.raises(RequestError, match="exists"):
        build_bundle(request(workplace, precision="fp32"), int8.bundle)


def test_rebuild_needs_nothing_but_the_bundle(int8, here):
    shutil.copytree(int8.bundle, here / "copy")
    report = rebuild_bundle(here / "copy")
    old, new = verify_bundle(int8.bundle), verify_bundle(here / "copy")
    assert report.precision == "int8"
    assert new.manifest.calibration == old.manifest.calibration
    assert new.manifest.model.weights_sha256 == old.manifest.model.weights_sha256
    for name in old.golden_names:
        assert (new.path / name).read_bytes() == (old.path / name).read_bytes()


def test_rebuild_says_when_the_gate_has_no_data(int8, here, workplace, tmp_path):
    said = []

    class Notes:
        def task(self, name, total=None):
            from edgeseg.core.progress import Silent

            return Silent().task(name, total)

        def say(self, text):
            said.append(text)

    shutil.copytree(int8.bundle, here / "copy")
    (workplace / "data").rename(workplace / "gone")
    try:
        report = rebuild_bundle(here / "copy", Notes())
    finally:
        (workplace / "gone").rename(workplace / "data")
    assert verify_bundle(report.bundle).manifest.gate is None
    assert any("data is not here" in text for text in said)


@pytest.fixture
def one_backend(here):
    """A workspace whose own recipe asks for one engine: which one wins is not what these tests are about."""
    folder = here / "engines" / "targets"
    folder.mkdir(parents=True)
    (folder / "cpu.toml").write_text('backends = ["onnxruntime"]\nprecisions = ["fp32"]\n')


def test_the_default_bundle_is_built_once(workplace, here, one_backend):
    first = default_bundle(str(workplace / "model.onnx"), SIZE)
    stamp = (first / "manifest.json").stat().st_mtime_ns
    assert default_bundle(str(workplace / "model.onnx"), SIZE) == first
    assert (first / "manifest.json").stat().st_mtime_ns == stamp
    assert default_bundle(str(workplace / "model.onnx"), (64, 96)) != first
    assert open_bundle(first).manifest.spec.frame_size == SIZE


def test_a_damaged_default_bundle_is_built_again(workplace, here, one_backend):
    path = default_bundle(str(workplace / "model.onnx"), SIZE)
    (path / "report.json").write_text("{}")
    assert open_bundle(default_bundle(str(workplace / "model.onnx"), SIZE)).path == path.resolve()


def test_a_folder_that_is_nothing(here):
    with pytest.raises(RequestError, match="neither a run nor a bundle"):
        open_target(str(here))
