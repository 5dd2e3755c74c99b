"""Opening a bundle: SHA256SUMS, signature, manifest, fit, in this order, before a runtime sees a byte.

A plan is code: whoever can write into a bundle's folder between this check and the load can still run code, so a
bundle belongs in a folder that only its owner writes to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgeseg.bundle.contents import (
    GOLDEN_COUNT,
    MANIFEST,
    MODEL,
    RANGES,
    RECIPE,
    REPORT,
    Bundle,
    BundleSource,
    last_good_path,
    rebuild_command,
    source_names,
)
from edgeseg.bundle.fit import check_fit
from edgeseg.bundle.sums import bundle_id, find_damage, read_sums
from edgeseg.core.deps import require
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import EdgesegError, VerifyError
from edgeseg.core.manifest import decode_manifest
from edgeseg.core.types import DeviceInfo

TRUST_VARIABLE = "EDGESEG_TRUST"
"""Environment variable that names a public key: every command on the machine then refuses unsigned bundles."""
_REQUIRED = (MANIFEST, REPORT, MODEL, RECIPE)


def verify_bundle(path: Path, *, trust: Path | None = None) -> Bundle:
    """Check sums, signature and manifest, without asking whether the bundle fits this machine.

    Args:
        path: The bundle's folder.
        trust: A public key; where it is None, the one that EDGESEG_TRUST names, if any. With a key, an unsigned
            bundle is refused.

    Raises:
        RequestError: `path` or the key does not exist.
        VerifyError: Anything is missing, extra, altered, unsigned or of a newer format; by name, both values.
    """
    key = trust or configured_key()
    with naming_a_way_out(path, key):
        return read_bundle(path, key)


def verify_source(path: Path, *, trust: Path | None = None) -> tuple[BundleSource, tuple[str, ...]]:
    """As `verify_bundle`, of what a rebuild reads; the rest, the engine above all, may be damaged.

    The sums and their signature, the manifest, model, ranges, request and golden frames are those that were written.

    Returns:
        What a rebuild reads, and the names of the files that are missing, irregular or altered.

    Raises:
        RequestError: `path` or the key does not exist.
        VerifyError: As `verify_bundle`, but for a file that a rebuild makes anew.
    """
    key = trust or configured_key()
    with naming_a_way_out(path, key, rebuild=False):
        return _read_source(path, key)


def read_bundle(path: Path, key: Path | None = None) -> Bundle:
    """As `verify_bundle`, with exactly this key or none: for bundles of this process's own making."""
    path = path.resolve()
    data, sums = read_sums(path)
    for error in find_damage(path, sums).values():
        raise error
    source = _check(path, data, sums, key)
    return Bundle(path=path, id=bundle_id(data), manifest=source.manifest, sha256=sums, trusted_by=key)


@contextmanager
def naming_a_way_out(path: Path, key: Path | None, *, rebuild: bool = True) -> Iterator[None]:
    """Let a refusal of the bundle at `path` that names no way out name one that works.

    Args:
        path: The bundle's folder.
        key: The public key that must have signed it, if any.
        rebuild: Whether a rebuild may be one.
    """
    try:
        yield
    except VerifyError as error:
        if error.fix is None:
            error.fix = _way_out(path.resolve(), key, rebuild)
        raise


def open_bundle(path: Path, *, trust: Path | None = None, device: DeviceInfo | None = None) -> Bundle:
    """`verify_bundle`, and then refuse a bundle that was built for another machine or runtime.

    Args:
        path: The bundle's folder.
        trust: A public key; see `verify_bundle`.
        device: The machine to fit; the present one by default.

    Raises:
        FitError: A field that must fit does not; by name, both values.
        UnavailableError: The backend is not installed.
    """
    bundle = verify_bundle(path, trust=trust)
    from edgeseg.backend import device_of, get_builder

    builder = get_builder(bundle.manifest.engine.backend)
    check_fit(bundle, device or device_of(builder, fingerprint()), builder.version)
    return bundle


def configured_key() -> Path | None:
    """The public key that this machine trusts, where it has one."""
    name = os.environ.get(TRUST_VARIABLE)
    return Path(name) if name else None


def _read_source(path: Path, key: Path | None) -> tuple[BundleSource, tuple[str, ...]]:
    path = path.resolve()
    data, sums = read_sums(path)
    damage = find_damage(path, sums)
    read = source_names(sums)
    for name, error in damage.items():
        if name in read:
            raise error
    return _check(path, data, sums, key), tuple(damage)


def _way_out(path: Path, key: Path | None, rebuild: bool) -> str:
    if rebuild and _succeeds(lambda: _read_source(path, key)):
        return rebuild_command(path, key)
    previous = last_good_path(path)
    if previous.is_dir() and _succeeds(lambda: read_bundle(previous, key)):
        return f"edgeseg rollback {path}"
    return "another copy of the bundle, or edgeseg build MODEL"


def _succeeds(read: Callable[[], object]) -> bool:
    try:
        read()
    except (EdgesegError, OSError):
        return False
    return True


def _check(path: Path, data: bytes, sums: Mapping[str, str], key: Path | None) -> BundleSource:
    """Signature and manifest of a bundle whose manifest is the listed one."""
    if key is not None:
        require("cryptography", what="checking a bundle's signature")
        from edgeseg.bundle.signing import check_signature

        check_signature(path, data, key)
    for name in _REQUIRED:
        if name not in sums:
            raise VerifyError("the bundle lacks a file", value=name, allowed=", ".join(_REQUIRED))
    manifest = decode_manifest((path / MANIFEST).read_bytes(), origin=str(path / MANIFEST))
    source = BundleSource(path=path, manifest=manifest, sha256=sums, trusted_by=key)
    _check_consistency(source)
    return source


def _check_consistency(bundle: BundleSource) -> None:
    """The manifest speaks of the files that are here."""
    manifest, sums = bundle.manifest, bundle.sha256
    if "/" in manifest.engine.file or manifest.engine.file not in sums:
        raise VerifyError(
            "the manifest names an engine that is not in the bundle",
            value=f"engine.file: {manifest.engine.file}",
            allowed=f"a file at the top of the bundle: {', '.join(sorted(n for n in sums if '/' not in n))}",
        )
    if manifest.model.sha256 != sums[MODEL]:
        raise VerifyError(
            "the manifest describes another model",
            value=f"model.sha256: {manifest.model.sha256}",
            allowed=f"{MODEL} has {sums[MODEL]}",
        )
    if (manifest.calibration is not None) != (RANGES in sums):
        raise VerifyError(
            "manifest and range file do not match",
            value=f"calibration: {manifest.calibration}",
            allowed=f"a calibration record and {RANGES}, or neither",
        )
    frames = bundle.golden_names
    masks = [name.removesuffix(".png") + ".mask.png" for name in frames]
    if len(frames) not in GOLDEN_COUNT or any(mask not in sums for mask in masks):
        raise VerifyError(
            "the golden set is incomplete",
            value=f"{len(frames)} frames",
            allowed="4 to 8, each with a mask",
        )
