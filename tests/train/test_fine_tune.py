"""Fine-tuning with an integer engine's roundings: from an exported run to a graph and ranges that belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.export import export_run
from edgeseg.graph import load_model, weights_sha256
from edgeseg.quant import calibrate, load_ranges, save_ranges
from edgeseg.quant.frames import ArrayPool
from edgeseg.train import train_model
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
    save_ranges(run / "r.json", calibrate(load_model(run / "model.onnx"), ArrayPool(frames), count=16))
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
