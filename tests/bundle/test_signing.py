"""Ed25519 signatures: made, checked, forged, missing; and OpenSSL agrees."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from edgeseg.bundle import make_keys, sign_bundle, verify_bundle, write_bundle
from edgeseg.core.errors import RequestError, VerifyError

from .conftest import ContentsFactory, reseal


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_keys(tmp_path / "keys" / "fleet.key")


def test_the_private_key_is_its_owners_alone_and_never_overwritten(keys: tuple[Path, Path]) -> None:
    private, public = keys
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes(), public.read_bytes()
    with pytest.raises(RequestError, match="exists"):
        make_keys(private)
    assert (private.read_bytes(), public.read_bytes()) == before


def test_a_signed_bundle_verifies_and_keeps_its_id(bundle_dir: Path, keys: tuple[Path, Path]) -> None:
    before = verify_bundle(bundle_dir).id
    sign_bundle(bundle_dir, keys[0])
    bundle = verify_bundle(bundle_dir, trust=keys[1])
    assert (bundle.id, bundle.trusted_by) == (before, keys[1])


def test_an_unsigned_bundle_is_refused_where_a_key_is_configured(
    bundle_dir: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, make_contents: ContentsFactory
) -> None:
    with pytest.raises(VerifyError, match="not signed"):
        verify_bundle(bundle_dir, trust=keys[1])
    monkeypatch.setenv("EDGESEG_TRUST", str(keys[1]))
    with pytest.raises(VerifyError, match="not signed"):
        verify_bundle(bundle_dir)
    # writing and signing must still be possible on such a machine
    written = write_bundle(bundle_dir.with_name("other"), make_contents(seed=3))
    sign_bundle(written, keys[0])
    verify_bundle(written)


def test_a_bundle_that_was_altered_and_sealed_again_is_refused(bundle_dir: Path, keys: tuple[Path, Path]) -> None:
    sign_bundle(bundle_dir, keys[0])
    (bundle_dir / "engine.null.json").write_text('{"ms": 1}')
    reseal(bundle_dir)
    verify_bundle(bundle_dir)  # the sums agree: without a key nobody can tell
    with pytest.raises(VerifyError, match="signature does not verify"):
        verify_bundle(bundle_dir, trust=keys[1])


def test_another_key_and_a_damaged_signature_are_refused(
    bundle_dir: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    signature = sign_bundle(bundle_dir, keys[0])
    _, other = make_keys(tmp_path / "other.key")
    with pytest.raises(VerifyError, match="signature does not verify"):
        verify_bundle(bundle_dir, trust=other)
    sound = signature.read_bytes()
    for damaged in (b"", sound[:-1], sound + b"\0", sound[:10] + bytes([sound[10] ^ 1]) + sound[11:]):
        signature.write_bytes(damaged)
        with pytest.raises(VerifyError, match="signature does not verify"):
            verify_bundle(bundle_dir, trust=keys[1])


def test_a_file_that_is_no_key_is_refused(bundle_dir: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    sign_bundle(bundle_dir, keys[0])
    (tmp_path / "not.key").write_text("hello")
    with pytest.raises(VerifyError, match="not an Ed25519 public key"):
        verify_bundle(bundle_dir, trust=tmp_path / "not.key")
    with pytest.raises(VerifyError, match="not an Ed25519 public key"):
        verify_bundle(bundle_dir, trust=keys[0])
    with pytest.raises(VerifyError, match="not an Ed25519 private key"):
        sign_bundle(bundle_dir, keys[1])
    with pytest.raises(RequestError, match="does not exist"):
        sign_bundle(bundle_dir, tmp_path / "nothing")


def test_a_damaged_bundle_is_not_signed(bundle_dir: Path, keys: tuple[Path, Path]) -> None:
    (bundle_dir / "report.json").write_text("{}")
    with pytest.raises(VerifyError, match=r"report\.json"):
        sign_bundle(bundle_dir, keys[0])
    assert not (bundle_dir / "SHA256SUMS.sig").exists()


def test_openssl_agrees(bundle_dir: Path, keys: tuple[Path, Path]) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    sign_bundle(bundle_dir, keys[0])
    command = f"openssl pkeyutl -verify -pubin -inkey {keys[1]} -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig"
    done = subprocess.run(command.split(), cwd=bundle_dir, capture_output=True, text=True, check=False)
    assert "Verified Successfully" in done.stdout, done.stderr
