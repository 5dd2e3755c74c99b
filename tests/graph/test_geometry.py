from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.core.packing import packed
from edgeseg.graph import (
    apply_forms,
    camera_input,
    default_network_size,
    fix_frame_size,
    make_variant,
    read_meta,
    weights_sha256,
)
from edgeseg.graph.forms import Forms
from edgeseg.graph.geometry import Geometry, attach, detach
from edgeseg.graph.ir import FLOAT, Graph, Value, from_model
from edgeseg.graph.meta import meta_props
from edgeseg.graph.sample import STRIDE, sample_model

SIZES = [(64, 96), (45, 60), (68, 90), (72, 128), (37, 53)]


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("size", SIZES)
def test_the_mask_has_the_frames_size(run, picture, norm, size):
    frames = picture(*size, batch=2)
    model = sample_model(norm=norm, confidence=True)
    symbolic = run(model, frames)
    fixed = run(fix_frame_size(model, size, batch=2), frames)
    assert symbolic["mask"].shape == (2, *size)
    assert symbolic["mask"].dtype == np.uint8
    assert len(np.unique(symbolic["mask"])) == 4
    for name in ("mask", "confidence"):
        np.testing.assert_array_equal(symbolic[name], fixed[name])


def test_at_a_multiple_of_the_stride_there_is_no_pad_and_no_slice_and_the_mask_is_bit_equal(run, picture):
    size = (8 * STRIDE, 12 * STRIDE)
    model = sample_model()
    fixed = fix_frame_size(model, size)
    ops = [node.op_type for node in fixed.graph.node]
    assert "Pad" not in ops
    assert "Slice" not in ops
    assert ops[0] == "Cast"
    assert ops[-3:] == ["ArgMax", "Cast", "Cast"]
    frames = picture(*size)
    before, after = run(model, frames, "scores", "mask"), run(fixed, frames, "scores", "mask")
    np.testing.assert_array_equal(before["scores"], after["scores"])
    np.testing.assert_array_equal(before["mask"], after["mask"])


def test_what_was_padded_is_cut_off_one_plane_not_off_every_class():
    cut = next(node for node in fix_frame_size(sample_model(), (37, 53)).graph.node if node.op_type == "Slice")
    assert cut.input[0] == "geometry/index_float"


def test_padding_repeats_the_edge(run, picture):
    size = (37, 53)
    frames = picture(*size)
    large = np.pad(frames, ((0, 0), (0, 3), (0, 3), (0, 0)), mode="edge")
    model = sample_model()
    small = run(fix_frame_size(model, size), frames)["mask"]
    np.testing.assert_array_equal(small, run(model, large)["mask"][:, :37, :53])


@pytest.mark.parametrize("network", [(32, 48), (37, 50), (20, 30), (13, 17), (64, 48), (100, 140)])
def test_a_resize_in_the_graph_keeps_the_frames_size(run, picture, network):
    frames = picture(64, 96)
    model = sample_model(confidence=True)
    fixed = fix_frame_size(model, (64, 96), network)
    out = run(fixed, frames)
    assert out["mask"].shape == (1, 64, 96)
    assert out["confidence"].shape == (1, 64, 96)
    assert read_meta(fixed).layers_size == network
    # nothing moved: most pixels keep their class
    assert np.mean(out["mask"] == run(model, frames)["mask"]) > 0.4


def _identity(geometry: Geometry):
    """A network that returns its pixels: what the resize does becomes visible in `pixels`."""
    core = Graph(
        inputs=[Value("pixels", FLOAT, ("batch", 3, "h", "w"))],
        outputs=[Value("scores", FLOAT, ("batch", 3, "h", "w"))],
    )
    core.add("Identity", ["pixels"], "scores")
    graph = attach(core, geometry)
    graph.props = meta_props(read_meta(sample_model()))
    return graph.to_model()


