"""Building a bundle again, from itself alone: for another runtime version, driver or board."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgeseg.bundle import Bundle, verify_bundle
from edgeseg.bundle.golden import read_golden
from edgeseg.core.config import load_config
from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Progress
from edgeseg.data import open_dataset
from edgeseg.deploy.build import build_bundle
from edgeseg.deploy.request import BuildReport, BuildRequest


def rebuild_bundle(path: Path, progress: Progress, *, out: Path | None = None) -> BuildReport:
    """Build a bundle again for this machine, from the model, ranges and request that it holds.

    The golden frames stay. The gate runs again where its data is here; where it is not, the new bundle has none, and
    says so.

    Args:
        path: The bundle; it need not fit this machine, but it must verify.
        progress: Where the build is shown.
        out: Where the new bundle goes; by default in the old one's place, which becomes its last good one.

    Raises:
        VerifyError: The bundle does not verify.
    """
    bundle = verify_bundle(path)
    request = _request(bundle)
    if request.data is not None:
        try:
            open_dataset(request.data, request.split)
        except RequestError:
            progress.say(f"the gate's data is not here, so the gate is left out: {request.data}")
            request = msgspec.structs.replace(request, data=None, max_drop=None, max_drop_class={})
    frames = [item.frame for item in read_golden(bundle)]
    return build_bundle(request, out or path, progress, golden=frames, replace=out is None)


def _request(bundle: Bundle) -> BuildRequest:
    request = load_config(bundle.recipe_file, BuildRequest)
    return msgspec.structs.replace(
        request,
        model=str(bundle.model_file),
        ranges=str(bundle.ranges_file) if bundle.ranges_file else None,
    )
