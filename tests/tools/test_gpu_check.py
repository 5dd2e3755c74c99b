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
        "0.2",
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
            "PYTHONPATH": str(SIMULATED),
            "EDGESEG_SIMULATED_TRT": "10.3.0",
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


def test_every_step_runs_end_to_end(tmp_path: Path) -> None:
    _, report, page = run(tmp_path, "--precisions", "fp16", "int8")
    assert report["simulated"] is True
    assert "nothing ran on hardware" in page
    assert report["smoke"]["graph"] == "own"
    for precision in ("fp16", "int8"):
        found = report["engines"][precision]
        assert found["agreement"]["pixels"] == 1.0
        assert found["soak"]["met"] is True
        assert found["cold_start"]["ms"] > 0
        assert found["times_graph"]["engine_ms"]["n"] > 0
        assert found["bare"]["captured"] is True
        assert "error" not in json.dumps({key: value for key, value in found.items() if key != "audit"})
    assert "skipped" in report["torch"]
    # times of a simulation decide nothing: only its time bars may be missed
    assert all("at the median" in failure for failure in report["failures"])


@pytest.mark.parametrize(
    ("environment", "words"),
    [({"EDGESEG_SIMULATED_ABSENT": "1"}, "no NVIDIA GPU"), ({"EDGESEG_SIMULATED_TRT": "8.6.1"}, "")],
)
def test_the_smoke_comes_first_and_its_failure_ends_it(tmp_path: Path, environment: dict[str, str], words: str) -> None:
    code, report, page = run(tmp_path, "--smoke-only", **environment)
    assert report["engines"] == {}
    assert code == (1 if words else 0)
    assert words in " ".join(report["failures"])
    assert words in page
