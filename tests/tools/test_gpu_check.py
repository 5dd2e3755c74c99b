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


def test_a_driver_that_is_not_there_is_one_line_of_the_report(tmp_path: Path) -> None:
    """pycuda links to the driver's library: without it the import itself fails, before there is a report."""
    package = tmp_path / "first" / "pycuda"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    words = "libcuda.so.1: cannot open shared object file"
    (package / "driver.py").write_text(f"raise ImportError({words!r})\n")
    path = os.pathsep.join([str(package.parent), str(SIMULATED), str(ROOT)])
    code, report, page = run(tmp_path, "--smoke-only", PYTHONPATH=path)
    assert code == 1
    assert [words in failure for failure in report["failures"]] == [True]
    assert words in page


def test_what_ends_in_the_middle_leaves_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lent machine goes back when its time is up, in whatever step the check is then."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from gpu_report import Check

    check = Check(tmp_path / "out", {"created": "now", "command": "gpu_check.py", "note": "shared GPU"})
    with check.step("smoke") as found:
        found["runtime"] = "tensorrt 8.6.1"
    results: dict[str, Any] = {}
    check.report["models"]["zoo:edge-s"] = {"engines": {"int8": results}}
    with pytest.raises(KeyboardInterrupt), check.step("implicit") as found, check.step("entropy", found):
        raise KeyboardInterrupt
    report = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    page = (tmp_path / "out" / "gpu_check.md").read_text()
    assert report["smoke"]["runtime"] == "tensorrt 8.6.1"
    assert report["unfinished"] == "implicit / entropy"
    assert "Ended early, in: implicit / entropy" in page
    assert "**shared GPU**" in page
    assert "Ended early" not in check.finish()
    assert "unfinished" not in json.loads((tmp_path / "out" / "gpu_check.json").read_text())


def test_steps_are_left_out_on_request(tmp_path: Path) -> None:
    """Minutes on a lent machine are few, and a soak beside a training would measure the training's memory."""
    _, report, page = run(tmp_path, "--precisions", "int8", "--skip", "soak", "implicit", "--note", "beside a training")
    (results,) = report["models"].values()
    assert "soak" not in results["engines"]["int8"]
    assert "implicit" not in results
    assert results["engines"]["int8"]["agreement"]["pixels"] == 1.0
    assert report["note"] == "beside a training"
    assert "**beside a training**" in page


KIT = ("msgspec", "click", "rich", "onnx", "onnxruntime", "cv2", "PIL", "numpy", "pycuda", "cuda", "tensorrt")
"""What a GPU machine without a network gets; docs/nvidia.md names the packages."""

REFUSE = """
import runpy, sys, sysconfig
from importlib.machinery import PathFinder

ALLOWED, HERE = set(sys.argv[1].split(",")), sysconfig.get_paths()["purelib"]
OURS = {"edgeseg", "simulated_gpu", "gpu_report", "gpu_subject"}
asked = set()


class Door:
    # what is installed is let in only where an allowed package asks for it, however far down
    def find_spec(self, name, path=None, target=None):
        root = name.split(".")[0]
        if root in ALLOWED or root in OURS or root in sys.stdlib_module_names:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or HERE not in str(spec.origin or ""):
            return None
        frame = sys._getframe(1)
        while frame is not None and ("importlib" in frame.f_code.co_filename or frame.f_code.co_filename[0] == "<"):
            frame = frame.f_back
        if frame is not None and HERE not in frame.f_code.co_filename:
            asked.add(root)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


sys.meta_path.insert(0, Door())
sys.argv = sys.argv[2:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("refused", sorted(asked), file=sys.stderr)
"""


def test_it_needs_no_more_than_the_kit_brings(tmp_path: Path) -> None:
    """A machine with a GPU and no network has what was carried there, and finds out too late what was forgotten."""
    model = tmp_path / "model.onnx"
    save_model(model, sample_model(norm="batch"))
    sys_path = os.pathsep.join([str(SIMULATED), str(ROOT), str(ROOT / "tools")])
    done = subprocess.run(
        [
            *(sys.executable, "-c", REFUSE, ",".join(KIT), str(ROOT / "tools" / "gpu_check.py"), str(model)),
            *("--out", str(tmp_path / "out"), "--size", "40x56", "--seconds", "0.05", "--loops", "5", "--soak", "5"),
            *("--precisions", "int8", "--frames", "street:seed=3,frames=10,size=64x96"),
        ],
        env={
            **os.environ,
            "PYTHONPATH": sys_path,
            "EDGESEG_SIMULATED_TRT": "11.4.0.106",
            "EDGESEG_CACHE": str(tmp_path / "cache"),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tmp_path / "out" / "gpu_check.json").is_file(), done.stderr[-3000:]
    report = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    found = report["models"][str(model)]["engines"]["int8"]
    assert found["agreement"]["pixels"] == 1.0
    assert "error" not in json.dumps(found)
    # torch is looked for and may be missing; yaml and the like are nobody's business
    refused = done.stderr.splitlines()[-1].removeprefix("refused ")
    assert set(json.loads(refused.replace("'", '"'))) <= {"torch", "safetensors", "torchvision"}
