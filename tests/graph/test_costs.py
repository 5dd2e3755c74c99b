from __future__ import annotations

from edgeseg.graph import cost, fix_frame_size
from edgeseg.graph.costs import parameters
from edgeseg.graph.sample import sample_model


def test_multiply_adds_and_bytes_of_known_layers():
    layers = {layer.name: layer for layer in cost(sample_model(width=8), (64, 96))}
    stem = layers["encoder.stem"]
    assert stem.macs == 16 * 24 * 8 * 3 * 16
    assert stem.shape == (1, 8, 16, 24)
    assert stem.parameters == 8 * 48 + 8
    assert stem.bytes_in == 4 * 3 * 64 * 96
    assert stem.bytes_out == 4 * 8 * 16 * 24
    assert stem.bytes_weights == 4 * (8 * 48 + 8)
    assert layers["encoder.0.0.dw"].macs == 16 * 24 * 8 * 49
    assert layers["encoder.0.0.pw1"].macs == 16 * 24 * 8 * 32
    assert layers["decoder.0.up"].macs == 8 * 12 * 16 * 8 * 4
    assert layers["mask"].bytes_out == 64 * 96
    assert layers["encoder.0.0.act"].macs == 0


def test_the_size_is_the_models_own_unless_it_is_given():
    model = sample_model()
    fixed = fix_frame_size(model, (32, 32), batch=2)
    assert cost(fixed)[0].shape == (2, 32, 32, 3)
    assert cost(model)[0].shape == (1, 64, 96, 3)
    assert sum(layer.macs for layer in cost(fixed, (64, 64))) == 4 * sum(layer.macs for layer in cost(fixed))


def test_parameters_do_not_count_geometry():
    model = sample_model()
    assert parameters(model) == parameters(fix_frame_size(model, (37, 53), (20, 30)))
    assert 5000 < parameters(model) < 12000
