"""Fine-tuning with an integer engine's roundings: from an exported run to a graph and ranges that belong together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgeseg.core.config import load_config, save_config
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.export import export_run
from edgeseg.graph import load_model, weights_sha256
from edgeseg.graph.ir import from_model
from edgeseg.quant import calibrate, load_ranges, save_ranges
from edgeseg.quant.equalise import channel_groups
from edgeseg.quant.frames import ArrayPool
from edgeseg.quant.ranges import pack_floats
from edgeseg.train import train_model
from edgeseg.train.config import RunConfig
from edgeseg.train.request import TrainRequest

from .conftest import Boxes, tiny_overrides


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, folder_data: str) -> Path:
    """A run with `model.onnx` and `r.json` in it."""
    folder = tmp_path_factory.mktemp("qat")
    overrides = tiny_overrides(folder_data, epochs=4)
    run = train_model(TrainRequest(out=folder / "run", model="edge-s", overrides=overrides, device="cpu"))
    export_run(run, run / "model.onnx")
    frames = [Boxes(count=16)[index].image_hwc for index in range(16)]
    save_ranges(run / "r.json", calibrate(load_model(run / "model.onnx"), ArrayPool(frames), count=16, prepare=False))
    return run


def test_a_run_becomes_a_graph_and_ranges_that_belong_together(exported: Path, tmp_path: Path) -> None:
    request = TrainRequest(
        out=tmp_path / "qat", qat=str(exported), ranges=str(exported / "r.json"), device="cpu",
        overrides={"train": {"epochs": 1, "batch": 4, "threads": 1}},
    )  # fmt: skip
    out = train_model(request)
    model = load_model(out / "model.onnx")
    assert weights_sha256(model) != weights_sha256(load_model(exported / "model.onnx"))
    load_ranges(out / "model.ranges.json", weights_sha256=weights_sha256(model))
    assert "miou" in json.loads((out / "done.json").read_text())["scores"]["val"]
    # its constants are brought to the device in each step: a recorded one would end in an error on a GPU
    assert load_config(out / "config.toml", RunConfig).train.cuda_graph is False
    longer = {"train": {"epochs": 2}}
    train_model(TrainRequest(out=out, resume=True, device="cpu", overrides=longer))
    assert weights_sha256(load_model(out / "model.onnx")) != weights_sha256(model)


def test_what_fine_tuning_refuses(exported: Path, tmp_path: Path, folder_data: str) -> None:
    out = tmp_path / "qat"
    with pytest.raises(RequestError, match="edgeseg calibrate"):
        train_model(TrainRequest(out=out, qat=str(exported)))
    with pytest.raises(RequestError, match="no run"):
        train_model(TrainRequest(out=out, qat=str(tmp_path / "none"), ranges="r.json"))
    with pytest.raises(RequestError, match="takes model and recipe"):
        train_model(TrainRequest(out=out, qat=str(exported), ranges=str(exported / "r.json"), model="edge-s"))
    plain = train_model(
        TrainRequest(out=tmp_path / "plain", model="edge-s", overrides=tiny_overrides(folder_data, epochs=1))
    )
    with pytest.raises(RequestError, match="edgeseg export"):
        train_model(TrainRequest(out=out, qat=str(plain), ranges=str(exported / "r.json")))
    export_run(plain, plain / "model.onnx")
    with pytest.raises(VerifyError):
        train_model(TrainRequest(out=out, qat=str(plain), ranges=str(exported / "r.json")))
    assert not out.exists()


def test_a_run_that_was_compiled_is_fine_tuned_uncompiled(exported: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "qat"
    run.mkdir()
    config = load_config(exported / "config.toml", RunConfig)
    save_config(
        run / "config.toml", msgspec.structs.replace(config, train=msgspec.structs.replace(config.train, compile=True))
    )
    shutil.copy(exported / "model.onnx", run)
    request = TrainRequest(
        out=out, qat=str(run), ranges=str(exported / "r.json"), device="cpu",
        overrides={"train": {"epochs": 1, "batch": 4, "threads": 1}},
    )  # fmt: skip
    train_model(request)
    assert load_config(out / "config.toml", RunConfig).train.compile is False
    compiled = {"train": {**request.overrides["train"], "compile": True}}
    with pytest.raises(RequestError, match="cannot be compiled"):
        train_model(replace(request, out=tmp_path / "other", overrides=compiled))
    assert not (tmp_path / "other").exists()


def test_scales_are_learnt_when_asked_and_written_into_the_ranges(exported: Path, tmp_path: Path) -> None:
    def tuned(name: str, **qat: object) -> Path:
        overrides = {"train": {"epochs": 1, "batch": 4, "threads": 1, "lr": 1e-3}, "qat": qat}
        request = TrainRequest(
            out=tmp_path / name, qat=str(exported), ranges=str(exported / "r.json"), device="cpu", overrides=overrides
        )
        return train_model(request)

    plain = load_ranges(tuned("plain") / "model.ranges.json")
    learnt = load_ranges(tuned("learnt", learn_scales=True, placement="nvidia") / "model.ranges.json")
    assert not any(item.learnt for item in plain.tensors.values())
    found = [item.learnt for item in learnt.tensors.values() if item.learnt]
    assert found
    assert {(item.dtype, item.zero_point) for item in found} == {("int8", 0)}
    # trained in float there is nothing that the old ranges are of
    assert not (tuned("float", placement="none") / "model.ranges.json").exists()


def test_equalised_ranges_are_trained_in_and_no_more_applied(exported: Path, tmp_path: Path) -> None:
    model = load_model(exported / "model.onnx")
    graph = from_model(model)
    group = channel_groups(graph)[0]
    width = len(graph.constants[group.makers[0].inputs[1]])
    factor = np.linspace(0.5, 1, width)
    ranges = load_ranges(exported / "r.json")
    equalisation = {group.tensors[0]: pack_floats(factor)}
    save_ranges(tmp_path / "even.json", msgspec.structs.replace(ranges, equalisation=equalisation))
    request = TrainRequest(
        out=tmp_path / "qat", qat=str(exported), ranges=str(tmp_path / "even.json"), device="cpu",
        overrides={"train": {"epochs": 1, "batch": 4, "threads": 1, "lr": 1e-9}},
    )  # fmt: skip
    out = train_model(request)
    assert load_ranges(out / "model.ranges.json").equalisation == {}
    made = from_model(load_model(out / "model.onnx"))
    name = group.makers[0].inputs[1]
    expected = graph.constants[name] / factor.astype(np.float32).reshape(-1, 1, 1, 1)
    assert np.allclose(made.constants[name], expected, rtol=1e-4, atol=1e-6)
