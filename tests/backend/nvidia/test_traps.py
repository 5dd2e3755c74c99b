"""Every trap that is known of TensorRT 8.5 to 11 and TensorRT-RTX, and the test that keeps us out of it.

TRAPS is the list: the trap, as one would tell it to a colleague, and where it is tested. Tests that have no better
place are in this file. `test_every_trap_has_its_test` keeps the list honest.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgeseg.backend.nvidia.api import MODULES
from edgeseg.backend.nvidia.network import BuildJob, NetworkBuild
from edgeseg.backend.nvidia.options import NvidiaOptions
from edgeseg.core.errors import EdgesegError, UnavailableError
from edgeseg.graph import apply_forms, camera_input, fix_frame_size, load_model, make_variant, save_model
from edgeseg.graph.forms import Forms
from edgeseg.graph.sample import sample_model
from edgeseg.model import preset, preset_names
from edgeseg.quant import load_ranges
from edgeseg.quant.placement import NVIDIA, NVIDIA_TYPED
from edgeseg.quant.quantization import quantize

from .test_contract import touched
from .test_rtx import SMALL, canonical, some_ranges

ROOT = Path(__file__).parents[3]
HERE = "tests/backend/nvidia/test_traps.py"
CONTRACT = "tests/backend/nvidia/test_contract.py"
RTX = "tests/backend/nvidia/test_rtx.py"
RUNNER = "tests/backend/nvidia/test_runner.py"
CODES = "tests/backend/nvidia/test_exit_codes.py"

TRAPS = {
    # platforms
    "a pip wheel of OpenCV or TensorRT shadows JetPack's own": (
        "tests/test_packaging.py::test_on_a_jetson_nothing_is_installed_over_jetpack_s_packages"
    ),
    "TensorRT-RTX has no Jetson targets": f"{RTX}::test_what_rtx_lacks_is_said_by_name",
    "TensorRT-RTX knows no data-centre GPU": (
        "tests/backend/nvidia/test_gpu_identity.py::test_a_portable_plan_runs_here_only_where_it_was_compiled_for_this_gpu"
    ),
    "the metapackage tensorrt_rtx only re-exports its bindings": f"{HERE}::test_rtx_is_imported_by_its_bindings",
    "a builder assertion in one precision on one board": f"{HERE}::test_a_precision_that_cannot_be_built_leaves_others",
    "JetPack 7.2 reports no DLA cores": f"{CODES}::test_dla_where_there_is_none",
    "DLA never runs LayerNorm, GELU, HardSwish, Q/DQ": (
        "tests/backend/nvidia/test_calibration.py::test_layer_norm_and_gelu_are_refused_before_anything_is_built"
    ),
    # the Python API
    "the bits of flags move between versions": f"{CONTRACT}::test_the_facade_finds_what_a_version_has_by_probing",
    "a literal bit reaches the runtime": f"{HERE}::test_no_flag_is_a_literal_bit",
    "8 wants EXPLICIT_BATCH, 11 has no such attribute": (
        f"{CONTRACT}::test_the_facade_finds_what_a_version_has_by_probing"
    ),
    "precision flags are gone in 11, and must not meet strong typing": (
        f"{CONTRACT}::test_the_facade_finds_what_a_version_has_by_probing"
    ),
    "8.6 has no BF16": f"{CONTRACT}::test_bf16_on_8_6_names_fp16",
    "the bindings API, max_workspace_size, build_engine, execute_v2 are gone": (
        f"{HERE}::test_nothing_that_a_version_has_lost_is_touched"
    ),
    "ITensor.dtype is read-only from 11 on": f"{CONTRACT}::test_everything_that_is_assigned_can_be",
    "ProfilingVerbosity.DEFAULT and VERBOSE are gone": f"{CONTRACT}::test_everything_touched_exists_or_is_probed",
    "tactic sources CUBLAS and CUDNN are gone in 11": f"{CONTRACT}::test_everything_touched_exists_or_is_probed",
    "device_memory_size became device_memory_size_v2": f"{CONTRACT}::test_everything_touched_exists_or_is_probed",
    "8.6 parser errors name no node": f"{CONTRACT}::test_everything_touched_exists_or_is_probed",
    "RTX keeps the timing cache's calls and ignores them": (
        f"{CONTRACT}::test_the_facade_finds_what_a_version_has_by_probing"
    ),
    "failures are returned, not raised": f"{CONTRACT}::test_no_answer_of_the_runtime_is_thrown_away",
    "8.6 constructors raise TypeError about a null pointer": (
        "tests/backend/nvidia/test_builder.py::test_8_6_without_a_gpu_raises_in_its_constructor_and_warns"
    ),
    "8.6 crashes where the driver is too old": f"{CODES}::test_a_driver_that_is_too_old",
    "8.6 has no progress monitor": (
        "tests/backend/nvidia/test_builder.py::test_a_version_without_a_monitor_reports_its_phases_from_the_log"
    ),
    "parse(bytes) holds the interpreter lock, and a build may not look at a signal": (
        "tests/backend/nvidia/test_child.py::test_ctrl_c_ends_the_build_within_a_second_and_leaves_no_process"
    ),
    "a monitor that says no makes the build return None": f"{HERE}::test_a_cancelled_build_says_so",
    "an ErrorRecorder must have all six methods": f"{CONTRACT}::test_the_facade_finds_what_a_version_has_by_probing",
    "a plan runs on its own version alone": f"{CODES}::test_a_plan_of_another_version",
    "a plan runs on its own GPU alone": f"{CODES}::test_a_plan_of_another_gpu",
    "hardware compatibility is not for Jetson": (
        "tests/backend/nvidia/test_gpu_identity.py::"
        "test_hardware_compatibility_is_not_for_a_jetson_nor_for_a_version_without_it"
    ),
    "a version-compatible plan carries host code": (
        "tests/backend/nvidia/test_gpu_identity.py::"
        "test_a_version_compatible_plan_is_built_but_never_run_here_because_it_carries_host_code"
    ),
    "a plan is code: no host code, no plugin library by path": (
        f"{CONTRACT}::test_no_plugin_library_is_loaded_and_host_code_is_never_allowed"
    ),
    "garbage in place of a plan": f"{RUNNER}::test_each_failure_of_loading_is_one_line_and_leaves_nothing",
    # INT8
    "8.6 wants a zero point, and it must be 0": f"{HERE}::test_q_dq_is_symmetric_and_of_the_types_that_a_parser_takes",
    "UINT8 zero points are refused or taken as INT8": (
        f"{HERE}::test_q_dq_is_symmetric_and_of_the_types_that_a_parser_takes"
    ),
    "8.6 reads every scale as FP32; typed graphs want the scale's type to be the data's": (
        f"{HERE}::test_q_dq_is_symmetric_and_of_the_types_that_a_parser_takes"
    ),
    "FP16 scales need opset 19, 8.6 reads 17 at most": (
        f"{HERE}::test_q_dq_is_symmetric_and_of_the_types_that_a_parser_takes"
    ),
    "per-channel activations are a silent loss": f"{HERE}::test_q_dq_is_symmetric_and_of_the_types_that_a_parser_takes",
    "an INT32 bias with DequantizeLinear is refused": (
        f"{HERE}::test_q_dq_is_symmetric_and_of_the_types_that_a_parser_takes"
    ),
    "two Q of one tensor are two reformats": f"{HERE}::test_a_tensor_is_quantised_once_for_all_its_readers",
    "FP16 scales underflow": "tests/graph/test_variants.py::test_fp16_scales_never_underflow",
    "Q/DQ on both inputs of a residual sum hinders its fusion": (
        "tests/quant/test_placement.py::test_residual_identity_is_what_came_past_the_branch"
    ),
    "depthwise, transposed, stem and head cost more in INT8": (
        "tests/quant/test_placement.py::test_nvidia_is_symmetric_without_depthwise_stem_or_transposed"
    ),
    "products of fewer than 16 channels find no INT8 kernel": f"{HERE}::test_no_quantised_product_is_too_narrow",
    "Q/DQ on data alone or weights alone builds and runs in float": (
        "tests/backend/nvidia/test_audit.py::test_data_or_weights_alone_are_a_quantised_product_too"
    ),
    "INT8 is not always faster than FP16": (
        "tests/deploy/test_nvidia.py::test_the_fp16_sibling_is_timed_and_never_chosen"
    ),
    "an INT8 transposed convolution runs in FP16 with more copies": (
        "tests/graph/test_forms.py::test_a_transposed_convolution_becomes_one_that_runs_in_int8"
    ),
    "a BF16 transposed convolution does not build on RTX": (
        f"{RTX}::test_a_bf16_transposed_convolution_is_refused_with_the_form_that_builds"
    ),
    "INT8 1x1 convolutions write FP32 on RTX": f"{RTX}::test_products_as_matrices_give_int8_without_a_float_copy",
    "11 and RTX have no implicit INT8": f"{CODES}::test_int8_where_only_q_dq_is_possible",
    "a calibration cache that is found by name is stale": (
        "tests/backend/nvidia/test_calibration.py::test_a_cache_is_found_by_content_alone"
    ),
    # operators
    "8.5 has no importer for LayerNormalization": (
        "tests/graph/test_variants.py::test_jetpack5_has_no_layer_normalization"
    ),
    "a layer norm in parts overflows in FP16": (
        "tests/backend/nvidia/test_trtexec.py::test_a_layer_norm_in_parts_stays_in_fp32"
    ),
    "RTX warns of layer norms in FP16": f"{HERE}::test_a_layer_norm_of_one_node_keeps_its_statistics_in_fp32",
    "the Gelu operator is new in 10": f"{HERE}::test_no_operator_is_newer_than_the_oldest_runtime",
    "MaxUnpool, and MaxPool with a second output, exist nowhere": f"{RTX}::test_a_foreign_model_ends_in_one_line",
    "our own un-pooling must do without them": f"{HERE}::test_no_operator_is_newer_than_the_oldest_runtime",
    "scales of a Resize stay FP32": f"{HERE}::test_scales_of_a_resize_stay_fp32",
    "a Concat of different scales falls back to FP16": (
        f"{RTX}::test_every_part_of_the_family_builds_and_its_audit_is_the_snapshot"
    ),
    "UINT8 may meet nothing but a Cast": f"{HERE}::test_camera_bytes_meet_a_cast_and_nothing_else",
    "INT64 outputs are INT32 on 8, and INT64 to UINT8 is documented nowhere": (
        f"{HERE}::test_class_ids_leave_through_float"
    ),
    # running
    "a stream that waits for the default stream": (
        f"{RUNNER}::test_masks_are_those_of_onnx_runtime_and_no_rule_is_broken"
    ),
    "a capture with lazy initialisation, allocation or a collection inside": (
        f"{RUNNER}::test_nothing_is_made_or_freed_in_the_loop_and_everything_at_the_end"
    ),
    "a capture that is left open": f"{RUNNER}::test_the_collector_is_back_after_a_failed_capture",
    "a capture that is not possible": f"{RUNNER}::test_where_capture_is_not_possible_each_frame_is_enqueued",
    "a graph holds addresses": f"{RUNNER}::test_a_leased_mask_is_not_overwritten_by_later_frames",
    "RTX captures by itself, anew for each address": (
        "tests/backend/nvidia/test_runner_rtx.py::test_the_runtimes_own_graph_is_captured_once_because_its_buffers_stay"
    ),
    "RTX compiles at each start without its cache": (
        "tests/backend/nvidia/test_runner_rtx.py::test_what_was_compiled_for_the_gpu_is_kept_for_the_next_start"
    ),
    "pycuda.autoinit makes a second context; its contexts belong to threads": (
        f"{HERE}::test_the_driver_is_imported_as_every_version_has_it"
    ),
    "cuda.cuda became cuda.bindings.driver": f"{HERE}::test_the_driver_is_imported_as_every_version_has_it",
    "a profiler slows every layer, and a graph replays none": (
        "tests/backend/nvidia/test_builder.py::test_times_by_layer_carry_the_audits_names"
    ),
    "trtexec's defaults turned round in 11": "tests/bench/test_peers.py::test_flags_make_versions_alike",
    "8.6's inspector gives what is no JSON": (
        "tests/backend/nvidia/test_audit.py::test_bare_control_characters_between_nodes_are_read"
    ),
    "the inspector's JSON changed in 11": (
        "tests/backend/nvidia/test_audit.py::test_the_inspector_of_every_version_gives_the_same_audit"
    ),
    # RTX without a GPU
    "every parse error carries a line about the missing driver": (
        "tests/backend/nvidia/test_failures.py::test_a_known_line_becomes_its_error"
    ),
    "dynamic sizes without a profile": f"{RTX}::test_a_foreign_model_ends_in_one_line",
    "a workspace of 1 MiB leaves no kernel": f"{HERE}::test_too_little_workspace_is_one_line",
    "VERSION_COMPATIBLE and hardware compatibility fail there": f"{RTX}::test_what_rtx_lacks_is_said_by_name",
    "get_engine_validity says INVALID where there is only no driver": f"{HERE}::test_a_missing_driver_is_no_bad_plan",
}


def test_every_trap_has_its_test() -> None:
    missing = [place for place in TRAPS.values() if place.split("::")[1] not in names_in(place.split("::")[0])]
    assert missing == []


@functools.cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


# ---------------------------------------------------------------- the code


def sources() -> list[Path]:
    return [*(ROOT / "edgeseg").rglob("*.py"), *(ROOT / "tools").glob("*.py")]


def test_rtx_is_imported_by_its_bindings() -> None:
    assert MODULES["tensorrt_rtx"] == "tensorrt_rtx_bindings"


def test_no_flag_is_a_literal_bit() -> None:
    """`1 << 1` is STRONGLY_TYPED in 10, PREFER_JIT_PYTHON_PLUGINS in 11, and makes RTX return None."""
    shifts = [
        (file.name, ast.unparse(node))
        for file in (ROOT / "edgeseg" / "backend" / "nvidia").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift)
    ]
    assert ("api.py", "1 << int(bit)") in shifts
    literal = [item for item in shifts if "int(" not in item[1] and item != ("network.py", "1 << 20")]  # a mebibyte
    assert literal == []


def test_nothing_that_a_version_has_lost_is_touched() -> None:
    lost = {
        *("num_bindings", "get_binding_name", "execute_async_v2", "execute_v2", "max_workspace_size", "build_engine"),
        *("build_engine_with_config", "has_implicit_batch_dimension", "supports_model", "get_plugin_creator"),
        *("DIRECT_IO", "STRONGLY_TYPED", "REFIT", "precision", "set_output_type", "platform_has_fast_fp16"),
    }
    assert lost & {name for _, name in touched().direct} == set()


def test_the_driver_is_imported_as_every_version_has_it() -> None:
    imported = set()
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in imported if name.split(".")[0] in ("cuda", "pycuda")}
    assert ours == {"pycuda.driver", "cuda.bindings.driver"}  # no autoinit, no autoprimaryctx, no cuda.cuda, no cudart


# ---------------------------------------------------------------- the graphs


def quantised(norm: str, placement: Any) -> onnx.ModelProto:
    model = fix_frame_size(sample_model(norm=norm), (64, 96))
    return quantize(model, some_ranges(model), placement, bias_correction=False)


def graphs() -> dict[str, onnx.ModelProto]:
    """What each kind of runtime reads: (variant, precision) of both norms."""
    found = {}
    for norm in ("batch", "layer"):
        for variant, precision, placement in (
            ("weak", "fp32", NVIDIA),
            ("jetpack5", "fp32", NVIDIA),
            ("typed", "int8", NVIDIA_TYPED),
        ):
            found[f"{variant} {norm}"] = make_variant(quantised(norm, placement), variant, precision)
    return found


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


@pytest.fixture(scope="module")
def made() -> dict[str, onnx.ModelProto]:
    return graphs()


def test_q_dq_is_symmetric_and_of_the_types_that_a_parser_takes(made: dict[str, onnx.ModelProto]) -> None:
    for name, model in made.items():
        values, opset = constants(model), model.opset_import[0].version
        weak = not name.startswith("typed")
        assert opset <= 17 if weak else opset >= 19, name
        producers = {output: node for node in model.graph.node for output in node.output}
        pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert len(pairs) > 10
        for node in pairs:
            data, scale, zero = node.input
            assert values[scale].dtype == (np.float32 if weak else np.float16), (name, node.name)
            assert (values[scale] > 0).all()
            assert values[zero].dtype == np.int8
            assert (values[zero] == 0).all()
            if data in values:  # integers as constants: 8.5 takes them, INT32 nobody does
                assert values[data].dtype in (np.int8, np.float32, np.float16)
            elif producers[data].op_type not in ("QuantizeLinear",) and node.op_type == "QuantizeLinear":
                assert values[scale].size == 1, f"{name}: {node.name} has a scale for each channel of an activation"


def test_a_tensor_is_quantised_once_for_all_its_readers(made: dict[str, onnx.ModelProto]) -> None:
    for name, model in made.items():
        quantised_tensors = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
        assert len(quantised_tensors) == len(set(quantised_tensors)), name


def test_no_quantised_product_is_too_narrow() -> None:
    """NVIDIA's own tool leaves products under 16 channels in float, unless their number is a multiple of 8."""
    for name in preset_names():
        if name.startswith("edge-"):
            config = preset(name)
            widths = [*config.widths, *config.decoder_widths]
            assert all(width >= 16 or width % 8 == 0 for width in widths), name


