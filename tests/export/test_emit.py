from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Silent
from edgeseg.export.emit import emit_core
from edgeseg.export.fold import fold_input
from edgeseg.export.parity import compare
from edgeseg.export.run import RunFacts, canonical_model
from edgeseg.graph import fix_frame_size, load_model, save_model, weights_sha256
from edgeseg.graph.geometry import Geometry, attach
from edgeseg.graph.receptive import receptive_field
from edgeseg.model import InputConfig, preset_names
from edgeseg.model.receptive import theoretical_field

SPEC = InputConfig(mean_rgb=(120.0, 110.0, 100.0), std_rgb=(60.0, 55.0, 50.0), network_size=(45, 60))

VOCABULARY = [
    *({"stem": stem} for stem in ("patch4", "patch2", "conv4", "conv2", "pixel")),
    *({"blocks": (block,)} for block in ("convnext", "basic", "bottleneck", "plain")),
    *({"norm": "layer", "blocks": (block,)} for block in ("convnext", "basic", "bottleneck", "plain")),
    *({"norm": "layer", "upsample": name} for name in ("transposed4_mean", "bilinear", "pixel_shuffle")),
    {"norm": "none"},
    *({"activation": name} for name in ("relu", "gelu", "gelu_tanh", "hardswish", "none")),
    *({"downsample": name} for name in ("conv", "max", "avg")),
    *({"norm": "layer", "downsample": name} for name in ("conv", "max", "avg")),
    *(
        {"upsample": name}
        for name in ("transposed2", "transposed4_sum", "transposed4_mean", "nearest", "bilinear", "pixel_shuffle")
    ),
    *({"upsample": "max_unpool", "downsample": "max", "skip": skip} for skip in ("concat", "add", "none")),
    *({"skip": skip} for skip in ("concat", "add", "none")),
    {"head": "shuffle"},
    {"head": "shuffle", "stem": "pixel"},
    *({"layer_scale": value} for value in (0.0, 1e-6, 0.5)),
    {"widths": (8,), "depths": (1,), "decoder_widths": (), "decoder_depths": (), "stem": "pixel"},
]


def _frames(*sizes):
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]


@pytest.fixture
def export(classes):
    return lambda model: canonical_model(model, SPEC, classes, RunFacts())


@pytest.mark.parametrize("fields", VOCABULARY, ids=lambda fields: " ".join(f"{k}={v}" for k, v in fields.items()))
def test_every_module_of_the_vocabulary_computes_what_torch_does(network, export, fields):
    model = network(**fields)
    parity = compare(model, SPEC, export(model), _frames((32, 48), (37, 53)), Silent())
    assert parity.logits_difference < 1e-5
    assert parity.agreement > 0.999


@pytest.mark.parametrize("name", ["edge-s", "edge-s-ln", "atto"])
def test_presets_compute_what_torch_does(network, export, name):
    model = network(name)
    parity = compare(model, SPEC, export(model), _frames((64, 96)), Silent())
    assert parity.logits_difference < 1e-5
    assert parity.agreement > 0.999


# 352x480, 360x480, 540x960, 720x1280 and an odd size, over 4, at a stride over 4: the same multiples and remainders
@pytest.mark.parametrize("size", [(88, 120), (90, 120), (135, 240), (180, 320), (61, 87)])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_at_any_size_the_mask_is_the_frames_and_fixed_equals_symbolic(network, export, norm, size):
    model = network(norm=norm, stem="patch2")
    assert model.stride == 8
    symbolic = export(model)
    fixed = fix_frame_size(symbolic, size)
    for graph in (symbolic, fixed):
        parity = compare(model, SPEC, graph, _frames(size), Silent())  # refuses a mask of another size
        assert parity.logits_difference < 1e-5
    ops = {node.op_type for node in fixed.graph.node}
    assert ({"Pad", "Slice"} <= ops) == any(side % 8 for side in size)


def test_layers_bear_the_paths_of_their_modules(network, export):
    model = network(norm="layer", activation="gelu", layer_scale=1e-6)
    names = {node.name for node in export(model).graph.node}
    assert {"stem.conv", "encoder.1.0.dw", "encoder.1.0.norm", "encoder.1.0.pw1", "encoder.1.0.act"} <= names
    assert {
        "encoder.1.0.pw2",
        "encoder.1.0.scale",
        "encoder.1.0.add",
        "decoder.0.skip.conv",
        "decoder.0.fuse.conv",
    } <= names
    assert all(node.output[0] == node.name for node in export(model).graph.node)


