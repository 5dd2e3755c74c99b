"""Ed25519 signatures over SHA256SUMS (RFC 8032), in forms that OpenSSL reads as well.

Keys are PEM; a signature is the 64 raw bytes beside SHA256SUMS, so that this checks it without edgeseg::

    openssl pkeyutl -verify -pubin -inkey K.pub -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from edgeseg.bundle.contents import SIGNATURE
from edgeseg.bundle.sums import read_sums
from edgeseg.bundle.verify import naming_a_way_out, read_bundle
from edgeseg.core.artefacts import disk_errors, write_bytes
from edgeseg.core.errors import RequestError, VerifyError

_BYTES = 64
_KEYGEN = "edgeseg keygen --out K"


def make_keys(out: Path) -> tuple[Path, Path]:
    """Write a new private key to `out` (readable by its owner only) and the public key to `out` + `.pub`.

    Raises:
        RequestError: One of the files exists: a key is never overwritten.
    """
    public = out.with_name(out.name + ".pub")
    for file in (out, public):
        if file.exists():
            raise RequestError("the key file exists", value=file, allowed="a path that does not exist yet")
    key = Ed25519PrivateKey.generate()
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        # created with its final mode: at no moment is it readable by others
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file_out:
        file_out.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_bytes(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return out, public


def sign_bundle(path: Path, key_file: Path) -> Path:
    """Sign a bundle that verifies, and return its signature file; an older signature is replaced.

    Raises:
        RequestError: The key or the bundle does not exist.
        VerifyError: The key is none, or the bundle does not verify.
    """
    key = _load_private(key_file)
    with naming_a_way_out(path, None):
        bundle = read_bundle(path)
    data, _ = read_sums(bundle.path)
    signature = bundle.path / SIGNATURE
    write_bytes(signature, key.sign(data))
    return signature


def check_signature(path: Path, sums: bytes, key_file: Path) -> None:
    """Refuse a bundle that `key_file` has not signed.

    Args:
        path: The bundle's folder.
        sums: The bytes of its SHA256SUMS, as they were checked.
        key_file: A public key, PEM.

    Raises:
        RequestError: The key file does not exist.
        VerifyError: No signature, a wrong one, or a file that is no Ed25519 public key.
    """
    key = _load_public(key_file)
    file = path / SIGNATURE
    if not file.is_file():
        raise VerifyError(
            "the bundle is not signed", value=path, allowed=f"signed by {key_file}", fix=f"edgeseg sign {path} --key K"
        )
    signature = file.read_bytes()
    try:
        if len(signature) != _BYTES:
            raise InvalidSignature
        key.verify(signature, sums)
    except InvalidSignature:
        raise VerifyError(
            "the signature does not verify",
            value=file,
            allowed=f"a signature by {key_file}",
            fix=f"edgeseg sign {path} --key K",
        ) from None


def _read_key(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise RequestError("the key does not exist", value=file, allowed="a PEM file", fix=_KEYGEN) from None
    except IsADirectoryError:
        raise RequestError("the key is a folder", value=file, allowed="a PEM file") from None


def _load_private(file: Path) -> Ed25519PrivateKey:
    data = _read_key(file)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _not_a_key(file, "private", error) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _not_a_key(file, "private", type(key).__name__)
    return key


def _load_public(file: Path) -> Ed25519PublicKey:
    data = _read_key(file)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _not_a_key(file, "public", error) from None
    if not isinstance(key, Ed25519PublicKey):
        raise _not_a_key(file, "public", type(key).__name__)
    return key


def _not_a_key(file: Path, kind: str, reason: object) -> VerifyError:
    return VerifyError(
        f"not an Ed25519 {kind} key",
        value=f"{file}: {reason}",
        allowed="a PEM file of `edgeseg keygen`",
        fix=_KEYGEN,
    )