def test_no_operator_is_newer_than_the_oldest_runtime(made: dict[str, onnx.ModelProto]) -> None:
    never = {"Gelu", "MaxUnpool", "GroupNormalization", "Mish", "HardSwish"}
    for name, model in made.items():
        operators = {node.op_type for node in model.graph.node}
        assert not operators & never, name
        assert ("LayerNormalization" in operators) == (name.endswith("layer") and not name.startswith("jetpack5"))
    pooled = canonical(msgspec.structs.replace(SMALL, upsample="max_unpool", downsample="max"))
    assert "MaxUnpool" not in {node.op_type for node in pooled.graph.node}
    assert all(len(node.output) == 1 for node in pooled.graph.node if node.op_type == "MaxPool")


def test_scales_of_a_resize_stay_fp32() -> None:
    model = make_variant(fix_frame_size(sample_model(norm="batch"), (128, 192), (64, 96)), "typed", "fp16")
    values = constants(model)
    resizes = [node for node in model.graph.node if node.op_type == "Resize"]
    assert resizes
    for node in resizes:
        for name in node.input[1:3]:
            if name:
                assert values[name].dtype == np.float32


@pytest.mark.parametrize("input_format", ["bgr", "nv12", "yuyv"])
@pytest.mark.parametrize(("variant", "precision"), [("weak", "fp32"), ("jetpack5", "fp32"), ("typed", "fp16")])
def test_camera_bytes_meet_a_cast_and_nothing_else(input_format: Any, variant: Any, precision: Any) -> None:
    model = fix_frame_size(sample_model(norm="batch"), (64, 96))
    if input_format != "bgr":
        model = camera_input(model, input_format)
    model = make_variant(model, variant, precision)
    inputs = {value.name for value in model.graph.input}
    readers = {node.op_type for node in model.graph.node if inputs & set(node.input)}
    assert readers == {"Cast"}


