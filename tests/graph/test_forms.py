from __future__ import annotations

import platform

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgeseg.core.workspace import resolve_model
from edgeseg.graph import apply_forms, camera_input, fix_frame_size, load_model, make_variant, read_meta
from edgeseg.graph.forms import Forms, merge_shuffled, shuffle_transposed
from edgeseg.graph.geometry import SCORES
from edgeseg.graph.ir import FLOAT, UINT8, from_model, inferred_values
from edgeseg.graph.phases import phase_kernels
from edgeseg.graph.sample import sample_model

SIZE = (37, 53)  # neither side a multiple of the stride


def _ops(model):
    return [node.op_type for node in model.graph.node]


def _assert_close(run, before, after, frames, tensor=SCORES):
    a, b = run(before, frames, tensor, "mask"), run(after, frames, tensor, "mask")
    np.testing.assert_allclose(a[tensor], b[tensor], atol=1e-4 * np.abs(a[tensor]).max())
    assert np.mean(a["mask"] == b["mask"]) > 0.999


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize(
    "forms",
    [
        Forms(transposed="shuffle"),
        Forms(transposed="blocks"),
        Forms(pointwise="matmul"),
        Forms(layer_norm="parts"),
        Forms(transposed="shuffle", pointwise="matmul", layer_norm="parts"),
        Forms(transposed="blocks", layer_norm="parts", pad="pixels"),
    ],
    ids=str,
)
def test_every_form_computes_the_same(run, picture, norm, fixed, forms):
    model = sample_model(norm=norm)
    model = fix_frame_size(model, SIZE) if fixed else model
    _assert_close(run, model, apply_forms(model, forms), picture(*SIZE))


def test_a_transposed_convolution_becomes_one_that_runs_in_int8():
    model = fix_frame_size(sample_model(), SIZE)
    after = apply_forms(model, Forms(transposed="shuffle"))
    assert "ConvTranspose" not in _ops(after)
    nodes = {node.name: node for node in after.graph.node}
    assert nodes["decoder.0.up"].op_type == "DepthToSpace"
    assert nodes["decoder.0.up.cells"].op_type == "Conv"
    assert read_meta(after).forms == {"transposed": "shuffle"}


def test_and_back():
    graph = from_model(fix_frame_size(sample_model(), SIZE))
    before = graph.constants["decoder.0.up.weight"]
    shuffle_transposed(graph)
    merge_shuffled(graph)
    node = graph.producers()["decoder.0.up"]
    assert node.op == "ConvTranspose"
    np.testing.assert_array_equal(graph.constants[node.inputs[1]], before)
    graph.to_model()


def test_a_shuffle_with_a_bias_for_each_pixel_of_the_cell_stays():
    graph = from_model(sample_model())
    shuffle_transposed(graph)
    name = "decoder.0.up.cells.bias"
    graph.constants[name] = np.arange(graph.constants[name].size, dtype=np.float32)
    merge_shuffled(graph)
    assert graph.producers()["decoder.0.up"].op == "DepthToSpace"


def test_blocks_move_whole_pixels(run, picture):
    model = fix_frame_size(sample_model(), SIZE, batch=2)
    after = apply_forms(model, Forms(transposed="blocks"))
    assert "ConvTranspose" not in _ops(after)
    nodes = {node.name: node for node in after.graph.node}
    assert nodes["decoder.0.up"].op_type == "Conv"
    assert nodes["decoder.0.up.cells"].op_type == "Conv"
    _assert_close(run, model, after, picture(*SIZE, batch=2))
    _assert_close(run, model, after, picture(*SIZE, batch=2), "decoder.0.up")


