"""Real TensorRT-RTX builds, without a GPU: every part of the model family in FP16 and INT8, audited, with snapshots.

What runs here is NVIDIA's parser and compiler; no engine is executed. EDGESEG_UPDATE_SNAPSHOTS=1 writes the snapshots.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeseg.backend import get_builder
from edgeseg.backend.nvidia.audit import Audit, audit, kernels_from_log
from edgeseg.backend.nvidia.network import BuildJob, NetworkBuild
from edgeseg.backend.nvidia.options import NvidiaOptions
from edgeseg.core.errors import CapabilityError, EdgesegError, FitError, RequestError, UnavailableError, VerifyError
from edgeseg.core.types import Classes, EngineSpec, Precision
from edgeseg.core.workspace import resolve_model, shipped_ranges, zoo_names
from edgeseg.graph import apply_forms, camera_input, fix_frame_size, load_model, make_variant, read_meta, save_model
from edgeseg.graph.forms import Forms
from edgeseg.graph.ir import from_model
from edgeseg.graph.sample import sample_model
from edgeseg.model import InputConfig, ModelConfig, build_model, preset
from edgeseg.model.config import Activation, BlockKind, Downsample, Head, NormKind, Skip, Stem, Upsample
from edgeseg.quant import load_ranges
from edgeseg.quant.histogram import Histogram
from edgeseg.quant.placement import NVIDIA_TYPED, calibration_tensors
from edgeseg.quant.quantization import quantize
from edgeseg.quant.ranges import FrameReport, Ranges, tensor_range
from edgeseg.quant.thresholds import Method

pytestmark = [
    pytest.mark.rtx,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx_bindings") is None, reason="needs pip install 'edgeseg[rtx]'"
    ),
]
SIZE = (64, 96)
SNAPSHOTS = Path(__file__).parent / "rtx_snapshots.json"
CLASSES = Classes(names=("road", "car", "person"), palette_rgb=((1, 2, 3), (4, 5, 6), (7, 8, 9)))
Compiled = tuple[bytes, Audit]


def compile_model(tmp_path: Path, model: onnx.ModelProto, precision: Precision, **options: Any) -> Compiled:
    file = tmp_path / "model.onnx"
    save_model(file, model)
    return compile_file(file, model, precision, **options)


def compile_file(file: Path, model: onnx.ModelProto, precision: Precision, **options: Any) -> Compiled:
    from edgeseg.backend.nvidia.api import load_api

    lines: list[str] = []
    job = BuildJob(model=file, plan=file.with_suffix(".plan"), precision=precision, options=NvidiaOptions(**options))
    build = NetworkBuild(load_api("tensorrt_rtx"), job, lambda _, text: lines.append(text), lambda *_: True)
    return build.run(), audit(kernels_from_log(lines), model)


def canonical(config: ModelConfig) -> onnx.ModelProto:
    from edgeseg.export.run import RunFacts, canonical_model

    spec = InputConfig(network_size=SIZE)
    return canonical_model(build_model(config, len(CLASSES)).eval(), spec, CLASSES, RunFacts())


def some_ranges(model: onnx.ModelProto) -> Ranges:
    """Ranges as if every tensor were normal: where integers go does not depend on the values."""
    histogram = Histogram()
    histogram.add(np.random.default_rng(0).normal(size=4096).astype(np.float32))
    one = tensor_range(histogram, np.zeros(1))
    names = {name for root, others in calibration_tensors(from_model(model)).items() for name in (root, *others)}
    return Ranges(
        model="test",
        weights_sha256=read_meta(model).weights_sha256,
        layers_size=SIZE,
        method=Method(name="minmax"),
        frames=FrameReport(source="synthetic", sha256="0", count=1, offered=1),
        tensors=dict.fromkeys(names, one),
    )


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    return quantize(model, some_ranges(model), NVIDIA_TYPED, bias_correction=False)


def variant(model: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    fixed = fix_frame_size(model, SIZE)
    if precision == "int8":
        fixed = quantised(fixed)
    return make_variant(fixed, "typed", precision)


SMALL = ModelConfig(
    name="small", stem="patch2", widths=(16, 32), depths=(1, 1), decoder_widths=(16,), decoder_depths=(1,)
)
FAMILY = {
    "edge-s": preset("edge-s"),
    **{
        "-".join(
            str(value[0] if isinstance(value, tuple) else value) for value in change.values()
        ): msgspec.structs.replace(SMALL, **change)
        for change in (
            {"stem": "patch4"},
            {"stem": "conv2"},
            {"stem": "conv4"},
            {"stem": "pixel"},
            {"norm": "none", "activation": "none"},
            {"skip": "none"},
            {"blocks": ("basic",)},
            {"blocks": ("bottleneck",)},
            {"blocks": ("plain",)},
            {"norm": "layer", "activation": "gelu"},
            {"norm": "layer", "activation": "gelu_tanh"},
            {"activation": "hardswish"},
            {"downsample": "max"},
            {"downsample": "avg"},
            {"upsample": "transposed4_sum"},
            {"upsample": "transposed4_mean"},
            {"upsample": "nearest"},
            {"upsample": "bilinear"},
            {"upsample": "pixel_shuffle"},
            {"upsample": "max_unpool", "downsample": "max"},
            {"skip": "add"},
            {"head": "shuffle"},
        )
    },
}


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("stem", Stem),
        ("blocks", BlockKind),
        ("norm", NormKind),
        ("activation", Activation),
        ("downsample", Downsample),
        ("upsample", Upsample),
        ("skip", Skip),
        ("head", Head),
    ],
)
def test_the_family_is_all_that_a_model_can_be_made_of(field: str, words: Any) -> None:
    """A new word in the vocabulary goes through NVIDIA's compiler, or this fails."""
    found = {getattr(config, field) for config in FAMILY.values()}
    flat = {item for value in found for item in (value if isinstance(value, tuple) else (value,))}
    assert flat >= set(get_args(words))