@pytest.mark.parametrize("tail", ["node", "phases"])
@pytest.mark.parametrize(("variant", "precision"), [("weak", "fp32"), ("jetpack5", "fp32"), ("typed", "fp16")])
def test_class_ids_leave_through_float(tail: str, variant: Any, precision: Any) -> None:
    """ArgMax gives INT64: bound as INT32 by 8, and UINT8 is documented from and to float types alone."""
    model = fix_frame_size(sample_model(norm="batch"), (64, 96))
    if tail == "phases":
        model = apply_forms(model, Forms(tail="phases"))
    model = make_variant(model, variant, precision)
    producers = {output: node for node in model.graph.node for output in node.output}
    types: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type == "Cast":
            types[node.output[0]] = next(item.i for item in node.attribute if item.name == "to")
    for output in model.graph.output:
        assert output.type.tensor_type.elem_type == TensorProto.UINT8
        last = producers[output.name]
        while last.op_type in ("Slice", "Resize", "Reshape", "Squeeze", "Transpose"):
            last = producers[last.input[0]]
        assert last.op_type == "Cast"
        source = last.input[0]
        while source not in types:
            node = producers[source]
            assert node.op_type != "ArgMax", "class ids go to UINT8 straight from INT64"
            source = node.input[0]
        assert types[source] in (TensorProto.FLOAT, TensorProto.FLOAT16)


