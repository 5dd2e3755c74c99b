"""`edgeseg verify`: check a bundle, on any machine."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import Ui, common_options


@click.command(short_help="Check the sums, signature and manifest of a bundle.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--trust", type=click.Path(path_type=Path), metavar="K", help="Public key that must have signed it.")
@click.option("--run", "run_golden", is_flag=True, help="Also check the fit and run the golden frames.")
@common_options
def command(ui: Ui, bundle: Path, trust: Path | None, run_golden: bool) -> None:
    """Check the sums, the signature (with --trust) and the manifest of BUNDLE.

    Without --run this works on any machine, the one that ships bundles included.
    """
    from edgeseg.bundle import open_bundle, open_runner, verify_bundle

    if run_golden:
        verified = open_bundle(bundle, trust=trust)
        with open_runner(verified):
            pass
    else:
        verified = verify_bundle(bundle, trust=trust)
    manifest = verified.manifest
    signed = f"signed by {verified.trusted_by}" if verified.trusted_by else "signature not asked for"
    proven = ", golden frames agree" if run_golden else ""
    ui.say(f"{manifest.name} verifies: {len(verified.sha256)} files, {signed}{proven}\nid {verified.id}")
    ui.emit(
        {
            "bundle": str(verified.path),
            "id": verified.id,
            "files": len(verified.sha256),
            "trusted_by": str(verified.trusted_by) if verified.trusted_by else None,
            "golden_frames_ran": run_golden,
        }
    )
