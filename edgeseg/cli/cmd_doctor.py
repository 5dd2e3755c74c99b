"""`edgeseg doctor`: what this machine can do, and the remedy for what it cannot."""

from __future__ import annotations

import click

from edgeseg.cli.ui import Ui, common_options


@click.command(short_help="What this machine can do, and the remedy for what it cannot.")
@common_options
def command(ui: Ui) -> None:
    """Probe packages, engines, cameras, display and device; print a remedy for each that is missing.

    Ends with exit code 0: a missing part is a finding, not a failure.
    """
    import msgspec

    from edgeseg.doctor import examine

    report = examine()
    ui.say(report.device.summary(), style="bold")
    group = ""
    wide = max(len(finding.name) for finding in report.findings)
    for finding in report.findings:
        if finding.group != group:
            group = finding.group
            ui.say(f"\n{group}", style="bold")
        ui.say(f"  {'yes' if finding.ok else ' no'}  {finding.name:<{wide}} {finding.detail}")
        if finding.remedy:
            ui.say(f"       {'':<{wide}} -> {finding.remedy}", style="yellow")
    ui.say("")
    for name, works in report.can.items():
        ui.say(f"edgeseg {name:<6} {'works here' if works else 'does not work here yet: see above'}")
    ui.emit(msgspec.to_builtins(report))