# ---------------------------------------------------------------- the deploy room


def test_a_precision_that_cannot_be_built_leaves_others(tmp_path: Path) -> None:
    """One project reports that FP16 hits a builder assertion on an Orin Nano: INT8 and FP32 are still worth having."""
    from types import SimpleNamespace

    from edgeseg.core.progress import Silent
    from edgeseg.core.types import BuiltEngine, EngineSpec
    from edgeseg.deploy.candidates import Artefact, Plan, build_candidates

    def build(artefact: Path, folder: Path, spec: EngineSpec, progress: Any) -> BuiltEngine:
        if spec.precision == "fp16":
            raise EdgesegError("building: its process was aborted", value="SIGABRT; last words: Assertion failed")
        return BuiltEngine(file="engine.plan", backend="tensorrt", backend_version="10.16", precision=spec.precision)

    builder: Any = SimpleNamespace(name="tensorrt", version="10.16", build=build)
    plans = [Plan(name=f"tensorrt {p}", builder=builder, precision=p, options={}, artefact=Artefact(None, Forms()))
             for p in ("fp16", "fp32")]  # fmt: skip
    spec = EngineSpec(frame_size=(8, 8), classes=some_classes())
    built, notes = build_candidates(plans, spec, lambda _: tmp_path / "m.onnx", tmp_path, Silent())
    assert [item.name for item in built] == ["tensorrt fp32"]
    assert notes == [
        "tensorrt fp16 was not built: building: its process was aborted (SIGABRT; last words: Assertion failed)"
    ]


