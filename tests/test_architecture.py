"""The layer contract is real: it holds, and a room without a layer breaks it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("lint-imports")
    if not script.exists():
        pytest.skip("import-linter is not installed")
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as c; c()",
            "--no-cache",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy_of_package(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "edgeseg", tmp_path / "edgeseg", ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_layers_hold(copy_of_package: Path) -> None:
    done = lint_imports(copy_of_package)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_room_without_a_layer_is_refused(copy_of_package: Path) -> None:
    (copy_of_package / "edgeseg" / "sideroom").mkdir()
    (copy_of_package / "edgeseg" / "sideroom" / "__init__.py").write_text('"""A side door."""\n')
    done = lint_imports(copy_of_package)
    assert done.returncode != 0
    assert "sideroom" in done.stdout


def test_an_upward_import_is_refused(copy_of_package: Path) -> None:
    (copy_of_package / "edgeseg" / "core" / "upward.py").write_text("from edgeseg.cli import main\n")
    done = lint_imports(copy_of_package)
    assert done.returncode != 0
    assert "edgeseg.core.upward -> edgeseg.cli" in done.stdout
