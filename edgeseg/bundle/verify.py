"""Opening a bundle: SHA256SUMS, signature, manifest, fit, in this order, before a runtime sees a byte.

A plan is code: whoever can write into a bundle's folder between this check and the load can still run code, so a
bundle belongs in a folder that only its owner writes to.
"""

from __future__ import annotations

import os
from pathlib import Path

from edgeseg.bundle.contents import GOLDEN_COUNT, MANIFEST, MODEL, RANGES, RECIPE, REPORT, Bundle
from edgeseg.bundle.fit import check_fit
from edgeseg.bundle.sums import bundle_id, check_files, read_sums, refusal
from edgeseg.core.deps import require
from edgeseg.core.device import fingerprint
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
    return read_bundle(path, trust or _configured_key())


def read_bundle(path: Path, key: Path | None = None) -> Bundle:
    """As `verify_bundle`, with exactly this key or none: for bundles of this process's own making."""
    path = path.resolve()
    data, sums = read_sums(path)
    check_files(path, sums)
    if key is not None:
        require("cryptography", what="checking a bundle's signature")
        from edgeseg.bundle.signing import check_signature

        check_signature(path, data, key)
    for name in _REQUIRED:
        if name not in sums:
            raise refusal(path, "the bundle lacks a file", value=name, allowed=", ".join(_REQUIRED))
    manifest = decode_manifest((path / MANIFEST).read_bytes(), origin=str(path / MANIFEST))
    bundle = Bundle(path=path, id=bundle_id(data), manifest=manifest, sha256=sums, trusted_by=key)
    _check_consistency(bundle)
    return bundle


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


def _configured_key() -> Path | None:
    name = os.environ.get(TRUST_VARIABLE)
    return Path(name) if name else None


def _check_consistency(bundle: Bundle) -> None:
    """The manifest speaks of the files that are here."""
    manifest, sums = bundle.manifest, bundle.sha256
    if "/" in manifest.engine.file or manifest.engine.file not in sums:
        raise refusal(
            bundle.path,
            "the manifest names an engine that is not in the bundle",
            value=f"engine.file: {manifest.engine.file}",
            allowed=f"a file at the top of the bundle: {', '.join(sorted(n for n in sums if '/' not in n))}",
        )
    if manifest.model.sha256 != sums[MODEL]:
        raise refusal(
            bundle.path,
            "the manifest describes another model",
            value=f"model.sha256: {manifest.model.sha256}",
            allowed=f"{MODEL} has {sums[MODEL]}",
        )
    if (manifest.calibration is not None) != (RANGES in sums):
        raise refusal(
            bundle.path,
            "manifest and range file do not match",
            value=f"calibration: {manifest.calibration}",
            allowed=f"a calibration record and {RANGES}, or neither",
        )
    frames = bundle.golden_names
    masks = [name.removesuffix(".png") + ".mask.png" for name in frames]
    if len(frames) not in GOLDEN_COUNT or any(mask not in sums for mask in masks):
        raise refusal(
            bundle.path,
            "the golden set is incomplete",
            value=f"{len(frames)} frames",
            allowed="4 to 8, each with a mask",
        )