def test_batch_norm_and_layer_scale_leave_no_node(network, export):
    ops = [node.op_type for node in export(network()).graph.node]
    assert "BatchNormalization" not in ops
    assert "Mul" not in ops


def test_a_fused_concatenation_is_a_sum(network, export):
    for fields in ({}, {"norm": "layer"}, {"upsample": "pixel_shuffle"}, {"upsample": "bilinear"}):
        nodes = {node.name: node for node in export(network(**fields)).graph.node}
        assert "Concat" not in [node.op_type for node in nodes.values() if not node.name.startswith("geometry/")]
        assert nodes["decoder.0.fuse.conv"].op_type == "Add"
    unpool = export(network(upsample="max_unpool", downsample="max")).graph
    assert "decoder.0.concat" in {node.name for node in unpool.node}


def test_layer_scale_stays_where_fp16_weight_scales_would_underflow(network, export):
    model = network(layer_scale=1e-6)
    graph = export(model).graph
    assert [node.op_type for node in graph.node if node.name.endswith(".scale")] == ["Mul"] * 5


def test_a_channel_of_zeros_does_not_keep_layer_scale_from_folding(network, export):
    model = network(layer_scale=0.5)
    with torch.no_grad():
        model.encoder[0][0].pw2.weight[3] = 0
    assert "Mul" not in [node.op_type for node in export(model).graph.node]


def test_the_fold_of_colour_mean_and_std_is_exact():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(5, 3, 2, 2)), rng.normal(size=5)
    pixels_bgr = rng.integers(0, 256, (3, 2, 2)).astype(float)
    normal = (pixels_bgr[::-1] - np.array(SPEC.mean_rgb)[:, None, None]) / np.array(SPEC.std_rgb)[:, None, None]
    raw_weight, raw_bias = fold_input(weight, bias, SPEC)
    expected = np.einsum("ochw,chw->o", weight, normal) + bias
    np.testing.assert_allclose(np.einsum("ochw,chw->o", raw_weight, pixels_bgr) + raw_bias, expected, atol=1e-12)


def test_emitting_twice_gives_the_same_bytes(network, export, tmp_path):
    model = network()
    first, second = export(model), export(model)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    save_model(tmp_path / "m.onnx", first)
    assert weights_sha256(load_model(tmp_path / "m.onnx")) == weights_sha256(first)


def test_a_module_outside_the_vocabulary_is_named(network):
    model = network()
    model.encoder[1].append(torch.nn.Softplus())
    with pytest.raises(RequestError, match=r"encoder\.1\.\w+: Softplus"):
        emit_core(model, SPEC)


def test_a_stem_that_pads_with_zeros_is_refused(network):
    model = network()
    model.stem.conv.padding = (1, 1)
    with pytest.raises(RequestError, match="stem pads with zeros"):
        emit_core(model, SPEC)


def test_auxiliary_heads_are_not_exported(network, export):
    model = network(aux_heads=1)
    assert model.aux
    assert not [tensor.name for tensor in export(model).graph.initializer if tensor.name.startswith("aux")]


@pytest.mark.parametrize(
    "fields",
    [{}, {"upsample": "bilinear"}, {"upsample": "transposed4_mean"}, {"stem": "conv4"}, {"head": "shuffle"}],
    ids=str,
)
def test_the_graph_sees_as_far_as_the_network(network, fields):
    model = network(**fields)
    side = theoretical_field(model)
    graph = attach(emit_core(model, SPEC), Geometry(stride=model.stride))
    assert receptive_field(graph, model.stride) == (side, side)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(352, 480), (360, 480), (540, 960), (720, 1280), (361, 487)])
@pytest.mark.parametrize("name", preset_names())
def test_every_preset_at_every_size(network, export, name, size):
    model = network(name)
    symbolic = export(model)
    fixed = fix_frame_size(symbolic, size)
    parity = compare(model, SPEC, fixed, _frames(size), Silent())  # refuses a mask of another size
    assert parity.agreement > 0.999
    ops = {node.op_type for node in fixed.graph.node}
    assert ({"Pad", "Slice"} <= ops) == any(side % model.stride for side in size)