@pytest.mark.parametrize(
    ("frame", "network"),
    [((64, 96), (32, 48)), ((64, 96), (16, 24)), ((64, 96), (40, 96)), ((61, 97), (16, 24)), ((50, 70), (23, 11))],
)
def test_the_resize_keeps_straight_lines_where_they_are(run, frame, network):
    # a linear ramp resampled by any correct linear method is the ramp at the new pixel centres
    rows, columns = np.mgrid[0 : frame[0], 0 : frame[1]]
    ramp = np.stack([rows * 2, columns * 2, rows + columns], axis=-1).astype(np.uint8)[None]
    model = _identity(Geometry(stride=1, frame_size=frame, layers_size=network, batch=1))
    seen = run(model, ramp, "pixels")["pixels"]
    assert seen.shape[2:] == network
    inner_rows = slice(2, network[0] - 2)
    inner_columns = slice(2, network[1] - 2)
    centre_rows = (np.arange(network[0]) + 0.5) * frame[0] / network[0] - 0.5
    centre_columns = (np.arange(network[1]) + 0.5) * frame[1] / network[1] - 0.5
    np.testing.assert_allclose(seen[0, 0, inner_rows, 3], 2 * centre_rows[inner_rows], atol=2e-3)
    np.testing.assert_allclose(seen[0, 1, 3, inner_columns], 2 * centre_columns[inner_columns], atol=2e-3)


def test_a_strong_reduction_averages_so_stripes_do_not_alias(run):
    stripes = np.zeros((1, 60, 60, 3), np.uint8)
    stripes[:, :, ::2] = 200
    model = _identity(Geometry(stride=1, frame_size=(60, 60), layers_size=(15, 15), batch=1))
    seen = run(model, stripes, "pixels")["pixels"]
    np.testing.assert_allclose(seen, 100, atol=1e-3)


def test_the_mask_comes_back_by_nearest_centres(run):
    # sizes at which no centre falls on a border between two cells
    frames = np.random.default_rng(0).integers(0, 256, (1, 30, 48, 3)).astype(np.uint8)
    model = _identity(Geometry(stride=1, frame_size=(30, 48), layers_size=(13, 20), batch=1))
    seen = run(model, frames, "scores", "mask")
    small = seen["scores"].argmax(1)[0]  # no padding here: the stride is 1
    rows = np.floor((np.arange(30) + 0.5) * 13 / 30).astype(int)
    columns = np.floor((np.arange(48) + 0.5) * 20 / 48).astype(int)
    np.testing.assert_array_equal(seen["mask"][0], small[rows][:, columns])


def test_fixing_again_starts_from_the_same_core(run, picture):
    frames = picture(37, 53)
    model = sample_model()
    once = fix_frame_size(model, (37, 53))
    again = fix_frame_size(fix_frame_size(model, (64, 64), (32, 32), batch=3), (37, 53))
    assert once == again
    assert weights_sha256(once) == weights_sha256(model) == read_meta(model).weights_sha256
    np.testing.assert_array_equal(run(model, frames)["mask"], run(again, frames)["mask"])


def test_every_shape_is_known_in_a_fixed_model():
    model = fix_frame_size(sample_model(norm="layer"), (37, 53), (20, 30))
    known = {value.name: value for value in [*model.graph.value_info, *model.graph.output]}
    for node in model.graph.node:
        dims = known[node.output[0]].type.tensor_type.shape.dim
        assert all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in dims), node.name


def test_confidence_is_the_largest_softmax_in_bytes(run, picture):
    frames = picture(40, 48)
    model = fix_frame_size(sample_model(), (40, 48), confidence=True)
    out = run(model, frames, "scores", "confidence")
    odds = np.exp(out["scores"] - out["scores"].max(1, keepdims=True))
    expected = np.rint(255 * (odds / odds.sum(1, keepdims=True)).max(1))
    assert np.abs(expected - out["confidence"]).max() <= 1


