"""Bundles for NVIDIA targets where nothing of NVIDIA can run: who executed the gate is said, no figure is borrowed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgeseg.backend import open_onnx
from edgeseg.bundle import verify_bundle
from edgeseg.bundle.golden import read_golden
from edgeseg.core.errors import CapabilityError, UnavailableError
from edgeseg.core.types import DeviceInfo
from edgeseg.deploy import BuildRequest, build_bundle
from edgeseg.deploy.candidates import _artefact
from edgeseg.deploy.target import check_board, load_target, with_options

from .conftest import SIZE

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None, reason="needs pip install 'edgeseg[rtx]'"
)


@pytest.fixture(scope="module")
def rtx_bundle(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        pytest.skip("needs pip install 'edgeseg[rtx]'")
    from edgeseg.core.progress import Silent

    data = f"folder:{workplace / 'data'}"
    request = BuildRequest(
        model=str(workplace / "model.onnx"),
        target="rtx",
        precision="int8",
        frames=data,
        data=data,
        max_drop=100.0,
        frame_size=SIZE,
    )
    return build_bundle(request, tmp_path_factory.mktemp("rtx") / "bundle", Silent()).bundle


@pytest.mark.rtx
def test_an_engine_that_cannot_run_here_is_gated_on_its_exact_artefact_and_says_so(rtx_bundle: Path) -> None:
    manifest = verify_bundle(rtx_bundle).manifest
    assert (manifest.engine.kind, manifest.engine.backend) == ("plan", "tensorrt_rtx")
    assert manifest.verified is False
    assert manifest.agreement.measured is None
    assert "engine_p50" not in manifest.times_ms
    assert manifest.gate is not None
    assert "onnxruntime" in manifest.gate.executor
    assert manifest.engine.layers["int8"] > 0
    assert manifest.device.gpu is None


@pytest.mark.rtx
def test_its_report_holds_the_audit_and_names_what_is_missing(rtx_bundle: Path) -> None:
    report = msgspec.json.decode((rtx_bundle / "report.json").read_bytes())
    (candidate,) = report["candidates"]
    assert candidate["engine_p50_ms"] is None
    assert "cannot run" in candidate["reason"]
    audit = candidate["details"]["audit"]
    assert audit["multiplying"]["int8"] > 0
    assert isinstance(audit["qdq_not_int8"], list)


@pytest.mark.rtx
def test_its_golden_masks_are_close_to_the_float_graphs(rtx_bundle: Path) -> None:
    bundle = verify_bundle(rtx_bundle)
    golden = read_golden(bundle)
    equal = []
    with open_onnx(bundle.model_file, SIZE) as runner:
        for item in golden:
            with runner.infer(item.frame[None]) as output:
                equal.append(float(np.mean(output.mask_nhw[0] == item.mask_hw)))
    assert np.mean(equal) > 0.9


class Fake:
    name, version = "tensorrt", "0"

    def __init__(self, variant: str) -> None:
        self.variant = variant


@pytest.mark.parametrize(
    ("variant", "precision", "expected"),
    [
        ("weak", "fp16", (None, "weak", "fp32", "node")),
        ("weak", "int8", ("nvidia", "weak", "fp32", "node")),
        ("typed", "fp32", (None, "cpu", "fp32", "node")),
        ("typed", "fp16", (None, "typed", "fp16", "node")),
        ("typed", "int8", ("nvidia-typed", "typed", "int8", "node")),
        ("typed", "bf16", (None, "typed", "bf16", "shuffle")),
    ],
)
def test_the_graph_follows_from_the_runtime(variant: str, precision: str, expected: tuple[object, ...]) -> None:
    artefact = _artefact(Fake(variant), precision, load_target("gpu", DeviceInfo()))
    assert (artefact.placement, artefact.variant, artefact.precision, artefact.forms.transposed) == expected


@pytest.mark.parametrize(
    ("board", "target"),
    [
        ("Jetson Orin Nano 8GB (developer kit)", "orin-nano"),
        ("Jetson Orin NX", "orin-nx"),
        ("Jetson AGX Orin", "agx-orin"),
        ("Jetson AGX Thor", "agx-thor"),
        ("Jetson Xavier NX", "jetpack5"),
        (None, "cpu"),
    ],
)
def test_auto_is_the_boards_own_recipe(board: str | None, target: str) -> None:
    device = DeviceInfo(machine="aarch64" if board else "x86_64", board=board, gpu=board)
    assert load_target("auto", device).name == target


def test_a_boards_plan_is_built_on_the_board(workplace: Path, tmp_path: Path) -> None:
    from edgeseg.core.progress import Silent

    request = BuildRequest(model=str(workplace / "model.onnx"), target="orin-nx", precision="fp16", frame_size=SIZE)
    with pytest.raises(UnavailableError, match=r"built on the board that runs it.*Jetson Orin NX"):
        build_bundle(request, tmp_path / "bundle", Silent())
    here = DeviceInfo(machine="aarch64", board="Jetson Orin NX", gpu="Jetson Orin NX (integrated)")
    check_board(load_target("orin-nx", here), here)
    check_board(load_target("rtx", here), DeviceInfo())


def test_jetpack5_is_the_graph_and_the_line_that_builds_it(workplace: Path, tmp_path: Path) -> None:
    from edgeseg.bundle import open_bundle, open_runner
    from edgeseg.core.progress import Silent

    request = BuildRequest(model=str(workplace / "model.onnx"), target="jetpack5", precision="fp16", frame_size=SIZE)
    path = build_bundle(request, tmp_path / "bundle", Silent()).bundle
    assert '/usr/src/tensorrt/bin/trtexec --onnx="$here/engine.onnx"' in (path / "build_plan.sh").read_text()
    bundle = open_bundle(path)
    assert bundle.manifest.verified is False
    with pytest.raises(CapabilityError, match=r"build_plan\.sh"):
        open_runner(bundle)


def test_the_fp16_sibling_is_timed_and_never_chosen(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime stands in for a backend that asks for a sibling; its INT8 fails the gate, its FP32 would pass."""
    from edgeseg.backend.onnxruntime import OnnxRuntimeBuilder
    from edgeseg.core.errors import GateError
    from edgeseg.core.progress import Silent

    monkeypatch.setattr(
        OnnxRuntimeBuilder, "sibling", lambda self, precision: "fp32" if precision == "int8" else None, raising=False
    )
    data = f"folder:{workplace / 'data'}"
    request = BuildRequest(
        model=str(workplace / "model.onnx"),
        target="cpu",
        precision="int8",
        backend="onnxruntime",
        frames=data,
        frame_size=SIZE,
    )
    built = build_bundle(request, tmp_path / "bundle", Silent())
    path = built.bundle
    report = msgspec.json.decode((path / "report.json").read_bytes())
    chosen, sibling = report["candidates"]
    if chosen["for_its_time_alone"]:
        chosen, sibling = sibling, chosen
    assert (chosen["precision"], sibling["precision"]) == ("int8", "fp32")
    assert sibling["ratio_to_chosen"] == pytest.approx(sibling["engine_p50_ms"] / chosen["engine_p50_ms"])
    assert verify_bundle(path).manifest.engine.precision == "int8"
    (rivals,) = report["int8_against_float"]  # which one is faster, and by how much
    assert (rivals["int8"], rivals["floating"]) == (chosen["name"], sibling["name"])
    faster = min((chosen, sibling), key=lambda item: item["engine_p50_ms"])
    assert rivals["faster"] == faster["name"]
    assert rivals["ratio"] == pytest.approx(chosen["engine_p50_ms"] / sibling["engine_p50_ms"])
    (note,) = [text for text in built.notes if "times as fast as" in text]
    assert note.startswith(f"{faster['name']} is ")
    strict = msgspec.structs.replace(request, data=data, max_drop=0.0)
    monkeypatch.setattr("edgeseg.deploy.choice.losses", lambda *_: ["lost"])
    monkeypatch.setattr("edgeseg.deploy.choice.gate_error", lambda *_: GateError("not met"))
    with pytest.raises(GateError):
        build_bundle(strict, tmp_path / "other", Silent())


