"""`edgeseg rollback`: go back to the last good bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import Ui, common_options


@click.command(short_help="Bring back a bundle's last good content.")
@click.argument("bundle", type=click.Path(path_type=Path))
@common_options
def command(ui: Ui, bundle: Path) -> None:
    """Exchange BUNDLE with the one that was there before its last rebuild; a second call goes forward again."""
    from edgeseg.bundle import roll_back

    restored = roll_back(bundle)
    ui.say(f"{restored.path} is again the bundle of {restored.manifest.created}, id {restored.id}")
    ui.emit({"bundle": str(restored.path), "id": restored.id, "created": restored.manifest.created})
