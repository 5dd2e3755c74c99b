"""What the extras bring, and what works without them."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from edgeseg.core.config import tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def resolve(extra: str) -> set[str]:
    """Names of all distributions that an extra brings: ours from pyproject, theirs from installed metadata."""
    todo = list(PROJECT["dependencies"]) + list(PROJECT["optional-dependencies"][extra])
    seen: set[str] = set()
    while todo:
        requirement = todo.pop()
        name = name_of(requirement)
        if name == "edgeseg":
            inner = re.search(r"\[(.*?)\]", requirement)
            assert inner
            todo += [item for part in inner[1].split(",") for item in PROJECT["optional-dependencies"][part]]
            continue
        if name in seen:
            continue
        seen.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # pycuda and cuda-bindings of a board are not installed here
        todo += [need for need in needs if "extra ==" not in need]
    return seen


@pytest.mark.parametrize("extra", ["jetpack6", "jetpack7"])
def test_on_a_jetson_nothing_is_installed_over_jetpack_s_packages(extra: str) -> None:
    names = resolve(extra)
    assert {"onnx", "onnxruntime", "numpy", "pycuda"} <= names
    assert not {name for name in names if name.startswith(("opencv", "tensorrt", "torch"))}


def test_python_packages_of_jetpack_6_stay_at_numpy_1() -> None:
    assert "numpy<2" in PROJECT["optional-dependencies"]["jetpack6"]


def test_the_walk_would_see_opencv() -> None:
    assert "opencv-python" in resolve("cpu")


@pytest.fixture(scope="module")
def venv_without_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with everything that is installed here but torch; made of links, without a network."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    left_out = ("torch", "nvidia", "triton", "functorch", "safetensors", "tensorboard", "_editable", "__editable")
    for item in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not item.name.startswith(left_out):
            (site / item.name).symlink_to(item)
    (site / "edgeseg.pth").write_text(str(ROOT))
    return folder / "bin" / "python"


def run_in(python: Path, *code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *code], capture_output=True, text=True, check=False, cwd="/")


def test_every_module_but_train_s_imports_without_torch(venv_without_torch: Path) -> None:
    code = """
import importlib, pkgutil, edgeseg
needs_torch = ("edgeseg.train.", "edgeseg.model.", "edgeseg.export.", "edgeseg.bench.torch_peer", "edgeseg.__main__")
failed = []
for module in pkgutil.walk_packages(edgeseg.__path__, "edgeseg."):
    if module.name.startswith(needs_torch):
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        if error.name not in ("pycuda", "tensorrt", "tensorrt_rtx", "rclpy"):
            failed.append((module.name, str(error)))
print(failed)
"""
    done = run_in(venv_without_torch, "-c", code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_without_torch_train_names_the_extra(venv_without_torch: Path, tmp_path: Path) -> None:
    done = run_in(
        venv_without_torch,
        "-m",
        "edgeseg",
        "train",
        "--data",
        "street:",
        "--model",
        "edge-s",
        "--out",
        str(tmp_path / "run"),
    )
    assert done.returncode == 4, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "edgeseg: error: edgeseg train needs the package torch (not installed); try: pip install 'edgeseg[train]'"
    )


def test_python_of_the_venv_is_this_one(venv_without_torch: Path) -> None:
    done = run_in(venv_without_torch, "-c", "import sys, numpy; print(sys.version_info[:2])")
    assert done.stdout.strip() == str(sys.version_info[:2])
    assert run_in(venv_without_torch, "-c", "import torch").returncode != 0


@pytest.fixture(scope="module")
def venv_that_trains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with torch, torchvision, safetensors, what edgeseg always needs, and what those need."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    wanted = with_needs(["torch", "torchvision", "safetensors", *PROJECT["dependencies"]])
    for distribution in map(importlib.metadata.distribution, sorted(wanted)):
        for item in {path.parts[0] for path in distribution.files or () if path.parts[0] not in ("..", "__pycache__")}:
            if not (site / item).exists():
                (site / item).symlink_to(distribution.locate_file(item))
    (site / "edgeseg.pth").write_text(str(ROOT))
    return folder / "bin" / "python"


def with_needs(requirements: list[str]) -> set[str]:
    """Installed distributions of some requirements and all that they need."""
    todo, seen = list(requirements), set()
    while todo:
        name = name_of(todo.pop())
        if name in seen:
            continue
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform or Python
        seen.add(name)
        todo += [need for need in needs if "extra ==" not in need]
    return seen


def test_a_packed_file_is_learned_from_with_torch_alone(venv_that_trains: Path, tmp_path: Path) -> None:
    """As on a GPU machine that has torch and nothing of ours: no OpenCV, onnx, onnxruntime, OpenVINO or TensorBoard."""
    absent = ("cv2", "onnx", "onnxruntime", "openvino", "tensorboard", "matplotlib")
    code = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    assert run_in(venv_that_trains, "-c", code, *absent).stdout.strip() == "[]"
    packed, out = tmp_path / "street.packed", tmp_path / "run"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "edgeseg", "data", "pack", "street:seed=1,frames=8,size=64x96"),
            *("--out", str(packed)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    words = ["-m", "edgeseg", "train", "--data", f"packed:{packed}", "--model", "edge-s", "--out", str(out)]
    words += ["--epochs", "1", "--batch", "4", "--device", "cpu", "--json"]
    trained = run_in(venv_that_trains, *words)
    assert trained.returncode == 0, trained.stderr
    assert "TensorBoard is not installed" in trained.stderr
    names = {file.name for file in out.iterdir()}
    assert {"config.toml", "weights.safetensors", "checkpoint", "metrics.jsonl", "frames", "done.json"} <= names
    assert "tensorboard" not in names
