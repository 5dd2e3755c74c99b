"""How runs learned: a score of each by its epochs, as a picture.

    python tools/plot_runs.py RUN|METRICS.jsonl … [--score val/miou] --out FILE.svg

A run is a folder that `edgeseg train` wrote, or a copy of its metrics.jsonl under a name of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgeseg.bench.report.plot import Axis, Plot
from edgeseg.bench.suite_page import standalone
from edgeseg.core.artefacts import write_text
from edgeseg.core.errors import DataError, EdgesegError, RequestError

Points = list[tuple[float, float]]
_STYLES = ("s1", "s2", "s3", "s4")


def read_scores(path: Path, score: str) -> Points:
    """The epochs of a run at which it was scored, and the score.

    Raises:
        DataError: No such file, no JSON in it, or nothing was scored by that name.
    """
    file = path / "metrics.jsonl" if path.is_dir() else path
    try:
        lines = [msgspec.json.decode(text, type=dict[str, object]) for text in file.read_bytes().splitlines()]
    except (OSError, msgspec.DecodeError) as error:
        raise DataError("the figures of a run cannot be read", value=f"{file}: {error}") from None
    found = [(float(str(line["epoch"])), float(str(line[score]))) for line in lines if score in line]
    if not found:
        names = sorted({name for line in lines for name in line if "/" in name and not name.endswith("/iou")})
        allowed = f"allowed: {', '.join(names) or 'nothing'}"
        raise DataError(f"the run was never scored by {score}", value=file, allowed=allowed)
    return found


def plot(runs: Mapping[str, Points], score: str) -> Plot:
    """A line a run, its name at its end."""
    values = [value for points in runs.values() for _, value in points]
    pad = 0.05 * (max(values) - min(values) or 1.0)
    last = max(epoch for points in runs.values() for epoch, _ in points)
    picture = Plot(
        Axis(0, 1.12 * last, "epoch"), Axis(min(values) - pad, max(values) + pad, score), f"{score} by epoch", 900, 340
    )
    for index, (name, points) in enumerate(runs.items()):
        style = _STYLES[index % len(_STYLES)]
        picture.line(points, style)
        picture.dots([(*point, 3, f"{name}: {point[1]:.3f} at {point[0]:g}") for point in points], style)
    picture.names([(*points[-1], name) for name, points in runs.items()], list(runs.values()))
    return picture


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the picture; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--score", default="val/miou", help="as metrics.jsonl names it")
    parser.add_argument("--out", type=Path, required=True, help="SVG file")
    options = parser.parse_args(arguments)
    try:
        names = [path.name.removesuffix(".jsonl") for path in options.runs]
        if twice := {name for name in names if names.count(name) > 1}:
            raise RequestError("two runs of one name", value=", ".join(sorted(twice)), allowed="a name of its own each")
        runs = {name: read_scores(path, options.score) for name, path in zip(names, options.runs, strict=True)}
        write_text(options.out, standalone(plot(runs, options.score)))
    except EdgesegError as error:
        print(f"plot_runs: error: {error}", file=sys.stderr)
        return int(error.exit_code)
    print(f"wrote {options.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