@pytest.mark.parametrize("name", FAMILY)
def test_every_part_of_the_family_builds_and_its_audit_is_the_snapshot(name: str, tmp_path: Path) -> None:
    model = canonical(FAMILY[name])
    found = {}
    for precision in ("fp16", "int8"):
        plan, result = compile_model(tmp_path, variant(model, precision), precision)
        found[precision] = {
            "kernels": len(result.kernels),
            "multiplying": dict(sorted(result.multiplying.items())),
            "plan_bytes": len(plan),
            "qdq_not_int8": list(result.not_int8),
        }
    assert found["fp16"]["multiplying"].keys() == {"fp16"}  # a typed FP16 graph has no FP32 product left
    assert found["int8"]["multiplying"]["int8"] > 0
    expected = json.loads(SNAPSHOTS.read_text()) if SNAPSHOTS.is_file() else {}
    if os.environ.get("EDGESEG_UPDATE_SNAPSHOTS"):
        SNAPSHOTS.write_text(json.dumps({**expected, name: found}, indent=1, sort_keys=True) + "\n")
        return
    for precision, figures in found.items():
        wanted = dict(expected[name][precision])
        assert figures.pop("plan_bytes") == pytest.approx(wanted.pop("plan_bytes"), rel=0.05)
        assert figures == wanted


def test_with_scales_the_whole_of_edge_s_runs_its_quantised_layers_in_int8(tmp_path: Path) -> None:
    _, result = compile_model(tmp_path, variant(canonical(preset("edge-s")), "int8"), "int8")
    assert result.not_int8 == ()
    assert result.int8_share > 0.6


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_typed_graph_gives_an_engine_of_its_own_type(tmp_path: Path, precision: Precision) -> None:
    model = fix_frame_size(sample_model(norm="layer"), SIZE)
    if precision != "fp32":
        model = make_variant(apply_forms(model, Forms(transposed="shuffle")), "typed", precision)
    _, result = compile_model(tmp_path, model, precision)
    assert result.multiplying.keys() == {precision}


def test_a_bf16_transposed_convolution_is_refused_with_the_form_that_builds(tmp_path: Path) -> None:
    model = make_variant(fix_frame_size(sample_model(norm="layer"), SIZE), "typed", "bf16")
    with pytest.raises(CapabilityError, match=r"transposed convolution in this precision.*DepthToSpace"):
        compile_model(tmp_path, model, "bf16")


def test_products_as_matrices_give_int8_without_a_float_copy(tmp_path: Path) -> None:
    """A 1x1 convolution in INT8 writes FP32 on RTX, a matrix product FP16: the form that a build may prefer."""
    fixed = fix_frame_size(canonical(SMALL), SIZE)
    for form, kind in (("conv", "fp32"), ("matmul", "fp16")):
        model = apply_forms(fixed, Forms(pointwise=form))
        model = make_variant(quantised(model), "typed", "int8")
        _, result = compile_model(tmp_path, model, "int8")
        wide = {
            out for k in result.kernels if k.precision == "int8" and "pw1" in " ".join(k.nodes) for out in k.outputs
        }
        assert wide == {kind}, form


@pytest.mark.parametrize("name", zoo_names() or [pytest.param("none", marks=pytest.mark.skip("the zoo is empty"))])
def test_every_zoo_model_builds_in_fp16_and_in_int8_with_its_own_ranges(name: str, tmp_path: Path) -> None:
    file = resolve_model(f"zoo:{name}")
    ranges = shipped_ranges(f"zoo:{name}")
    assert ranges is not None
    model = fix_frame_size(load_model(file), (360, 480))
    _, result = compile_model(tmp_path, make_variant(model, "typed", "fp16"), "fp16")
    assert result.multiplying.keys() == {"fp16"}
    model = make_variant(quantize(model, load_ranges(ranges), NVIDIA_TYPED), "typed", "int8")
    _, result = compile_model(tmp_path, model, "int8")
    assert result.not_int8 == ()
    assert result.int8_share > 0.5


