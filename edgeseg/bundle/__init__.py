"""Engine bundles: written whole, verified before a runtime sees a byte, signed, swapped, rolled back.

write_bundle(out, contents)       a folder that is either complete or not there
open_bundle(path, trust=KEY)      sums, signature, manifest, fit, in this order
verify_source(path, trust=KEY)    what a rebuild reads, of a bundle whose engine may be damaged
open_runner(bundle)               the engine, which proves itself on the golden frames when it is entered
replace_bundle, roll_back         swap in a new one, keep the last good one, go back to it
make_keys, sign_bundle            Ed25519
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeseg.bundle.contents import Bundle, BundleContents, BundleSource, Golden
from edgeseg.core.deps import require
from edgeseg.core.types import DeviceInfo, Runner

__all__ = [
    "Bundle",
    "BundleContents",
    "BundleSource",
    "Golden",
    "golden_agreement",
    "make_keys",
    "open_bundle",
    "open_runner",
    "replace_bundle",
    "roll_back",
    "sign_bundle",
    "verify_bundle",
    "verify_source",
    "write_bundle",
]

_WHAT = "an engine bundle"


def write_bundle(out: Path, contents: BundleContents) -> Path:
    """Write a bundle to the new folder `out`; see `edgeseg.bundle.write`."""
    require("PIL", what=_WHAT)
    from edgeseg.bundle import write

    return write.write_bundle(out, contents)


def replace_bundle(path: Path, contents: BundleContents) -> Path:
    """Write a bundle in the place of `path`, whose present content becomes the last good one."""
    require("PIL", what=_WHAT)
    from edgeseg.bundle import swap

    return swap.replace_bundle(path, contents)


def verify_bundle(path: Path, *, trust: Path | None = None) -> Bundle:
    """Sums, signature and manifest of a bundle, whatever machine it is for; see `edgeseg.bundle.verify`."""
    from edgeseg.bundle import verify

    return verify.verify_bundle(path, trust=trust)


def verify_source(path: Path, *, trust: Path | None = None) -> tuple[BundleSource, tuple[str, ...]]:
    """What a rebuild reads of a bundle, and the names of damaged files; see `edgeseg.bundle.verify`."""
    from edgeseg.bundle import verify

    return verify.verify_source(path, trust=trust)


def open_bundle(path: Path, *, trust: Path | None = None, device: DeviceInfo | None = None) -> Bundle:
    """A bundle that verifies and fits this machine; see `edgeseg.bundle.verify`."""
    from edgeseg.bundle import verify

    return verify.open_bundle(path, trust=trust, device=device)


def golden_agreement(runner: Runner, golden: Sequence[Golden]) -> float:
    """Share of golden pixels on which an entered runner agrees; see `edgeseg.bundle.selftest.golden_agreement`."""
    from edgeseg.bundle import selftest

    return selftest.golden_agreement(runner, golden)


def open_runner(bundle: Bundle, *, throughput: bool = False) -> Runner:
    """The engine of a bundle; entering it runs the golden frames. See `edgeseg.bundle.selftest`."""
    require("PIL", what=_WHAT)
    from edgeseg.bundle import selftest

    return selftest.open_runner(bundle, throughput=throughput)


def roll_back(path: Path) -> Bundle:
    """Exchange the bundle at `path` with its last good one; see `edgeseg.bundle.swap`."""
    from edgeseg.bundle import swap

    return swap.roll_back(path)


def make_keys(out: Path) -> tuple[Path, Path]:
    """Write a new key pair: the private key to `out`, the public key to `out.pub`. See `edgeseg.bundle.signing`."""
    require("cryptography", what="edgeseg keygen")
    from edgeseg.bundle import signing

    return signing.make_keys(out)


def sign_bundle(path: Path, key: Path) -> Path:
    """Sign the bundle at `path` with a private key; returns the signature file. See `edgeseg.bundle.signing`."""
    require("cryptography", what="edgeseg sign")
    from edgeseg.bundle import signing

    return signing.sign_bundle(path, key)