def test_blocks_keep_sums_in_onnx_runtimes_blocked_layout(tmp_path):
    """What the form is for: nothing but the camera's bytes and the mask crosses between layouts around the sums."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("ONNX Runtime has the blocked layout on x86 alone")
    model = fix_frame_size(load_model(resolve_model("zoo:edge-s")), (64, 96))
    kept = {}
    for form in ("node", "blocks"):
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{form}.onnx")
        options.log_severity_level = 3  # it warns that such a file is for this machine alone
        written = apply_forms(model, Forms(transposed=form)).SerializeToString()
        ort.InferenceSession(written, options, providers=["CPUExecutionProvider"])
        kept[form] = _ops(onnx.load(tmp_path / f"{form}.onnx"))
    assert kept["node"].count("Add") >= 3
    assert "Add" not in kept["blocks"]


def test_matrix_products_leave_two_transpositions_a_block():
    layer = apply_forms(fix_frame_size(sample_model(norm="layer"), SIZE), Forms(pointwise="matmul"))
    blocks = [node for node in layer.graph.node if node.name.startswith("encoder.0.0.")]
    assert sum(node.op_type == "Transpose" for node in blocks) == 2
    assert sum(node.op_type == "MatMul" for node in blocks) == 2
    batch = apply_forms(fix_frame_size(sample_model(), SIZE), Forms(pointwise="matmul"))
    assert sum(node.op_type == "Transpose" for node in batch.graph.node) == 1 + 2 * 2


def test_tensors_keep_their_values_under_their_names(run, picture):
    model = fix_frame_size(sample_model(norm="layer"), SIZE)
    after = apply_forms(model, Forms(pointwise="matmul"))
    for name in ("encoder.0.0.pw1", "encoder.0.0.act", "encoder.0.0.pw2"):
        a, b = run(model, picture(*SIZE), name)[name], run(after, picture(*SIZE), name)[name]
        np.testing.assert_allclose(a, b.transpose(0, 3, 1, 2), atol=1e-5)


def test_a_decomposed_norm_needs_no_transposition():
    after = apply_forms(fix_frame_size(sample_model(norm="layer"), SIZE), Forms(layer_norm="parts"))
    assert "LayerNormalization" not in _ops(after)
    assert _ops(after).count("Transpose") == 1


@pytest.mark.parametrize("input_format", ["bgr", "nv12", "yuyv"])
def test_padding_moves_before_the_transposition(run, picture, input_format):
    size = (38, 54)
    model = camera_input(fix_frame_size(sample_model(), size), input_format)
    after = apply_forms(model, Forms(pad="pixels"))
    last = {node.name: node.op_type for node in after.graph.node if node.name.startswith("pixels")}
    assert set(last.values()) == {"Transpose"}
    padded = {node.input[0] for node in after.graph.node if node.op_type == "Pad"}
    elem = {value.name: value.elem for value in (*inferred_values(after), *from_model(after).inputs)}
    kinds = {FLOAT} if input_format == "yuyv" else {UINT8}  # YUYV is put in order as floats
    assert {elem[name] for name in padded} == kinds
    frames = picture(*size)
    y, uv = frames[..., :1], frames[:, ::2, ::2, 1:]
    feeds = {"bgr": {"frame": frames}, "nv12": {"y": y, "uv": uv}, "yuyv": {"frame": frames[..., :2]}}[input_format]
    np.testing.assert_array_equal(run(model, feeds, SCORES)[SCORES], run(after, feeds, SCORES)[SCORES])
    typed = make_variant(after, "typed", "fp16")
    assert np.mean(run(after, feeds)["mask"] == run(typed, feeds)["mask"]) > 0.98


def test_padding_behind_a_resize_stays():
    model = fix_frame_size(sample_model(), SIZE, (20, 30))
    assert _ops(apply_forms(model, Forms(pad="pixels"))) == _ops(model)


# ---------------------------------------------------------------- the tail


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_phase_kernels_are_linear_interpolation_at_half_pixel_centres(factor):
    kernels = phase_kernels(factor)
    np.testing.assert_allclose(kernels.sum(1), 1)
    values = np.random.default_rng(0).normal(size=9)
    at = (np.arange(9 * factor) + 0.5) / factor - 0.5
    expected = np.interp(at, np.arange(9), values)
    padded = np.pad(values, 1, mode="edge")
    got = np.stack([np.convolve(padded, kernel[::-1], mode="valid") for kernel in kernels], axis=1).reshape(-1)
    np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("size", [SIZE, (64, 96)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("network", [None, (20, 30)])
def test_phases_give_the_mask_of_argmax(run, picture, size, batch, network):
    model = fix_frame_size(sample_model(), size, network, batch=batch)
    after = apply_forms(model, Forms(tail="phases"))
    assert _ops(after).count("ArgMax") == 16
    assert SCORES not in {node.name for node in after.graph.node}
    frames = picture(*size, batch=batch)
    before, got = run(model, frames)["mask"], run(after, frames)["mask"]
    assert got.shape == before.shape
    assert np.mean(got == before) > 0.9995


def test_of_equal_classes_the_first_wins(run):
    model = fix_frame_size(sample_model(), (64, 96))
    graph = from_model(model)
    graph.constants["head.logits.weight"] = np.zeros_like(graph.constants["head.logits.weight"])
    graph.constants["head.logits.bias"] = np.array([0, 1, 1, 0], np.float32)
    after = apply_forms(graph.to_model(), Forms(tail="phases"))
    assert (run(after, np.zeros((1, 64, 96, 3), np.uint8))["mask"] == 1).all()


@pytest.mark.parametrize("network", [None, (20, 30)])
def test_phases_give_the_confidence_too(run, picture, network):
    model = fix_frame_size(sample_model(confidence=True), SIZE, network)
    before, after = run(model, picture(*SIZE)), run(apply_forms(model, Forms(tail="phases")), picture(*SIZE))
    assert np.mean(before["mask"] == after["mask"]) > 0.9995
    assert np.abs(before["confidence"].astype(int) - after["confidence"]).max() <= 1


def test_where_phases_do_not_apply_nothing_changes():
    symbolic = sample_model()
    assert _ops(apply_forms(symbolic, Forms(tail="phases"))) == _ops(symbolic)
