"""`build --roi`: engines that segment a part of the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.bundle import open_bundle, open_runner
from edgeseg.bundle.golden import read_golden
from edgeseg.core.errors import RequestError
from edgeseg.data import open_dataset
from edgeseg.deploy import BuildRequest, build_bundle
from edgeseg.measure import evaluate_runner

from .conftest import SIZE

ROI = (24, 0, 48, 96)


@pytest.fixture(scope="module")
def bundle_path(workplace: Path) -> Path:
    data = f"folder:{workplace / 'data'}"
    wanted = BuildRequest(
        model=str(workplace / "model.onnx"), frame_size=SIZE, roi=ROI, precision="fp32", data=data, max_drop=1.0
    )
    return build_bundle(wanted, workplace / "region").bundle


def test_the_mask_has_the_frames_size_and_no_class_outside(bundle_path: Path, here: Path) -> None:
    bundle = open_bundle(bundle_path)
    manifest = bundle.manifest
    assert manifest.geometry.roi == manifest.spec.roi == ROI
    # things keep the size that the network was trained on: 64 lines for 72, so 43 for 48
    assert manifest.geometry.network_size == (43, 85)
    golden = read_golden(bundle)[0]
    with open_runner(bundle) as runner, runner.infer(golden.frame[None]) as output:
        mask = output.mask_nhw[0]
        assert mask.shape == SIZE
        assert (mask[:24] == manifest.spec.classes.ignore_id).all()
        assert (mask[24:] < len(manifest.spec.classes)).all()


def test_only_the_region_is_scored(bundle_path: Path, workplace: Path, here: Path) -> None:
    dataset = open_dataset(f"folder:{workplace / 'data'}", "val")
    found = evaluate_runner(open_runner(open_bundle(bundle_path)), dataset)
    labelled = sum(int(np.count_nonzero(dataset[i].label_hw[24:] != 255)) for i in range(len(dataset)))
    counted = np.array(found.confusion)
    assert counted.sum() == labelled
    assert counted[:, -1].sum() == 0, "no pixel of the region is without a class"
    gate = open_bundle(bundle_path).manifest.gate
    assert gate is not None
    assert found.miou == pytest.approx(gate.engine["miou"])


def test_a_region_outside_of_the_frame_is_refused_before_any_work(workplace: Path, here: Path) -> None:
    wanted = BuildRequest(model=str(workplace / "model.onnx"), frame_size=SIZE, roi=(40, 0, 48, 96))
    with pytest.raises(RequestError, match="region of interest"):
        build_bundle(wanted, here / "b")
