import pytest

from edgeseg.backend import get_builder
from edgeseg.backend.profiling import Profiler

from .models import float_model, frames, int8_model, spec_of, write


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("model", "precision"), [(float_model, "fp32"), (int8_model, "int8")])
def test_times_carry_the_names_of_the_model(tmp_path, backend, model, precision):
    pytest.importorskip(backend)
    builder = get_builder(backend)
    assert isinstance(builder, Profiler)
    proto, spec = model(), spec_of(precision)
    built = builder.build(write(tmp_path, proto), tmp_path, spec)
    layers = builder.profile(tmp_path / built.file, spec, frames(2), 4)
    names = {node.name for node in proto.graph.node}
    told = {name for layer in layers if not layer.moves for name in layer.layers}
    assert {"encoder.0.0.dw", "encoder.1.down", "head.logits"} <= told & names
    assert all(layer.time_ns >= 0 for layer in layers)
    assert any(layer.precision == precision for layer in layers)
    assert any(layer.moves for layer in layers)


def test_null_tells_nothing_by_layer():
    assert not isinstance(get_builder("null"), Profiler)