@pytest.mark.parametrize(("size", "network"), [((4, 64), None), ((64, 20000), None), ((64, 64), (2, 64))])
def test_sizes_that_cannot_be_are_refused(size, network):
    with pytest.raises(RequestError, match="frame size cannot be"):
        fix_frame_size(sample_model(), size, network)


def test_a_graph_without_the_canonical_tensors_is_refused():
    with pytest.raises(VerifyError, match="not a canonical graph"):
        detach(Graph())


def test_the_network_size_keeps_the_frames_aspect_and_never_enlarges():
    assert default_network_size((360, 480), (1080, 1920)) == (360, 640)
    assert default_network_size((360, 480), (360, 640)) == (360, 640)
    assert default_network_size((360, 480), (240, 320)) == (240, 320)
    assert default_network_size((360, 480), (721, 1280)) == (360, 639)


def test_a_graph_survives_the_way_to_onnx_and_back():
    model = sample_model(norm="layer")
    assert from_model(model).to_model() == model


@pytest.mark.parametrize("network", [None, (32, 48), (20, 30)])
def test_a_region_of_interest_is_what_the_model_says_of_that_part_alone(run, picture, network):
    top, left, height, width = roi = (16, 8, 40, 64)
    frames = picture(72, 96)
    model = sample_model(confidence=True)
    whole = run(fix_frame_size(model, (72, 96), network, roi=roi), frames)
    part = frames[:, top : top + height, left : left + width]
    alone = run(fix_frame_size(model, (height, width), network), np.ascontiguousarray(part))
    for name, outside in (("mask", 255), ("confidence", 0)):
        assert whole[name].shape == (1, 72, 96)
        inside = whole[name][:, top : top + height, left : left + width]
        np.testing.assert_array_equal(inside, alone[name])
        rest = np.ones((72, 96), bool)
        rest[top : top + height, left : left + width] = False
        assert (whole[name][:, rest] == outside).all()


@pytest.mark.parametrize("input_format", ["nv12", "yuyv"])
def test_a_region_of_a_cameras_own_bytes(run, picture, input_format):
    roi = (16, 8, 40, 64)
    frames = picture(72, 96)
    packed_frame = packed(frames[0], input_format)
    inputs = (
        {"y": packed_frame[None, :72, :, None], "uv": packed_frame[72:].reshape(1, 36, 48, 2)}
        if input_format == "nv12"
        else {"frame": packed_frame[None]}
    )
    model = camera_input(fix_frame_size(sample_model(), (72, 96), roi=roi), input_format)
    mask = run(model, inputs)["mask"][0]
    expected = run(fix_frame_size(sample_model(), (72, 96), roi=roi), frames)["mask"][0]
    assert np.mean(mask == expected) > 0.97
    assert ((mask == 255) == (expected == 255)).all()


@pytest.mark.parametrize("roi", [(0, 0, 73, 96), (40, 0, 40, 96), (-8, 0, 40, 96), (0, 40, 72, 64), (0, 0, 0, 96)])
def test_a_region_outside_of_the_frame_is_refused(roi):
    with pytest.raises(RequestError, match="region of interest"):
        fix_frame_size(sample_model(), (72, 96), roi=roi)


def test_an_odd_region_has_no_chroma():
    with pytest.raises(RequestError, match="even corner"):
        camera_input(fix_frame_size(sample_model(), (72, 96), roi=(15, 8, 40, 64)), "nv12")


def test_every_form_and_variant_keeps_a_region(run, picture):
    frames = picture(72, 96)
    fixed = fix_frame_size(sample_model(), (72, 96), roi=(16, 8, 36, 60))
    expected = run(fixed, frames)["mask"]
    for made in (
        apply_forms(fixed, Forms(transposed="shuffle", tail="phases", pad="pixels")),
        make_variant(fixed, "weak"),
        make_variant(fixed, "jetpack5"),
        make_variant(fixed, "cpu"),
    ):
        assert np.mean(run(made, frames)["mask"] == expected) > 0.999
