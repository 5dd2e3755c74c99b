"""tools/gpu_check.py end to end on the simulated GPU: every step runs, and the report says that it was no hardware."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeseg.graph import save_model
from edgeseg.graph.sample import sample_model

ROOT = Path(__file__).parents[2]
SIMULATED = ROOT / "tests" / "backend" / "nvidia" / "simulated"


def run(
    tmp_path: Path, *arguments: str, version: str = "10.3.0", **environment: str
) -> tuple[int, dict[str, Any], str]:
    model, out = tmp_path / "model.onnx", tmp_path / "out"
    save_model(model, sample_model(norm="batch"))
    small = [
        "--size",
        "40x56",
        "--seconds",
        "0.1",
        "--loops",
        "20",
        "--soak",
        "120",
        "--frames",
        "street:seed=3,frames=12",
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "gpu_check.py"), str(model), "--out", str(out), *small, *arguments],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(SIMULATED), str(ROOT)]),
            "EDGESEG_SIMULATED_TRT": version,
            "EDGESEG_CACHE": str(tmp_path / "cache"),
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Exception ignored" not in done.stderr, done.stderr[-3000:]  # something outlived the GPU's context
    file = out / "gpu_check.json"
    assert file.is_file(), done.stderr[-3000:]
    return done.returncode, json.loads(file.read_text()), (out / "gpu_check.md").read_text()


@pytest.mark.parametrize(("version", "precisions"), [("8.6.1", ["fp16", "int8"]), ("11.4.0.106", ["int8"])])
def test_every_step_runs_end_to_end(tmp_path: Path, version: str, precisions: list[str]) -> None:
    """Of both kinds of runtime: precision by flags, and by tensors. A step that fails would fail on hardware too."""
    _, report, page = run(tmp_path, "--precisions", *precisions, version=version)
    assert report["simulated"] is True
    assert "nothing ran on hardware" in page
    assert report["smoke"]["graph"] == "own"
    assert report["smoke"]["gpu"]["compute_capability"] == report["machine"]["compute_capability"] == "8.9"
    (results,) = report["models"].values()
    for precision in precisions:
        found = results["engines"][precision]
        assert found["agreement"]["pixels"] == 1.0
        assert found["soak"]["met"] is True
        assert found["cold_start"]["ms"] > 0
        assert found["times_graph"]["engine_ms"]["n"] > 0
        assert found["bare"]["captured"] is True
        assert found["times_no_graph"]["frame_to_mask_ms"]["p50"] > 0
        assert "error" not in json.dumps(found)
        assert f"| {precision} | 1 |" in page
    if len(precisions) > 1:
        assert results["faster"]["int8_over_fp16"]["ratio"] > 0
        assert "int8 over fp16, interleaved" in page
    if version.startswith("8."):
        for way in ("ranges", "entropy", "minmax"):
            assert results["implicit"][way]["pixels"] == 1.0
            assert f"without Q/DQ nodes, {way}: agreement 1" in page
    else:
        assert "Q/DQ nodes alone" in results["implicit"]["skipped"]
    assert "skipped" in results["torch"]
    # times of a simulation decide nothing: only its time bars may be missed
    assert all("at the median" in failure for failure in report["failures"])


@pytest.mark.parametrize(
    ("environment", "words"),
    [({"EDGESEG_SIMULATED_ABSENT": "1"}, "no NVIDIA GPU"), ({"EDGESEG_SIMULATED_TRT": "8.6.1"}, "")],
)
def test_the_smoke_comes_first_and_its_failure_ends_it(tmp_path: Path, environment: dict[str, str], words: str) -> None:
    code, report, page = run(tmp_path, "--smoke-only", **environment)
    assert report["models"] == {}
    assert code == (1 if words else 0)
    assert words in " ".join(report["failures"])
    assert words in page
