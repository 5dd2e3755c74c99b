"""The plots of an ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ablation_scores import PERIODS
from ablation_table import Group, Job
from ablation_verdict import Findings

from edgeseg.bench.report.plot import Axis, Plot

_COLOURS = ("blue", "orange", "green")


def group_plots(findings: Findings, group: Group) -> dict[str, Plot]:
    """The plots of a group by the end of their file's name; none before a row of it has been scored."""
    rows = [job for job in findings.trained(group) if findings.score(job) is not None]
    plots = {"": score_plot(findings, group, rows)} if rows else {}
    if rows and group.checkerboard:
        plots["-checkerboard"] = checkerboard_plot(findings, group, rows)
    lines = {name: _shares(findings, rows, pretrained=name == "pretrained") for name in ("from scratch", "pretrained")}
    if any(len(points) > 1 for points in lines.values()):
        plots["-shares"] = share_plot(findings, lines)
    return plots


def score_plot(findings: Findings, group: Group, rows: Sequence[Job]) -> Plot:
    """One line a row: mIoU on every split, over the band of the noise."""
    splits = findings.table.score
    found = {(split, y): _miou(findings, job, split) for job, y in _places(rows) for split in splits}
    values = [value for value in found.values() if value is not None]
    bound = findings.noise.bound(max(1, len(findings.noise.values)))
    band = []
    if findings.noise.mean is not None and bound is not None:
        band = [100 * (findings.noise.mean + sign * bound) for sign in (-1, 1)]
    words = [f"{colour}: {split}" for colour, split in zip(_COLOURS, splits, strict=False)]
    words += [f"band: the seeds alone, on {findings.split}"] if band else []
    low, high = min([*values, *band], default=0) - 1, max([*values, *band], default=0) + 1
    plot = _row_plot(rows, (low, high), f"mIoU, %  ({'; '.join(words)})", f"{group.title}: mIoU")
    if band:
        plot.band(*band, "noise", f"the seeds alone: {band[0]:.1f} to {band[1]:.1f}")
    for index, split in reversed(list(enumerate(splits))):
        for (other, y), value in found.items():
            if other == split and value is not None:
                plot.dots([(value, y, 4 if index else 6, f"{split} {value:.2f}")], f"s{index + 1}")
    return plot


def checkerboard_plot(findings: Findings, group: Group, rows: Sequence[Job]) -> Plot:
    """One line a row: the share of the lattice of each period in the logits' differences."""
    shares = [(y, found.checkerboard) for job, y in _places(rows) if (found := findings.result(job))]
    top = max([0.02, *(value for _, share in shares for value in share.values())])
    words = "; ".join(f"{colour}: period {period}" for colour, period in zip(_COLOURS, PERIODS, strict=False))
    label = f"C, share of the lattice  ({words})"
    plot = _row_plot(rows, (0, 1.1 * top), label, f"{group.title}: checkerboard")
    for index, period in enumerate(PERIODS):
        found = [(share[str(period)], y) for y, share in shares if str(period) in share]
        plot.dots([(value, y, 6 - 2 * index, f"period {period}") for value, y in found], f"s{index + 1}")
    return plot


def share_plot(findings: Findings, lines: Mapping[str, Sequence[tuple[float, float]]]) -> Plot:
    """The share of the labels against mIoU, from scratch and from pretraining."""
    values = [value for points in lines.values() for _, value in points]
    shares = sorted({share for points in lines.values() for share, _ in points})
    words = "; ".join(f"{colour}: {name}" for colour, name in zip(_COLOURS, lines, strict=False))
    ticks = [(share, f"{share:g} %") for share in shares]
    x = Axis(shares[0] * 0.9, shares[-1] * 1.1, f"labelled frames  ({words})", "log", ticks)
    y = Axis(min(values) - 2, max(values) + 2, f"{findings.split} mIoU, %")
    plot = Plot(x, y, "mIoU over the share of the labels", 900, 320)
    for (name, points), style in zip(lines.items(), ("s1", "s2"), strict=True):
        plot.line(points, f"{style} drawn")
        plot.dots([(*point, 5, name) for point in points], style)
    return plot


def _shares(findings: Findings, rows: Sequence[Job], *, pretrained: bool) -> list[tuple[float, float]]:
    points = []
    for job in rows:
        value = _miou(findings, job, findings.split)
        if job.row.share is not None and bool(job.row.init) == pretrained and value is not None:
            points.append((job.row.share, value))
    return sorted(points)


def _miou(findings: Findings, job: Job, split: str) -> float | None:
    score = findings.score(job, split)
    return None if score is None or score.miou is None else 100 * score.miou


def _row_plot(rows: Sequence[Job], span: tuple[float, float], label: str, title: str) -> Plot:
    y = Axis(0, len(rows), "", ticks=[(y, job.row.name) for job, y in _places(rows)])
    return Plot(Axis(span[0], span[1], label), y, title, 900, 66 + 28 * len(rows), left=250)


def _places(rows: Sequence[Job]) -> list[tuple[Job, float]]:
    return [(job, len(rows) - index - 0.5) for index, job in enumerate(rows)]
