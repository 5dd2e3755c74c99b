"""Writing a bundle: into a temporary folder, verified there, renamed when complete."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from edgeseg.bundle.contents import MANIFEST, MODEL, RANGES, RECIPE, REPORT, BundleContents
from edgeseg.bundle.golden import write_golden
from edgeseg.bundle.sums import write_sums
from edgeseg.bundle.verify import read_bundle
from edgeseg.core.artefacts import atomic_folder
from edgeseg.core.config import dump_toml
from edgeseg.core.errors import VerifyError
from edgeseg.core.manifest import encode_manifest


def write_bundle(out: Path, contents: BundleContents) -> Path:
    """Write a bundle to the new folder `out` and return it; on any error nothing is left.

    What was written is read back and verified under its temporary name, so that a disk or memory that lies is
    found here and not on the vehicle.

    Raises:
        RequestError: `out` exists, or the contents cannot be (too few golden frames).
        DataError: The disk is full.
        VerifyError: What was written does not verify.
    """
    with atomic_folder(out) as folder:
        for file in contents.engine_files:
            shutil.copyfile(file, folder / file.name)
        (folder / MODEL).parent.mkdir()
        shutil.copyfile(contents.model, folder / MODEL)
        if contents.ranges is not None:
            shutil.copyfile(contents.ranges, folder / RANGES)
        (folder / RECIPE).write_text(dump_toml(contents.recipe), encoding="utf-8")
        write_golden(folder, contents.golden, contents.manifest.spec.classes)
        (folder / MANIFEST).write_bytes(encode_manifest(contents.manifest))
        report = msgspec.json.format(msgspec.json.encode(contents.report), indent=2)
        (folder / REPORT).write_bytes(report + b"\n")
        write_sums(folder)
        try:
            read_bundle(folder)
        except VerifyError as error:
            error.fix = "the same command, with --out on another disk"
            raise
    return out