def some_classes() -> Any:
    from edgeseg.core.types import Classes

    return Classes(names=("road",), palette_rgb=((1, 2, 3),))


# ---------------------------------------------------------------- TensorRT-RTX, the real one

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None, reason="needs pip install 'edgeseg[rtx]'"
)


def rtx(file: Path, *, progress: Any = lambda *_: True, **options: Any) -> tuple[NetworkBuild, list[str]]:
    from edgeseg.backend.nvidia.api import load_api

    lines: list[str] = []
    job = BuildJob(model=file, plan=file.with_suffix(".plan"), precision="fp16", options=NvidiaOptions(**options))
    return NetworkBuild(load_api("tensorrt_rtx"), job, lambda _, text: lines.append(text), progress), lines


def saved(path: Path, norm: str = "batch", **forms: Any) -> Path:
    model = fix_frame_size(sample_model(norm=norm), (64, 96))
    save_model(path, make_variant(apply_forms(model, Forms(**forms)) if forms else model, "typed", "fp16"))
    return path


@pytest.mark.rtx
@needs_rtx
def test_a_cancelled_build_says_so(tmp_path: Path) -> None:
    build, _ = rtx(saved(tmp_path / "model.onnx"), progress=lambda *_: False)
    with pytest.raises(EdgesegError, match=r"could not build the engine.*cancel"):
        build.run()


