from __future__ import annotations

import errno
from pathlib import Path

import pytest

from edgeseg.core.artefacts import atomic_file, atomic_folder, check_place, sha256_bytes, sha256_file, write_text
from edgeseg.core.errors import DataError, RequestError


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "b") as folder:
        (folder / "x").write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError
    assert (tmp_path / "a.txt").read_text() == "old"


def test_folder_refuses_to_replace_unasked(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()
    with pytest.raises(RequestError, match="exists"), atomic_folder(tmp_path / "b"):
        pass
    with atomic_folder(tmp_path / "b", replace=True) as folder:
        (folder / "new").touch()
    assert [file.name for file in (tmp_path / "b").iterdir()] == ["new"]
    assert [file.name for file in tmp_path.iterdir()] == ["b"]


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="disk is full"), atomic_file(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_is_the_fault_of_who_asked(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for place in ("folder", "file/below", "n" * 300):
        with pytest.raises(RequestError, match="folder"):
            write_text(tmp_path / place, "x")
    with pytest.raises(RequestError, match="cannot write here"), atomic_folder(tmp_path / "file" / "below"):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_digest_of_parts_is_not_that_of_their_join(tmp_path: Path) -> None:
    assert sha256_bytes(b"ab", b"c") != sha256_bytes(b"a", b"bc")
    (tmp_path / "x").write_bytes(b"")
    assert sha256_file(tmp_path / "x") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_place_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    check_place(tmp_path / "a" / "b" / "o.mp4")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "o.mp4").write_text("old")
    check_place(tmp_path / "o.mp4")
    assert (tmp_path / "o.mp4").read_text() == "old"
    with pytest.raises(RequestError, match="a folder"):
        check_place(tmp_path)
    with pytest.raises(RequestError, match="too long"):
        check_place(tmp_path / "a" / ("n" * 300))
    with pytest.raises(RequestError, match="no ordinary file"):
        check_place(Path("/dev/null"))
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]


def test_a_full_disk_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edgeseg.core.artefacts.tempfile.mkstemp", full)
    with pytest.raises(DataError, match="disk is full"):
        check_place(tmp_path / "a" / "o.mp4")
    assert list(tmp_path.iterdir()) == []
