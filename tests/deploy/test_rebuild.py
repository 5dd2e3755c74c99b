"""A rebuild as the remedy for a damaged engine: it starts from what still verifies, and from nothing else."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeseg.bundle import make_keys, open_bundle, open_runner, sign_bundle, sums, verify_bundle
from edgeseg.cli.main import run
from edgeseg.core.artefacts import sha256_file
from edgeseg.core.errors import VerifyError
from edgeseg.deploy import BuildRequest, build_bundle, rebuild_bundle

from .conftest import SIZE

ENGINE = "engine.onnx"
Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def built(workplace: Path) -> Path:
    wanted = BuildRequest(
        model=str(workplace / "model.onnx"), frame_size=SIZE, precision="fp32", backend="onnxruntime", threads=1
    )
    return build_bundle(wanted, workplace / "to-damage").bundle


@pytest.fixture
def bundle(built: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to damage, called by a relative name as on a command line."""
    monkeypatch.delenv("EDGESEG_TRUST", raising=False)
    shutil.copytree(built, here / "b")
    return Path("b")


def torn(file: Path) -> None:
    """What a power loss leaves of a file that was being written."""
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def linked(file: Path) -> None:
    """The same bytes, elsewhere."""
    file.rename("elsewhere")
    file.symlink_to(Path("elsewhere").absolute())


@pytest.mark.parametrize("damage", [torn, Path.unlink, linked])
def test_a_damaged_engine_is_replaced_from_the_bundle_alone(
    bundle: Path, built: Path, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(bundle / ENGINE)
    assert run(["verify", str(bundle)]) == 5
    last = capsys.readouterr().err.splitlines()[-1]
    assert ENGINE in last
    way_out = last.partition("; try: edgeseg ")[2].split()
    assert way_out == ["rebuild", str(bundle.absolute())]
    assert run(way_out) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("damaged")] == [
        f"damaged in {bundle.absolute()}, and is replaced by this rebuild: {ENGINE}"
    ]
    new, old = open_bundle(bundle), verify_bundle(built)
    with open_runner(new):  # the golden frames agree
        pass
    for name in (*old.golden_names, "source/model.onnx"):
        assert new.sha256[name] == old.sha256[name]
    assert not Path(".b.last-good").exists(), "a damaged bundle is nothing to go back to"


def test_a_file_that_the_disk_no_longer_gives_counts_as_damaged(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def worn(file: Path) -> str:
        if file == (bundle / ENGINE).absolute():
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))
        return sha256_file(file)

    with monkeypatch.context() as patch:
        patch.setattr(sums, "sha256_file", worn)
        with pytest.raises(VerifyError, match=rf"cannot be read \({ENGINE}: Input/output error\).*edgeseg rebuild"):
            verify_bundle(bundle)
        report = rebuild_bundle(bundle, out=Path("new"))
    assert verify_bundle(report.bundle).id == report.id


@pytest.mark.parametrize(
    "name", ["source/model.onnx", "source/build.toml", "golden/000.png", "manifest.json", "SHA256SUMS"]
)
def test_what_a_rebuild_would_start_from_is_damaged_so_nothing_is_built(bundle: Path, name: str) -> None:
    torn(bundle / ENGINE)
    torn(bundle / name)
    before = sorted((file, file.read_bytes()) for file in bundle.rglob("*") if file.is_file())
    with pytest.raises(VerifyError, match="another copy of the bundle, or edgeseg build MODEL"):
        rebuild_bundle(bundle)
    assert before == sorted((file, file.read_bytes()) for file in bundle.rglob("*") if file.is_file())


@pytest.mark.parametrize("name", ["source", "source/model.onnx", "golden"])
def test_a_rebuild_reads_through_no_link(bundle: Path, name: str) -> None:
    torn(bundle / ENGINE)
    linked(bundle / name)
    with pytest.raises(VerifyError, match=f"irregular file \\({name}"):
        rebuild_bundle(bundle)


def test_a_signed_bundle_is_rebuilt_where_its_key_is_trusted_and_has_to_be_signed_again(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = make_keys(Path("k"))
    monkeypatch.setenv("EDGESEG_TRUST", str(public))
    sign_bundle(bundle, private)
    torn(bundle / ENGINE)
    report = rebuild_bundle(bundle)
    assert report.notes[-1].endswith(f"edgeseg sign {bundle.absolute()} --key K")
    with pytest.raises(VerifyError, match="not signed"):
        verify_bundle(bundle)
    sign_bundle(bundle, private)
    assert verify_bundle(bundle).id == report.id


def test_a_bundle_of_another_hand_is_not_rebuilt_where_a_key_is_trusted(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = make_keys(Path("k"))
    sign_bundle(bundle, private)
    manifest = bundle / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    (bundle / "SHA256SUMS.sig").rename("aside")
    (bundle / "SHA256SUMS").unlink()
    sums.write_sums(bundle)
    Path("aside").rename(bundle / "SHA256SUMS.sig")
    torn(bundle / ENGINE)
    with pytest.raises(VerifyError, match="the signature does not verify"):
        rebuild_bundle(bundle, trust=public)
    monkeypatch.setenv("EDGESEG_TRUST", str(public))
    with pytest.raises(VerifyError, match="the signature does not verify"):
        rebuild_bundle(bundle)
