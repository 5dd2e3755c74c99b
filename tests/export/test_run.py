from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.errors import GateError, RequestError
from edgeseg.export import describe_run, emit, export_run
from edgeseg.export.parity import Parity
from edgeseg.export.run import portable
from edgeseg.graph import load_model, read_meta


def test_an_exported_run_says_what_it_is(make_run, classes, tmp_path):
    out = tmp_path / "new" / "m.onnx"
    report = export_run(make_run(), out)
    assert report.parity.frames == 2
    assert report.parity.agreement >= 0.999
    model = load_model(out)
    meta = read_meta(model)
    assert meta.classes == classes
    assert meta.network_size == (45, 60)
    assert meta.trained_on == "street:seed=1,frames=8 train"
    assert meta.metrics == {"val.miou": 0.5, "val.iou.road": 0.9, "val.iou.car": None}
    assert meta.frame_size is None
    assert meta.weights_sha256 == report.weights_sha256
    assert len(meta.config_sha256) == 64
    assert report.bytes == out.stat().st_size


def test_a_size_fixes_the_frame(make_run, tmp_path):
    out = tmp_path / "m.onnx"
    export_run(make_run(), out, size=(40, 56))
    assert read_meta(load_model(out)).frame_size == (40, 56)


def test_where_the_graph_computes_something_else_nothing_is_written(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(emit, "fold_input", lambda weight, bias, spec: (weight[:, ::-1] / 255, bias))
    out = tmp_path / "m.onnx"
    with pytest.raises(GateError, match=r"disagree.*at least 99\.9%"):
        export_run(make_run(), out)
    assert not list(tmp_path.glob("*.onnx*"))


def test_a_single_differing_pixel_in_a_thousand_is_the_limit():
    def parity(share: float) -> Parity:
        return Parity(agreement=share, worst_frame=share, logits_difference=0.1, frames=1)

    parity(0.9991).check("the graph")
    with pytest.raises(GateError):
        parity(0.9989).check("the graph")


def test_a_run_without_frames_needs_a_source(make_run, tmp_path):
    run = make_run(frames=0)
    with pytest.raises(RequestError, match=r"no frames to compare on.*--frames"):
        export_run(run, tmp_path / "m.onnx")
    other = make_run(frames=3, name="other")
    for label in (other / "frames").glob("*.label.png"):
        label.unlink()
    report = export_run(run, tmp_path / "m.onnx", frames=str(other / "frames"))
    assert report.parity.frames == 3


def test_a_missing_run_and_a_folder_as_output_are_request_errors(make_run, tmp_path):
    with pytest.raises(RequestError, match="run does not exist"):
        export_run(tmp_path / "no", tmp_path / "m.onnx")
    with pytest.raises(RequestError, match="output is a folder"):
        export_run(make_run(), tmp_path)


def test_the_gate_compares_every_pixel_of_every_frame(make_run, tmp_path, monkeypatch):
    # a network that is wrong on the last frame only must not pass on the first
    from edgeseg.export import parity

    honest = parity.torch_logits
    calls = []

    def last_is_wrong(model, spec, image_hwc):
        calls.append(1)
        logits = honest(model, spec, image_hwc)
        return np.roll(logits, 1, axis=0) if len(calls) == 3 else logits

    monkeypatch.setattr(parity, "torch_logits", last_is_wrong)
    with pytest.raises(GateError):
        export_run(make_run(frames=3), tmp_path / "m.onnx")
    assert len(calls) == 3


def test_a_run_is_described_by_the_graph_it_would_export(make_run, tmp_path):
    run = make_run()
    report = export_run(run, tmp_path / "m.onnx")
    summary = describe_run(run)
    assert (summary.kind, summary.path) == ("run", str(run))
    assert summary.parameters == report.parameters
    assert summary.metadata.weights_sha256 == report.weights_sha256
    assert 0 < summary.effective_field <= max(summary.receptive_field)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("camvid:/home/me/data/CamVid", "camvid:CamVid"),
        ("folder:sets/yard", "folder:yard"),
        ("camvid:CamVid", "camvid:CamVid"),
        ("street:seed=1,frames=200", "street:seed=1,frames=200"),
        ("", ""),
    ],
)
def test_no_path_of_this_machine_gets_into_a_model(spec, said):
    assert portable(spec) == said
