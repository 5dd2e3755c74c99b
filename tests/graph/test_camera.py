from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.errors import RequestError
from edgeseg.core.types import Colour
from edgeseg.graph import camera_input, fix_frame_size, make_variant, read_meta
from edgeseg.graph.ir import from_model
from edgeseg.graph.sample import sample_model

SIZE = (38, 54)  # even, and no multiple of the stride
COLOURS = [Colour(matrix=matrix, range=span) for matrix in ("bt601", "bt709") for span in ("limited", "full")]


def _feeds(input_format, size=SIZE, batch=1, seed=0):
    """Planes of a smooth picture well inside the gamut, as the camera would send them: luma, chroma, model inputs."""
    rng = np.random.default_rng(seed)
    height, width = size
    cells = (-(-height // 12), -(-width // 12))
    y = rng.integers(70, 180, (batch, *cells, 1)).repeat(12, 1).repeat(12, 2)[:, :height, :width]
    y = (y + rng.integers(-6, 7, y.shape)).astype(np.uint8)
    rows = height // 2 if input_format == "nv12" else height
    uv = rng.integers(108, 149, (batch, *cells, 2)).repeat(12, 1).repeat(6, 2)
    uv = (uv if input_format == "yuyv" else uv[:, ::2])[:, :rows, : width // 2].astype(np.uint8)
    if input_format == "nv12":
        return y, uv, {"y": y, "uv": uv}
    packed = np.empty((batch, height, width, 2), np.uint8)
    packed[..., 0] = y[..., 0]
    packed[..., ::2, 1] = uv[..., 0]
    packed[..., 1::2, 1] = uv[..., 1]
    return y, uv, {"frame": packed}


def _exact_bgr(y, uv, colour):
    """The conversion without rounding: float [N, H, W, 3]; chroma is that of the cell."""
    rows = y.shape[1] // uv.shape[1]
    large = uv.repeat(rows, 1).repeat(2, 2)
    matrix, offset = colour.to_bgr()
    return np.concatenate([y, large], axis=3).astype(np.float64) @ matrix.T + offset


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_the_matrix_is_that_of_the_recommendation(colour):
    matrix, offset = colour.to_bgr()
    black, white = (16, 235) if colour.range == "limited" else (0, 255)
    np.testing.assert_allclose(matrix @ [black, 128, 128] + offset, 0, atol=1e-9)
    np.testing.assert_allclose(matrix @ [white, 128, 128] + offset, 255, atol=1e-9)
    red, blue = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[colour.matrix]
    back = np.linalg.inv(matrix)
    gain = (219 if colour.range == "limited" else 255) / 255
    np.testing.assert_allclose(back[0], np.array([blue, 1 - red - blue, red]) * gain, atol=1e-9)


def test_the_default_is_what_opencv_takes():
    cv2 = pytest.importorskip("cv2")
    y, uv, _ = _feeds("nv12", (32, 32))
    planes = np.concatenate([y[0, ..., 0], uv[0].reshape(16, 32)])
    theirs = cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_NV12)
    ours = _exact_bgr(y, uv, Colour())[0]
    assert np.abs(ours - theirs).max() < 1.5


@pytest.mark.parametrize("input_format", ["nv12", "yuyv"])
@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize(("size", "batch"), [(SIZE, 1), ((64, 96), 2)])
def test_the_fold_into_the_stem_is_exact(run, input_format, colour, size, batch):
    y, uv, feeds = _feeds(input_format, size, batch)
    model = fix_frame_size(sample_model(), size, batch=batch)
    folded = camera_input(model, input_format, colour)
    meta = read_meta(folded)
    assert meta.input_format == input_format
    assert meta.notes == {"colour": str(colour), "colour_conversion": "folded into the stem"}
    # the same network on float pixels: its Cast takes any type
    graph = from_model(model)
    graph.inputs[0].elem = 1
    bgr = _exact_bgr(y, uv, colour).astype(np.float32)
    expected = run(graph.to_model(), bgr, "scores", "mask")
    got = run(folded, feeds, "scores", "mask")
    np.testing.assert_allclose(got["scores"], expected["scores"], atol=2e-5 * np.abs(expected["scores"]).max())
    assert np.mean(got["mask"] == expected["mask"]) > 0.9995
    assert len(np.unique(got["mask"])) > 1


@pytest.mark.parametrize("input_format", ["nv12", "yuyv"])
@pytest.mark.parametrize("network", [(32, 48), (16, 24), (20, 30)])
def test_with_a_resize_the_mask_agrees(run, input_format, network):
    y, uv, feeds = _feeds(input_format, (64, 96))
    model = fix_frame_size(sample_model(), (64, 96), network)
    got = run(camera_input(model, input_format), feeds)["mask"]
    bgr = np.clip(np.rint(_exact_bgr(y, uv, Colour())), 0, 255).astype(np.uint8)
    assert got.shape == (1, 64, 96)
    assert np.mean(got == run(model, bgr)["mask"]) > 0.97


@pytest.mark.parametrize("input_format", ["nv12", "yuyv"])
def test_a_stem_that_overlaps_gets_its_pixels_from_a_convolution(run, input_format):
    model = fix_frame_size(sample_model(), SIZE)
    graph = from_model(model)
    stem = graph.producers()["encoder.stem"]
    stem.attrs["pads"] = [1, 1, 0, 0]  # no longer without overlap and padding
    stem.attrs["strides"] = [4, 4]
    model = graph.to_model()
    converted = camera_input(model, input_format)
    assert read_meta(converted).notes["colour_conversion"] == "1x1 convolution before the stem"
    y, uv, feeds = _feeds(input_format)
    pixels = run(converted, feeds, "pixels")["pixels"]
    exact = _exact_bgr(y, uv, Colour()).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(pixels[:, :, : SIZE[0], : SIZE[1]], exact, atol=1e-3)


@pytest.mark.parametrize("input_format", ["nv12", "yuyv"])
@pytest.mark.parametrize("network", [None, (20, 30)])
def test_typed_variants_take_camera_bytes_too(run, input_format, network):
    _, _, feeds = _feeds(input_format)
    model = camera_input(fix_frame_size(sample_model(), SIZE, network), input_format)
    typed = make_variant(model, "typed", "fp16")
    assert np.mean(run(model, feeds)["mask"] == run(typed, feeds)["mask"]) > 0.98


def test_requests_that_cannot_be():
    model = fix_frame_size(sample_model(), SIZE)
    assert camera_input(model, "bgr") is model
    with pytest.raises(RequestError, match="even frame size"):
        camera_input(fix_frame_size(sample_model(), (37, 54)), "nv12")
    with pytest.raises(RequestError, match="even network size"):
        camera_input(fix_frame_size(sample_model(), SIZE, (19, 27)), "yuyv")
    with pytest.raises(RequestError, match="cannot take another input"):
        camera_input(sample_model(), "nv12")
    with pytest.raises(RequestError, match="cannot take another input"):
        camera_input(camera_input(model, "nv12"), "yuyv")
