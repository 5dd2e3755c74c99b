"""`edgeseg keygen`: a key pair for signing bundles."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import OUT_FILE, Ui, common_options


@click.command(short_help="Make an Ed25519 key pair for signing bundles.")
@click.option("--out", type=OUT_FILE, default=Path("edgeseg.key"), show_default=True, metavar="K")
@common_options
def command(ui: Ui, out: Path) -> None:
    """Make an Ed25519 key pair: the private key K, and K.pub to give to the machines that shall trust it."""
    from edgeseg.bundle import make_keys

    private, public = make_keys(out)
    ui.say(f"private key: {private} (keep it off the vehicle)\npublic key:  {public} (edgeseg live … --trust {public})")
    ui.emit({"private_key": str(private), "public_key": str(public)})
