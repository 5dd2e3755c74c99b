"""Building a bundle again, from itself alone: for another runtime version, driver or board."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgeseg.bundle import BundleSource, verify_source
from edgeseg.bundle.golden import read_golden_frames
from edgeseg.core.config import load_config
from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Progress
from edgeseg.data import open_dataset
from edgeseg.deploy.build import build_bundle
from edgeseg.deploy.request import BuildReport, BuildRequest


def rebuild_bundle(
    path: Path, progress: Progress, *, out: Path | None = None, trust: Path | None = None
) -> BuildReport:
    """Build a bundle again for this machine, from the model, ranges and request that it holds.

    The golden frames stay. The gate runs again where its data is here; where it is not, the new bundle has none, and
    says so.

    Args:
        path: The bundle; it need not fit this machine, and its engine may be damaged: what is read here must verify.
        progress: Where the build is shown.
        out: Where the new bundle goes; by default in the old one's place, which becomes its last good one where it
            verifies.
        trust: A public key that must have signed the bundle; by default the one that EDGESEG_TRUST names, if any.

    Raises:
        VerifyError: What is read here does not verify.
    """
    source, damaged = verify_source(path, trust=trust)
    if damaged:
        what = "is replaced by this rebuild" if out is None else f"is made anew in {out}"
        progress.say(f"damaged in {path}, and {what}: {', '.join(damaged)}")
    request = _request(source)
    if request.data is not None:
        try:
            open_dataset(request.data, request.split)
        except RequestError:
            progress.say(f"the gate's data is not here, so the gate is left out: {request.data}")
            request = msgspec.structs.replace(request, data=None, max_drop=None, max_drop_class={})
    frames = read_golden_frames(source)
    return build_bundle(request, out or path, progress, golden=frames, replace=out is None, trust=trust)


def _request(source: BundleSource) -> BuildRequest:
    request = load_config(source.recipe_file, BuildRequest)
    return msgspec.structs.replace(
        request,
        model=str(source.model_file),
        ranges=str(source.ranges_file) if source.ranges_file else None,
    )