@pytest.mark.rtx
@needs_rtx
def test_too_little_workspace_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    model = fix_frame_size(canonical(preset("edge-s")), (64, 96))
    save_model(
        file, make_variant(quantize(model, some_ranges(model), NVIDIA_TYPED, bias_correction=False), "typed", "int8")
    )
    build, _ = rtx(file, workspace_mb=1)
    with pytest.raises(EdgesegError, match=r"no kernel for a layer.*more workspace"):
        build.run()


@pytest.mark.rtx
@needs_rtx
def test_a_layer_norm_of_one_node_keeps_its_statistics_in_fp32(tmp_path: Path) -> None:
    """RTX warns of a norm in parts, whose variance it then really computes in FP16; of the node it does not."""
    warnings = {}
    for form in ("node", "parts"):
        build, lines = rtx(saved(tmp_path / f"{form}.onnx", "layer", layer_norm=form))
        build.run()
        warnings[form] = any("layernorm" in line.lower() and "overflow" in line.lower() for line in lines)
    assert warnings == {"node": False, "parts": True}


@pytest.mark.rtx
@needs_rtx
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_a_missing_driver_is_no_bad_plan(tmp_path: Path) -> None:
    from edgeseg.backend.nvidia.api import load_api
    from edgeseg.backend.nvidia.loading import LoadedEngine

    build, _ = rtx(saved(tmp_path / "model.onnx"))
    plan = tmp_path / "engine.plan"
    plan.write_bytes(build.run())
    shapes = {"frame": (1, 64, 96, 3)}, {"mask": (1, 64, 96)}
    with pytest.raises(UnavailableError, match=r"driver is missing or too old.*edgeseg doctor"):
        LoadedEngine(load_api("tensorrt_rtx"), plan).load(inputs=shapes[0], outputs=shapes[1])


def test_shipped_models_stay_readable() -> None:
    """What the list speaks of is what ships: every zoo model makes each variant."""
    from edgeseg.core.workspace import resolve_model, shipped_ranges, zoo_names

    for name in zoo_names():
        ranges = shipped_ranges(f"zoo:{name}")
        assert ranges is not None
        model = fix_frame_size(load_model(resolve_model(f"zoo:{name}")), (360, 480))
        for variant, placement in (("weak", NVIDIA), ("jetpack5", NVIDIA)):
            made = make_variant(quantize(model, load_ranges(ranges), placement), variant, "fp32")
            assert made.opset_import[0].version <= 17
