"""Where all-INT8 loses the masks, `auto` finds the layers that must stay in float, within its builds, and resumes."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import numpy as np
import onnx
import pytest
from PIL import Image

from edgeseg.backend import open_onnx
from edgeseg.bundle import verify_bundle
from edgeseg.core.progress import Silent
from edgeseg.deploy import BuildRequest, build_bundle, choice, search
from edgeseg.deploy.calibrated import calibrate_model
from edgeseg.deploy.pareto import Point, pareto_svg
from edgeseg.deploy.request import CalibrationRequest
from edgeseg.deploy.search import order_layers
from edgeseg.graph import read_meta, save_model, weights_sha256, write_meta
from edgeseg.graph.sample import CLASSES, sample_model
from edgeseg.quant import load_ranges, save_ranges
from edgeseg.quant.sensitivity import LayerSensitivity

from .conftest import SIZE, labelled


@pytest.fixture(scope="module")
def sensitive(tmp_path_factory):
    """A model whose masks need its features, labelled with its own FP32 masks: whatever changes one is a loss."""
    root = tmp_path_factory.mktemp("search")
    model = sample_model()
    for tensor in model.graph.initializer:
        if tensor.name == "head.logits.weight":
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[:, :-3] *= 20
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    write_meta(model, msgspec.structs.replace(read_meta(model), weights_sha256=weights_sha256(model)))
    save_model(root / "model.onnx", model)
    with open_onnx(model, SIZE) as runner:
        for split, count in {"train": 20, "val": 6}.items():
            for kind in ("images", "masks"):
                (root / "data" / split / kind).mkdir(parents=True)
            for index in range(count):
                picture, _ = labelled(index + 50 * (split == "val"))
                with runner.infer(picture[None]) as output:
                    mask = output.mask_nhw[0].copy()
                folder = root / "data" / split
                Image.fromarray(np.ascontiguousarray(picture[..., ::-1])).save(folder / "images" / f"{index:03d}.png")
                Image.fromarray(mask).save(folder / "masks" / f"{index:03d}.png")
    names = ", ".join(f'"{name}"' for name in CLASSES.names)
    (root / "data" / "classes.toml").write_text(f"names = [{names}]\n")
    return root


@pytest.fixture(scope="module")
def spoilt_ranges(sensitive):
    """Ranges in which one tensor is clipped to a fiftieth: what reads it must stay in float."""
    file = sensitive / "spoilt.json"
    request = CalibrationRequest(
        model=str(sensitive / "model.onnx"), frames=str(sensitive / "data"), method="minmax", as_is=True
    )
    calibrate_model(request, file, Silent())
    ranges = load_ranges(file)
    bad = ranges.tensors["encoder.0.0.add"]
    bad = msgspec.structs.replace(bad, maximum=bad.maximum / 50, minimum=min(0.0, bad.minimum / 50))
    save_ranges(file, msgspec.structs.replace(ranges, tensors={**ranges.tensors, "encoder.0.0.add": bad}))
    return str(file)


@pytest.fixture
def int8_is_fast(monkeypatch):
    """On a network this small integers save nothing; here every layer in integers saves a tenth."""
    real = choice.time_candidates

    def timed(made, frames, progress):
        def ms(item):
            if item.built.precision != "int8":
                return 10.0
            return 5.0 + 0.1 * int(item.name.split(", ")[1].split()[0]) if ", " in item.name else 5.0

        found = [replace(item, p50_ms=ms(item)) for item in real(made, frames, progress)]
        return sorted(found, key=lambda item: item.p50_ms)

    monkeypatch.setattr(choice, "time_candidates", timed)
    monkeypatch.setattr("edgeseg.deploy.build.time_candidates", timed)


def build(sensitive, ranges, out, **changes):
    gate = {"data": f"folder:{sensitive / 'data'}", "max_drop": 10.0}
    request = {"model": str(sensitive / "model.onnx"), "frame_size": SIZE, "ranges": ranges, "backend": "openvino"}
    return build_bundle(BuildRequest(**{**request, **gate, **changes}), out)


def test_auto_finds_a_mix_that_keeps_the_masks(sensitive, here, spoilt_ranges, int8_is_fast):
    report = build(sensitive, spoilt_ranges, here / "b")
    assert report.precision == "int8"
    assert "layers in float" in report.timings[0].name
    lost = 100 * (report.scores["reference"]["miou"] - report.scores["engine"]["miou"])
    assert lost <= 10.0
    assert any("did not pass the gate" in note for note in report.notes)
    found = json.loads((here / "b" / "report.json").read_text())["search"]
    assert 0 < len(found["probes"]) <= 12
    in_float = int(report.timings[0].name.split(", ")[1].split()[0])
    assert "encoder.1.down" in found["order"][:in_float]  # it reads the clipped tensor
    assert (here / "b" / "pareto.svg").read_text().startswith("<svg")
    assert verify_bundle(here / "b").manifest.gate is not None


def test_the_number_of_builds_is_limited_and_a_second_search_goes_on(
    sensitive, here, spoilt_ranges, int8_is_fast, monkeypatch
):
    probes = []
    real = search.score
    monkeypatch.setattr(search, "score", lambda *args: probes.append(1) or real(*args))
    build(sensitive, spoilt_ranges, here / "first", max_builds=1)
    assert len(probes) == 1
    build(sensitive, spoilt_ranges, here / "second", max_builds=1)
    assert len(probes) == 1  # from the cache


def test_auto_says_that_float_is_faster_where_it_is(sensitive, here, spoilt_ranges, monkeypatch):
    real = choice.time_candidates

    def timed(made, frames, progress):
        found = [
            replace(item, p50_ms=9.0 if item.built.precision == "int8" else 8.0)
            for item in real(made, frames, progress)
        ]
        return sorted(found, key=lambda item: item.p50_ms)

    monkeypatch.setattr("edgeseg.deploy.build.time_candidates", timed)
    report = build(sensitive, spoilt_ranges, here / "b")
    assert report.precision != "int8"
    assert any("is faster here than openvino int8" in note for note in report.notes)


def test_int8_as_asked_for_is_not_searched(sensitive, here, spoilt_ranges, monkeypatch):
    from edgeseg.core.errors import GateError

    monkeypatch.setattr(search.Search, "run", lambda self: pytest.fail("searched"))
    with pytest.raises(GateError):
        build(sensitive, spoilt_ranges, here / "b", precision="int8")


def item(layer, kl):
    return LayerSensitivity(layer=layer, role="conv", sqnr_db=30, kl=kl, changed=0, clipped=0, dead_channels=0)


def test_layers_that_save_nothing_leave_first_then_the_dearest():
    items = [item("cheap", 0.001), item("dear", 0.5), item("useless", 0.0001), item("dear but quick", 0.5)]
    gains = {"cheap": 0.1, "dear": 0.1, "useless": -0.02, "dear but quick": 2.0}
    assert order_layers(items, gains) == ["useless", "dear", "dear but quick", "cheap"]


def test_the_plot_is_well_formed_and_names_every_engine():
    from xml.dom.minidom import parseString

    text = pareto_svg([Point("int8 & bf16", 5.0, 0.7), Point("bf16", 9.0, -0.02, kept=True)], 0.5)
    labels = [node.firstChild.data for node in parseString(text).getElementsByTagName("text")]
    assert any(label.startswith("int8 & bf16: 5.00 ms") for label in labels)
