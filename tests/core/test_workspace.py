from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from edgeseg.core import workspace
from edgeseg.core.errors import EdgesegError, RequestError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the installed package, with nothing in it, and an empty current folder."""
    root = tmp_path / "site" / "edgeseg"
    (root / "zoo").mkdir(parents=True)
    monkeypatch.setattr(workspace, "_PACKAGE", root)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return root


def recipe(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text)


def test_recipes_are_found_in_workspace_then_wheel_then_checkout(package: Path) -> None:
    recipe(package.parent / "engines/targets", "cpu", "checkout")
    assert workspace.find_recipe("targets", "cpu").read_text() == "checkout"
    recipe(package / "_workspace/engines/targets", "cpu", "wheel")
    assert workspace.find_recipe("targets", "cpu").read_text() == "wheel"
    recipe(Path("engines/targets"), "cpu", "workspace")
    assert workspace.find_recipe("targets", "cpu").read_text() == "workspace"


def test_unknown_recipe_names_the_others(package: Path) -> None:
    recipe(Path("calibration"), "street", "")
    with pytest.raises(
        RequestError, match=r"unknown calibration recipe \(streed\); allowed: street .*did you mean street"
    ):
        workspace.find_recipe("calibration", "streed")


def test_zoo_names_resolve_and_others_are_refused(package: Path) -> None:
    (package / "zoo" / "edge-s.onnx").touch()
    (package / "zoo" / "edge-s.ranges.json").touch()
    assert workspace.resolve_model("zoo:edge-s").name == "edge-s.onnx"
    assert workspace.shipped_ranges("zoo:edge-s") == package / "zoo" / "edge-s.ranges.json"
    with pytest.raises(RequestError, match="did you mean edge-s"):
        workspace.resolve_model("zoo:edge-x")
    with pytest.raises(RequestError, match="does not exist"):
        workspace.resolve_model("nowhere.onnx")


def test_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("EDGESEG_CACHE", raising=False)
    assert workspace.cache_dir() == tmp_path / "edgeseg"
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path / "own"))
    assert workspace.cache_dir() == tmp_path / "own"


def _try_lock(path: Path, answer: multiprocessing.Queue[str]) -> None:
    try:
        with workspace.lock(path, timeout_s=0.2):
            answer.put("taken")
    except EdgesegError as error:
        answer.put(str(error))


def test_lock_keeps_a_second_process_out(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answer: multiprocessing.Queue[str] = context.Queue()
    path = tmp_path / "locks" / "x.lock"
    with workspace.lock(path):
        other = context.Process(target=_try_lock, args=(path, answer))
        other.start()
        assert "another process holds the lock" in answer.get(timeout=30)
        other.join()
    other = context.Process(target=_try_lock, args=(path, answer))
    other.start()
    assert answer.get(timeout=30) == "taken"
    other.join()
    answer.close()
    answer.join_thread()
