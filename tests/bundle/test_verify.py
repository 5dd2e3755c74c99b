"""A bundle opens when every byte is in its place, and is refused by name when one is not."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgeseg.bundle import open_bundle, verify_bundle
from edgeseg.bundle.golden import read_golden
from edgeseg.core.errors import RequestError, VerifyError

from .conftest import DEVICE, ContentsFactory, reseal


def files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def test_a_sound_bundle_opens_and_its_id_is_the_digest_of_its_sums(bundle_dir: Path) -> None:
    bundle = open_bundle(bundle_dir, device=DEVICE)
    assert bundle.id == hashlib.sha256((bundle_dir / "SHA256SUMS").read_bytes()).hexdigest()
    assert bundle.manifest.name == "demo"
    assert bundle.engine_file.is_file()
    assert bundle.ranges_file is not None
    assert 'precision = "int8"' in bundle.recipe_file.read_text()


def test_coreutils_agrees_with_the_sums(bundle_dir: Path) -> None:
    assert shutil.which("sha256sum"), "coreutils"
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=bundle_dir, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout
    listed = (bundle_dir / "SHA256SUMS").read_text().count("\n")
    assert listed == len(files(bundle_dir)) - 1


def test_golden_frames_come_back_bit_equal(bundle_dir: Path, make_contents: ContentsFactory) -> None:
    for got, put in zip(read_golden(verify_bundle(bundle_dir)), make_contents().golden, strict=True):
        np.testing.assert_array_equal(got.frame, put.frame)
        np.testing.assert_array_equal(got.mask_hw, put.mask_hw)


def test_a_flipped_byte_is_caught_in_every_file_at_its_start_middle_and_end(bundle_dir: Path) -> None:
    for file in files(bundle_dir):
        sound = file.read_bytes()
        for position in {0, len(sound) // 2, len(sound) - 1}:
            file.write_bytes(sound[:position] + bytes([sound[position] ^ 0x01]) + sound[position + 1 :])
            with pytest.raises(VerifyError):
                verify_bundle(bundle_dir)
        file.write_bytes(sound)
    verify_bundle(bundle_dir)


def test_every_flipped_bit_of_the_sums_is_caught(bundle_dir: Path) -> None:
    sums = bundle_dir / "SHA256SUMS"
    sound = sums.read_bytes()
    for position in range(0, len(sound), 11):
        for bit in (0x01, 0x20, 0x80):
            sums.write_bytes(sound[:position] + bytes([sound[position] ^ bit]) + sound[position + 1 :])
            with pytest.raises(VerifyError):
                verify_bundle(bundle_dir)


def test_truncation_of_any_file_is_caught(bundle_dir: Path) -> None:
    for file in files(bundle_dir):
        sound = file.read_bytes()
        for length in (0, len(sound) - 1):
            file.write_bytes(sound[:length])
            with pytest.raises(VerifyError):
                verify_bundle(bundle_dir)
        file.write_bytes(sound)


def test_a_missing_file_is_named(bundle_dir: Path) -> None:
    for file in files(bundle_dir):
        aside = bundle_dir.parent / "aside"
        file.rename(aside)
        with pytest.raises(VerifyError, match=file.name):
            verify_bundle(bundle_dir)
        aside.rename(file)


@pytest.mark.parametrize("name", ["extra.txt", "golden/extra.png", "source/.hidden", "deep/er/file"])
def test_an_extra_file_is_named(bundle_dir: Path, name: str) -> None:
    (bundle_dir / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle_dir / name).write_text("x")
    with pytest.raises(VerifyError, match=f"not in SHA256SUMS.*{name}.*try: rm -r"):
        verify_bundle(bundle_dir)


def test_an_empty_folder_is_refused(bundle_dir: Path) -> None:
    (bundle_dir / "empty").mkdir()
    with pytest.raises(VerifyError, match="empty"):
        verify_bundle(bundle_dir)


@pytest.mark.parametrize("name", ["engine.null.json", "SHA256SUMS", "golden/000.png"])
def test_a_symbolic_link_is_refused_even_to_the_same_bytes(bundle_dir: Path, name: str) -> None:
    target = bundle_dir.parent / "elsewhere"
    (bundle_dir / name).rename(target)
    (bundle_dir / name).symlink_to(target)
    with pytest.raises(VerifyError):
        verify_bundle(bundle_dir)


def test_a_linked_folder_is_refused(bundle_dir: Path) -> None:
    (bundle_dir / "golden").rename(bundle_dir.parent / "golden")
    (bundle_dir / "golden").symlink_to(bundle_dir.parent / "golden")
    with pytest.raises(VerifyError, match=r"irregular file \(golden"):
        verify_bundle(bundle_dir)


def test_a_pipe_is_refused_without_being_read(bundle_dir: Path) -> None:
    os.mkfifo(bundle_dir / "pipe")
    with pytest.raises(VerifyError, match=r"irregular file \(pipe"):
        verify_bundle(bundle_dir)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../outside", "./x", "a//b", "a\\b", "", ".hidden", "a b"]
)
def test_a_path_that_leaves_the_bundle_is_refused(bundle_dir: Path, name: str) -> None:
    (bundle_dir.parent / "outside").write_text("x")
    with (bundle_dir / "SHA256SUMS").open("a") as sums:
        sums.write(f"{hashlib.sha256(b'x').hexdigest()}  {name}\n")
    with pytest.raises(VerifyError, match="malformed"):
        verify_bundle(bundle_dir)


def test_a_name_that_is_listed_twice_is_refused(bundle_dir: Path) -> None:
    sums = bundle_dir / "SHA256SUMS"
    sums.write_text(sums.read_text() * 2)
    with pytest.raises(VerifyError, match="malformed"):
        verify_bundle(bundle_dir)


def test_a_foreign_folder_and_a_file_are_not_bundles(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for name in ("folder", "file"):
        with pytest.raises(VerifyError, match="not an engine bundle"):
            verify_bundle(tmp_path / name)
    with pytest.raises(RequestError, match="does not exist"):
        verify_bundle(tmp_path / "nothing")


def edit_manifest(folder: Path, **fields: object) -> None:
    file = folder / "manifest.json"
    plain = msgspec.json.decode(file.read_bytes())
    for key, value in fields.items():
        if isinstance(value, dict):
            plain[key] = {**(plain[key] or {}), **value}
        else:
            plain[key] = value
    file.write_bytes(msgspec.json.encode(plain))
    reseal(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"engine": {"file": "../engine"}}, "names an engine that is not in the bundle"),
        ({"engine": {"file": "source/model.onnx"}}, "names an engine that is not in the bundle"),
        ({"model": {"sha256": "0" * 64}}, "describes another model"),
        ({"calibration": None}, "range file do not match"),
    ],
)
def test_a_manifest_that_does_not_describe_its_files_is_refused(
    bundle_dir: Path, fields: dict[str, object], message: str
) -> None:
    edit_manifest(bundle_dir, **fields)
    with pytest.raises(VerifyError, match=message):
        verify_bundle(bundle_dir)


@pytest.mark.parametrize(
    "name", ["golden/000.mask.png", "golden/000.png", "report.json", "source/build.toml", "manifest.json"]
)
def test_a_part_that_was_never_written_is_missed_although_the_sums_agree(bundle_dir: Path, name: str) -> None:
    (bundle_dir / name).unlink()
    reseal(bundle_dir)
    with pytest.raises(VerifyError):
        verify_bundle(bundle_dir)


def test_no_runtime_sees_a_byte_of_a_bundle_that_does_not_verify(
    bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("edgeseg.backend.get_builder", lambda name: asked.append(name))
    (bundle_dir / "engine.null.json").write_text("[]")
    with pytest.raises(VerifyError):
        open_bundle(bundle_dir)
    assert asked == []