@pytest.mark.parametrize("input_format", ["nv12", "yuyv"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_camera_formats_build(tmp_path: Path, input_format: Any, precision: Precision) -> None:
    model = camera_input(fix_frame_size(canonical(SMALL), SIZE), input_format)
    if precision == "int8":
        model = quantised(model)
    _, result = compile_model(tmp_path, make_variant(model, "typed", precision), precision)
    assert result.multiplying.get(precision, 0) > 0


def test_a_quantised_pair_that_does_not_become_int8_is_listed(tmp_path: Path) -> None:
    """Activations alone quantised: the runtime multiplies in float, and the audit must not be fooled."""
    model = variant(canonical(SMALL), "int8")
    node = next(node for node in model.graph.node if node.op_type == "Conv" and node.name.endswith("pw1"))
    name = node.name
    dequantise = next(item for item in model.graph.node if item.output[0] == node.input[1])
    integers = next(item for item in model.graph.initializer if item.name == dequantise.input[0])
    shape = list(integers.dims)
    dequantise.CopyFrom(
        helper.make_node(
            "Constant",
            [],
            [dequantise.output[0]],
            value=helper.make_tensor("w", TensorProto.FLOAT16, shape, np.full(shape, 0.1, np.float16).ravel()),
        )
    )
    file = tmp_path / "damaged.onnx"
    onnx.save(model, str(file))
    _, result = compile_file(file, model, "int8")
    int8 = {item for kernel in result.kernels if kernel.precision == "int8" for item in kernel.nodes}
    assert name not in int8


def test_the_backend_builds_in_a_process_of_its_own_and_says_that_it_cannot_run_here(tmp_path: Path) -> None:
    model = variant(canonical(SMALL), "int8")
    file = tmp_path / "model.onnx"
    save_model(file, model)
    spec = EngineSpec(frame_size=SIZE, precision="int8", classes=CLASSES)
    built = get_builder("tensorrt_rtx").build(file, tmp_path, spec)
    assert built.backend_version == "1.7.1.116"
    assert built.layers["int8"] > 0
    assert (tmp_path / built.file).stat().st_size == built.report["plan_bytes"]
    if not built.can_run_here:
        runner_error = (UnavailableError, FitError)
        with pytest.raises(runner_error):
            get_builder("tensorrt_rtx").open(tmp_path / built.file, spec).__enter__()


def save(path: Path, nodes: list[onnx.NodeProto], kind: int, size: list[int], to: list[int]) -> Path:
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("x", kind, size)],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, to)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


def unpool(path: Path) -> Path:
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("MaxPool", ["x"], ["y", "i"], name="pool", **pool),
        helper.make_node("MaxUnpool", ["y", "i"], ["z"], name="unpool", **pool),
    ]
    return save(path, nodes, TensorProto.FLOAT, [1, 3, 8, 8], [1, 3, 8, 8])


def transpose_before_cast(path: Path) -> Path:
    nodes = [
        helper.make_node("Transpose", ["x"], ["y"], perm=[0, 3, 1, 2], name="nchw"),
        helper.make_node("Cast", ["y"], ["z"], to=TensorProto.FLOAT, name="float"),
    ]
    return save(path, nodes, TensorProto.UINT8, [1, 8, 8, 3], [1, 3, 8, 8])


def symbolic(path: Path) -> Path:
    save_model(path, sample_model(norm="batch"))
    return path


def garbage(path: Path) -> Path:
    path.write_bytes(b"no model" * 10)
    return path


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (unpool, CapabilityError, r"MaxPool 'pool', MaxUnpool 'unpool'.*edgeseg export"),
        (transpose_before_cast, CapabilityError, r"Transpose 'nchw'.*first input has type UInt8"),
        (symbolic, RequestError, r"input frame has symbolic sizes.*--frame-size HxW"),
        (garbage, VerifyError, r"not an ONNX model"),
    ],
)
def test_a_foreign_model_ends_in_one_line(
    tmp_path: Path, make: Callable[[Path], Path], error: type[EdgesegError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        compile_file(make(tmp_path / "foreign.onnx"), onnx.ModelProto(), "fp32")
    text = str(caught.value)
    assert "cudaError" not in text  # RTX adds that to everything on a machine without a GPU
    assert "\n" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compute_capabilities": "8.7"}, r"compute capability 8\.7 is not available.*SM86"),
        ({"version_compatible": True}, "version-compatible plan is not available"),
        ({"hardware_compatible": "ampere_plus"}, r"hardware-compatible plan \(ampere_plus\) is not available"),
        ({"implicit": True}, r"INT8 from ranges without Q/DQ nodes is not available.*explicit Q/DQ"),
        ({"dla_core": 0}, r"DLA core 0 is not available.*this board has none.*--target auto"),
    ],
)
def test_what_rtx_lacks_is_said_by_name(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    model = fix_frame_size(sample_model(norm="batch"), SIZE)
    with pytest.raises(CapabilityError, match=message):
        compile_model(tmp_path, model, "int8" if "implicit" in options else "fp32", **options)


def test_a_plan_for_named_gpus_is_built(tmp_path: Path) -> None:
    model = make_variant(fix_frame_size(sample_model(norm="batch"), SIZE), "typed", "fp16")
    one, _ = compile_model(tmp_path, model, "fp16", compute_capabilities="8.6")
    two, _ = compile_model(tmp_path, model, "fp16", compute_capabilities="8.6, 8.9")
    assert len(two) > len(one)
