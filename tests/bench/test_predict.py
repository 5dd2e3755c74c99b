import pytest

from edgeseg.bench.layers import predict_targets
from edgeseg.bench.request import open_bench_target
from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Silent
from edgeseg.deploy import BuildRequest, build_bundle
from edgeseg.graph import save_model
from edgeseg.graph.sample import sample_model


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    save_model(folder / "model.onnx", sample_model())
    request = BuildRequest(model=str(folder / "model.onnx"), target="cpu", precision="fp32", frame_size=(48, 64))
    build_bundle(request, folder / "bundle")
    return open_bench_target(str(folder / "bundle"), progress=Silent()).bundle


def test_a_boards_limit_comes_from_its_recipe(bundle):
    found = {(one.target, one.precision): one for one in predict_targets(bundle, ["orin-nano", "agx-orin"])}
    nano, agx = found["orin-nano", "int8"], found["agx-orin", "int8"]
    assert nano.limit_ms > agx.limit_ms > 0
    assert found["orin-nano", "fp16"].limit_ms >= nano.limit_ms
    assert 0 <= nano.memory_bound_share <= 1
    assert nano.source


def test_a_recipe_without_peaks_predicts_nothing(bundle):
    with pytest.raises(RequestError, match="no peaks"):
        predict_targets(bundle, ["cpu"])
