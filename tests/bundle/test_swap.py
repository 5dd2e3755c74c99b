"""Replacing a bundle keeps the last good one; rolling back exchanges the two; a second process waits."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from edgeseg.bundle import replace_bundle, roll_back, swap, verify_bundle
from edgeseg.bundle.contents import last_good_path
from edgeseg.core.errors import EdgesegError, RequestError, VerifyError
from edgeseg.core.workspace import lock

from .conftest import ContentsFactory


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_the_replaced_bundle_becomes_the_last_good_one(bundle_dir: Path, make_contents: ContentsFactory) -> None:
    ids = [verify_bundle(bundle_dir).id]
    for seed in (1, 2):
        replace_bundle(bundle_dir, make_contents(seed=seed))
        ids.append(verify_bundle(bundle_dir).id)
        assert verify_bundle(last_good_path(bundle_dir)).id == ids[-2]
    assert len(set(ids)) == 3
    assert names(bundle_dir.parent) == {"demo", ".demo.last-good", ".demo.lock"}


def test_rolling_back_twice_goes_forward_again(bundle_dir: Path, make_contents: ContentsFactory) -> None:
    old = verify_bundle(bundle_dir).id
    replace_bundle(bundle_dir, make_contents(seed=1))
    new = verify_bundle(bundle_dir).id
    for expected in (old, new, old):
        restored = roll_back(bundle_dir)
        assert restored.id == verify_bundle(bundle_dir).id == expected
        assert restored.path == bundle_dir


def test_rolling_back_restores_a_bundle_that_has_vanished(bundle_dir: Path, make_contents: ContentsFactory) -> None:
    old = verify_bundle(bundle_dir).id
    replace_bundle(bundle_dir, make_contents(seed=1))
    bundle_dir.rename(bundle_dir.with_name("taken-away"))
    assert roll_back(bundle_dir).id == verify_bundle(bundle_dir).id == old


def test_without_a_last_good_bundle_there_is_nothing_to_go_back_to(bundle_dir: Path) -> None:
    with pytest.raises(RequestError, match="no last good bundle"):
        roll_back(bundle_dir)


def test_a_damaged_last_good_bundle_is_not_rolled_back_to(bundle_dir: Path, make_contents: ContentsFactory) -> None:
    replace_bundle(bundle_dir, make_contents(seed=1))
    present = verify_bundle(bundle_dir).id
    (last_good_path(bundle_dir) / "report.json").write_text("{}")
    with pytest.raises(VerifyError):
        roll_back(bundle_dir)
    assert verify_bundle(bundle_dir).id == present


def test_a_damaged_bundle_is_replaced_but_not_kept(
    bundle_dir: Path, make_contents: ContentsFactory, caplog: pytest.LogCaptureFixture
) -> None:
    (bundle_dir / "report.json").write_text("{}")
    replace_bundle(bundle_dir, make_contents(seed=1))
    verify_bundle(bundle_dir)
    assert not last_good_path(bundle_dir).exists()
    assert "does not verify: a file of the bundle was altered (report.json" in caplog.text
    assert "try:" not in caplog.text


def test_a_failed_replacement_leaves_the_bundle_as_it_was(bundle_dir: Path, make_contents: ContentsFactory) -> None:
    before = verify_bundle(bundle_dir).id
    with pytest.raises(RequestError):
        replace_bundle(bundle_dir, make_contents(frames=2))
    assert verify_bundle(bundle_dir).id == before
    assert names(bundle_dir.parent) == {"demo", ".demo.lock"}


def test_what_a_killed_process_left_is_cleared(bundle_dir: Path, make_contents: ContentsFactory) -> None:
    left = bundle_dir.with_name(".demo.candidate")
    left.mkdir()
    (left / "half").write_text("x")
    replace_bundle(bundle_dir, make_contents(seed=1))
    assert not left.exists()


def test_folders_are_exchanged_where_the_kernel_cannot_do_it_atomically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_exchange_atomically", lambda one, other: False)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    swap.exchange(tmp_path / "one", tmp_path / "other")
    assert names(tmp_path / "one") == {"other"}
    assert names(tmp_path / "other") == {"one"}
    assert names(tmp_path) == {"one", "other"}


def _hold(file: Path, held: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with lock(file):
        held.set()
        done.wait(30)


def test_a_second_process_cannot_swap_meanwhile(
    bundle_dir: Path, make_contents: ContentsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(swap.lock_path(bundle_dir), held, done))
    other.start()
    try:
        assert held.wait(30)
        monkeypatch.setattr(swap, "lock", lambda path: lock(path, timeout_s=0.1))
        with pytest.raises(EdgesegError, match="another process holds the lock"):
            replace_bundle(bundle_dir, make_contents(seed=1))
    finally:
        done.set()
        other.join()
    replace_bundle(bundle_dir, make_contents(seed=1))
