"""`build --input nv12|yuyv`: engines for a camera's own bytes, from the model of every other build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.bundle import open_bundle, open_runner
from edgeseg.bundle.golden import read_golden
from edgeseg.core.errors import RequestError
from edgeseg.core.packing import packed, packed_shape
from edgeseg.core.progress import Silent
from edgeseg.core.types import Colour, InputFormat
from edgeseg.data import open_dataset
from edgeseg.deploy import BuildRequest, build_bundle, rebuild_bundle
from edgeseg.measure import evaluate_runner

from .conftest import SIZE

FULL_709 = Colour(matrix="bt709", range="full")


@pytest.fixture(scope="module", params=["nv12", "yuyv"])
def built(request: pytest.FixtureRequest, workplace: Path) -> tuple[InputFormat, Path]:
    data = f"folder:{workplace / 'data'}"
    wanted = BuildRequest(
        model=str(workplace / "model.onnx"),
        frame_size=SIZE,
        input_format=request.param,
        colour=FULL_709,
        precision="int8",
        frames=data,
        data=data,
        max_drop=5.0,
    )
    out = workplace / request.param
    build_bundle(wanted, out)
    return request.param, out


def test_the_engine_takes_the_cameras_bytes_and_proves_itself_on_them(built: tuple[InputFormat, Path], here: Path):
    form, path = built
    bundle = open_bundle(path)
    manifest = bundle.manifest
    assert manifest.spec.input_format == form
    assert manifest.spec.colour == FULL_709
    assert [record.name for record in manifest.inputs] == (["y", "uv"] if form == "nv12" else ["frame"])
    assert manifest.verified
    golden = read_golden(bundle)
    assert golden[0].frame.shape == packed_shape(SIZE, form)
    with open_runner(bundle) as runner, runner.infer(golden[0].frame[None]) as output:
        assert np.mean(output.mask_nhw[0] == golden[0].mask_hw) >= manifest.agreement.minimum


def test_the_gate_and_eval_pack_labelled_pictures_as_the_camera_would(
    built: tuple[InputFormat, Path], workplace: Path, here: Path
) -> None:
    bundle = open_bundle(built[1])
    gate = bundle.manifest.gate
    assert gate is not None
    found = evaluate_runner(open_runner(bundle), open_dataset(f"folder:{workplace / 'data'}", "val"))
    assert found.miou == pytest.approx(gate.engine["miou"], abs=1e-6)
    bgr = build_bundle(
        BuildRequest(model=str(workplace / "model.onnx"), frame_size=SIZE, precision="fp32"), here / "bgr"
    )
    with open_runner(open_bundle(bgr.bundle)) as exact, open_runner(bundle) as ours:
        for index in range(4):
            image = open_dataset(f"folder:{workplace / 'data'}", "val")[index].image_hwc
            spec = bundle.manifest.spec
            with (
                exact.infer(image[None]) as expected,
                ours.infer(packed(image, spec.input_format, spec.colour)[None]) as output,
            ):
                # patches of a few pixels have borders everywhere, and chroma has half their resolution
                assert np.mean(output.mask_nhw == expected.mask_nhw) > 0.9


def test_a_rebuild_keeps_format_colour_and_golden_frames(built: tuple[InputFormat, Path], here: Path) -> None:
    before = open_bundle(built[1])
    after = open_bundle(rebuild_bundle(built[1], Silent(), out=here / "again").bundle)
    assert after.manifest.spec.colour == FULL_709
    for old, new in zip(read_golden(before), read_golden(after), strict=True):
        assert np.array_equal(old.frame, new.frame)


def test_an_odd_size_is_refused_before_any_work(workplace: Path, here: Path) -> None:
    wanted = BuildRequest(model=str(workplace / "model.onnx"), frame_size=(71, 96), input_format="nv12")
    with pytest.raises(RequestError, match="odd"):
        build_bundle(wanted, here / "odd")
    assert not (here / "odd").exists()
