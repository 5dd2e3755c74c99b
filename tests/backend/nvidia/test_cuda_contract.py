"""What cuda.py touches of cuda-bindings' driver API exists in the installed package and takes these arguments; and what
it touches of pycuda exists in the simulated one, which was written after pycuda 2026.1's own source."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOM = Path(__file__).parents[3] / "edgeseg" / "backend" / "nvidia"
FILES = ("cuda.py", "gpu.py")
LOOK = """
import json, sys
from cuda.bindings import driver
json.dump({name: (getattr(driver, name).__doc__ or "").splitlines()[:1] for name in sys.argv[1:]}, sys.stdout)
"""


def touched(module: str) -> tuple[set[str], dict[str, set[int]]]:
    """Dotted names under a module's variable, and how many arguments each of its functions is called with."""
    names: set[str] = set()
    calls: dict[str, set[int]] = {}
    for node in (item for file in FILES for item in ast.walk(ast.parse((ROOM / file).read_text()))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == module:
            names.add(node.attr)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == module
        ):
            calls.setdefault(node.func.attr, set()).add(len(node.args) + len(node.keywords))
    return names, calls


def test_the_driver_api_has_every_function_with_these_arguments() -> None:
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
        pytest.skip("needs cuda-bindings: pip install 'edgeseg[tensorrt]'")
    names, calls = touched("driver")
    assert {"cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphLaunch", "cuEventRecordWithFlags"} <= names
    done = subprocess.run([sys.executable, "-c", LOOK, *sorted(names)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, counts in calls.items():
        (signature,) = found[name]
        parameters = re.fullmatch(rf"{name}\((.*)\)", signature)
        assert parameters is not None, signature
        assert counts == {len(parameters[1].split(",")) if parameters[1] else 0}, signature


@pytest.mark.parametrize("module", ["cuda", "driver"])
def test_the_simulated_packages_have_what_is_touched(simulate: Callable[..., Any], module: str) -> None:
    simulate()
    stand_in = importlib.import_module("pycuda.driver" if module == "cuda" else "cuda.bindings.driver")
    names, _ = touched(module)
    assert names
    assert [name for name in names if not hasattr(stand_in, name)] == []
