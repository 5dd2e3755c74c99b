"""A bundle is written whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path

import pytest

from edgeseg.bundle import verify_bundle, write_bundle
from edgeseg.core.errors import DataError, RequestError, VerifyError

from .conftest import ContentsFactory


def test_nothing_is_left_when_writing_fails_at_any_point(
    tmp_path: Path, make_contents: ContentsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = make_contents()
    out = tmp_path / "engines" / "demo"

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in ("shutil.copyfile", "write_golden", "encode_manifest", "write_sums", "read_bundle"):
        with monkeypatch.context() as patch:
            patch.setattr(f"edgeseg.bundle.write.{step}", full)
            with pytest.raises(DataError, match="disk is full"):
                write_bundle(out, contents)
        assert list(out.parent.iterdir()) == []
    verify_bundle(write_bundle(out, contents))


def test_an_existing_folder_is_never_written_into(bundle_dir: Path, make_contents: ContentsFactory) -> None:
    before = verify_bundle(bundle_dir).id
    with pytest.raises(RequestError, match="exists"):
        write_bundle(bundle_dir, make_contents(seed=1))
    assert verify_bundle(bundle_dir).id == before


@pytest.mark.parametrize("frames", [0, 3, 9])
def test_too_few_or_too_many_golden_frames_are_refused(
    tmp_path: Path, make_contents: ContentsFactory, frames: int
) -> None:
    with pytest.raises(RequestError, match="4 to 8"):
        write_bundle(tmp_path / "out", make_contents(frames=frames))
    assert not (tmp_path / "out").exists()


def test_a_manifest_of_another_model_is_found_while_writing(tmp_path: Path, make_contents: ContentsFactory) -> None:
    contents = dataclasses.replace(make_contents(), manifest=make_contents(seed=1).manifest)
    with pytest.raises(VerifyError, match="another model"):
        write_bundle(tmp_path / "out", contents)
    assert not (tmp_path / "out").exists()


def test_the_same_contents_give_the_same_id(tmp_path: Path, make_contents: ContentsFactory) -> None:
    one = verify_bundle(write_bundle(tmp_path / "one", make_contents()))
    two = verify_bundle(write_bundle(tmp_path / "two", make_contents()))
    other = verify_bundle(write_bundle(tmp_path / "other", make_contents(seed=1)))
    assert one.id == two.id != other.id