def test_an_implicit_int8_engine_gets_the_float_graph_and_a_calibration_cache(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeseg.backend.nvidia.calibration import decode_cache
    from edgeseg.core.progress import Silent
    from edgeseg.deploy.job import ArtefactWriter, start_job
    from edgeseg.graph import load_model, read_meta

    target = load_target("gpu", DeviceInfo())
    target = msgspec.structs.replace(target, options={"tensorrt": {"implicit": True}})
    artefact = _artefact(Fake("weak"), "int8", target)
    assert (artefact.placement, artefact.calibration) == (None, "0")
    data = f"folder:{workplace / 'data'}"
    request = BuildRequest(
        model=str(workplace / "model.onnx"), target="cpu", precision="int8", frames=data, frame_size=SIZE
    )
    job = start_job(request, tmp_path, Silent())
    file = ArtefactWriter(job)(artefact._replace(calibration="8.6.1"))
    assert read_meta(load_model(file)).variant == "weak"
    found = decode_cache(file.with_suffix(".cache").read_bytes())
    assert found.keys() == job.ranges.tensors.keys()
    for name, amax in found.items():
        item = job.ranges.tensors[name]
        assert 0 < amax <= max(abs(item.minimum), abs(item.maximum)) * 1.01


@pytest.mark.parametrize("name", ["orin-nano", "orin-nx", "agx-orin"])
def test_a_boards_peaks_are_those_of_its_cores(name: str) -> None:
    """An Orin's tensor cores do 16 times the INT8 and 8 times the FP16 multiply-adds of its CUDA cores' FP32."""
    peaks = load_target(name, DeviceInfo()).peaks
    assert peaks is not None
    assert peaks.macs_per_s["int8"] == pytest.approx(16 * peaks.macs_per_s["fp32"], rel=0.05)
    assert peaks.macs_per_s["fp16"] == pytest.approx(8 * peaks.macs_per_s["fp32"], rel=0.05)
    assert "data sheet" in peaks.source


def test_every_recipe_loads() -> None:
    from edgeseg.core.workspace import recipe_names

    names = recipe_names("targets")
    assert {"cpu", "rtx", "gpu", "orin-nano", "orin-nx", "agx-orin", "agx-thor", "jetpack5"} <= set(names)
    for name in names:
        assert load_target(name, DeviceInfo()).name == name


def test_backend_options_of_a_build_go_over_the_recipes_own_and_into_the_bundle(
    workplace: Path, tmp_path: Path
) -> None:
    from edgeseg.core.errors import RequestError
    from edgeseg.core.progress import Silent

    target = load_target("gpu", DeviceInfo())
    recipe = msgspec.structs.replace(target, options={"tensorrt": {"workspace_mb": 512, "dla_core": 0}})
    merged = with_options(recipe, {"workspace_mb": 64, "max_gpu_fallback": 0.3})
    assert merged.options["tensorrt"] == {"workspace_mb": 64, "dla_core": 0, "max_gpu_fallback": 0.3}
    request = BuildRequest(
        model=str(workplace / "model.onnx"),
        target="jetpack5",
        precision="fp16",
        frame_size=SIZE,
        options={"workspace_mb": 77},
    )
    path = build_bundle(request, tmp_path / "bundle", Silent()).bundle
    assert "--memPoolSize=workspace:77" in (path / "build_plan.sh").read_text()
    assert "workspace_mb = 77" in (path / "source" / "build.toml").read_text()  # a rebuild has it too
    with pytest.raises(RequestError, match="option of the backend trtexec"):
        build_bundle(msgspec.structs.replace(request, options={"speed": "max"}), tmp_path / "other", Silent())


def test_options_are_typed_as_people_write_them() -> None:
    from edgeseg.cli.cmd_build import _backend_options
    from edgeseg.core.errors import RequestError

    texts = ("dla_core=0", "implicit=true", "max_gpu_fallback=0.25", "calibrator=minmax", "compute_capabilities='8.6'")
    assert _backend_options(texts) == {
        "dla_core": 0,
        "implicit": True,
        "max_gpu_fallback": 0.25,
        "calibrator": "minmax",
        "compute_capabilities": "8.6",
    }
    with pytest.raises(RequestError, match="NAME=VALUE"):
        _backend_options(("dla_core",))
