"""The trtexec line for JetPack 5."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import msgspec
import pytest

from edgeseg.backend.nvidia.trtexec import TRTEXEC, TrtexecBuilder, norm_layers, trtexec_line
from edgeseg.core.errors import CapabilityError
from edgeseg.core.types import EngineSpec


def test_int8_brings_fp16_along_and_names_with_spaces_survive() -> None:
    words = shlex.split(trtexec_line("my model.onnx", "engine.plan", "int8", workspace_mb=512))
    assert words[0] == TRTEXEC
    assert {"--onnx=my model.onnx", "--saveEngine=engine.plan", "--fp16", "--int8"} <= set(words)
    assert "--memPoolSize=workspace:512" in words
    assert "--timingCacheFile=engine.timing" in words
    assert not [word for word in words if word.startswith("--calib")]


def test_a_calibration_cache_is_passed_on() -> None:
    assert "--calib=x.cache" in trtexec_line("m.onnx", "e.plan", "int8", cache="x.cache")


def test_fp32_has_no_precision_flag_and_bf16_is_refused() -> None:
    assert "--fp16" not in trtexec_line("m.onnx", "e.plan", "fp32")
    with pytest.raises(CapabilityError, match="bf16"):
        trtexec_line("m.onnx", "e.plan", "bf16")


def test_the_bundle_of_a_board_that_edgeseg_does_not_run_on_is_the_graph_and_a_script(
    model_file: Path, spec: EngineSpec, tmp_path: Path
) -> None:
    builder = TrtexecBuilder()
    folder = tmp_path / "engine"
    folder.mkdir()
    fp16 = msgspec.structs.replace(spec, precision="fp16")
    built = builder.build(model_file, folder, fp16)
    assert {file.name for file in folder.iterdir()} == {"engine.onnx", "build_plan.sh"}
    assert not built.can_run_here
    script = folder / "build_plan.sh"
    script.write_text(script.read_text().replace(f"exec {TRTEXEC}", "exec echo"))
    for arguments, plan in (([], "engine.plan"), (["/data/my plan"], "/data/my plan")):
        done = subprocess.run(["sh", str(script), *arguments], cwd="/", capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"--onnx={folder}/engine.onnx --saveEngine={plan} --fp16")
        assert f"--timingCacheFile={plan}.timing" in done.stdout
    with pytest.raises(CapabilityError, match=r"build_plan\.sh"):
        builder.open(folder / built.file, fp16)


def test_a_layer_norm_in_parts_stays_in_fp32() -> None:
    """8.5 has no importer for the node, and computes the parts' squares in FP16 where it may: they overflow."""
    from edgeseg.graph import fix_frame_size, make_variant
    from edgeseg.graph.sample import sample_model

    parts = norm_layers(make_variant(fix_frame_size(sample_model(norm="layer"), (64, 96)), "jetpack5", "fp16"))
    assert {name.rpartition(".")[2] for name in parts} >= {"mean", "centred", "square", "variance", "root", "normal"}
    line = trtexec_line("m.onnx", "e.plan", "fp16", float_layers=parts)
    assert "--precisionConstraints=prefer" in line
    assert f"{parts[0]}:fp32,{parts[1]}:fp32" in line
    assert "layerPrecisions" not in trtexec_line("m.onnx", "e.plan", "fp32", float_layers=parts)
    assert norm_layers(make_variant(fix_frame_size(sample_model(norm="batch"), (64, 96)), "jetpack5", "fp16")) == []
