"""Target recipes: found by name, checked, and fitted to the processor."""

import pytest

from edgeseg.core.device import fingerprint
from edgeseg.core.errors import RequestError
from edgeseg.deploy.target import load_target, wanted_precisions


def device(*features, machine="x86_64"):
    import msgspec

    return msgspec.structs.replace(fingerprint(), cpu_features=features, machine=machine)


def test_auto_is_this_machine():
    assert load_target("auto", fingerprint()).name == "cpu"


@pytest.mark.parametrize(
    ("features", "machine", "placement"),
    [
        (("avx2", "avx512_vnni"), "x86_64", "cpu"),
        (("avx2", "avx_vnni"), "x86_64", "cpu"),
        (("avx2",), "x86_64", "cpu-avx2"),
        (("neon",), "aarch64", "cpu"),
    ],
)
def test_without_vnni_weights_are_of_reduced_range(features, machine, placement):
    assert load_target("cpu", device(*features, machine=machine)).placement == placement


@pytest.mark.parametrize(("machine", "form"), [("x86_64", "blocks"), ("AMD64", "blocks"), ("aarch64", "node")])
def test_the_blocked_layout_of_onnx_runtime_is_one_of_x86(machine, form):
    forms = load_target("cpu", device("avx_vnni", machine=machine)).forms
    assert forms["onnxruntime"].transposed == form
    assert forms["onnxruntime"].pad == "pixels"
    assert forms["openvino"].transposed == "node"


def test_a_workspaces_own_recipe_wins_and_is_checked(here):
    folder = here / "engines" / "targets"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text('backends = ["onnxruntime"]\nprecisions = ["fp32"]\n')
    assert load_target("mine", device()).backends == ("onnxruntime",)
    (folder / "mine.toml").write_text('backends = ["onnxruntime"]\nprecisions = ["fp32"]\nprecison = "fp32"\n')
    with pytest.raises(RequestError, match="did you mean precision"):
        load_target("mine", device())


def test_int8_joins_auto_only_with_ranges():
    target = load_target("cpu", device("avx512_vnni"))
    assert wanted_precisions(target, "auto", has_ranges=False) == ["fp32", "bf16"]
    assert wanted_precisions(target, "auto", has_ranges=True) == ["fp32", "bf16", "int8"]
    assert wanted_precisions(target, "bf16", has_ranges=False) == ["bf16"]
    with pytest.raises(RequestError, match="does not have that precision"):
        wanted_precisions(target, "fp16", has_ranges=True)
