"""One self-contained HTML page of a bench: no network, no script, every picture inline."""

from __future__ import annotations

from pathlib import Path

from edgeseg.bench.report.page import render
from edgeseg.bench.result import BenchResult
from edgeseg.core.artefacts import write_text

__all__ = ["render", "write_report"]


def write_report(path: Path, result: BenchResult, samples_file: Path) -> None:
    """Write the page.

    Args:
        path: HTML file.
        result: What it shows.
        samples_file: Its raw samples.
    """
    write_text(path, render(result, samples_file))
