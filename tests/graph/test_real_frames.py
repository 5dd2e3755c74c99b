"""Exact forms, variants and camera formats of the zoo's models, on real frames."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.types import Colour
from edgeseg.core.workspace import resolve_model, zoo_names
from edgeseg.graph import apply_forms, camera_input, fix_frame_size, load_model, make_variant
from edgeseg.graph.forms import Forms
from edgeseg.graph.geometry import SCORES
from edgeseg.graph.ir import FLOAT, from_model

SIZE = (360, 480)
DEFAULT = "edge-m"
STAND_INS = ("edge-s",)
MODELS = [name if name == DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in zoo_names() or [DEFAULT]]
ALL_FORMS = Forms(transposed="shuffle", pointwise="matmul", layer_norm="parts")

pytestmark = [pytest.mark.camvid, pytest.mark.parametrize("name", MODELS)]


@pytest.fixture
def model(name):
    if name not in zoo_names():
        pytest.skip(f"the package ships no model {name}")
    return fix_frame_size(load_model(resolve_model(f"zoo:{name}")), SIZE)


@pytest.fixture
def frames(camvid_dir):
    from edgeseg.data.pictures import read_image

    return [read_image(path)[None] for path in sorted((camvid_dir / "val").glob("*.png"))[::40]]


def test_all_exact_forms_together_give_the_same_logits(run, model, frames):
    other = apply_forms(model, ALL_FORMS)
    for frame in frames:
        a, b = run(model, frame, SCORES, "mask"), run(other, frame, SCORES, "mask")
        np.testing.assert_allclose(a[SCORES], b[SCORES], atol=1e-4 * np.abs(a[SCORES]).max())
        assert np.mean(a["mask"] == b["mask"]) > 0.999


def test_phases_give_the_same_mask(run, model, frames):
    phases = apply_forms(model, Forms(tail="phases"))
    for frame in frames:
        assert np.mean(run(model, frame)["mask"] == run(phases, frame)["mask"]) > 0.9999


def test_fp16_gives_nearly_the_same_mask(run, model, frames):
    typed = make_variant(model, "typed", "fp16")
    agreement = [np.mean(run(model, frame)["mask"] == run(typed, frame)["mask"]) for frame in frames[:2]]
    assert np.mean(agreement) > 0.995


@pytest.mark.parametrize("input_format", ["nv12", "yuyv"])
def test_camera_bytes_give_the_mask_of_their_bgr_picture(run, model, frames, name, input_format):
    cv2 = pytest.importorskip("cv2")
    folded = camera_input(model, input_format)
    unrounded = from_model(model)
    unrounded.inputs[0].elem = FLOAT  # its first Cast takes any type
    unrounded = unrounded.to_model()
    matrix, offset = Colour().to_bgr()
    exact, converted = [], []
    for frame in frames:
        height, width = frame.shape[1:3]
        planes = cv2.cvtColor(frame[0], cv2.COLOR_BGR2YUV_I420)
        chroma = planes[height:].reshape(2, height // 2, width // 2)
        y, uv = planes[:height], np.ascontiguousarray(chroma.transpose(1, 2, 0))
        if input_format == "nv12":
            feeds = {"y": y[None, ..., None], "uv": uv[None]}
            bgr = cv2.cvtColor(np.vstack([y, uv.reshape(-1, width)]), cv2.COLOR_YUV2BGR_NV12)
        else:
            packed = np.stack([y, uv.repeat(2, 0).reshape(height, width)], axis=-1)
            feeds = {"frame": packed[None]}
            bgr = cv2.cvtColor(packed, cv2.COLOR_YUV2BGR_YUY2)
        mask = run(folded, feeds)["mask"]
        pixels = np.dstack([y, uv.repeat(2, 0).repeat(2, 1)]) @ matrix.T + offset
        exact.append(np.mean(mask == run(unrounded, pixels[None].astype(np.float32))["mask"]))
        converted.append(np.mean(mask == run(model, bgr[None])["mask"]))
    assert np.mean(exact) > 0.9999
    # OpenCV rounds to bytes and clips 1.5 % of these values at 0 or 255: that alone, not the fold, flips pixels on
    # borders, and the more the weaker the model is
    assert np.mean(converted) > (0.99 if name in STAND_INS else 0.995)
