"""`edgeseg sign`: sign a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import Ui, common_options


@click.command(short_help="Sign a bundle.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, metavar="K", help="Private key of keygen.")
@common_options
def command(ui: Ui, bundle: Path, key: Path) -> None:
    """Sign BUNDLE: writes SHA256SUMS.sig beside SHA256SUMS, which covers every other file."""
    from edgeseg.bundle import sign_bundle

    signature = sign_bundle(bundle, key)
    ui.say(f"signed: {signature}")
    ui.emit({"bundle": str(bundle), "signature": str(signature)})
