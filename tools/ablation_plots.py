"""The plots of an ablation."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_scores import PERIODS
from ablation_table import Group, Job
from ablation_verdict import Findings

from edgeseg.bench.report.plot import Axis, Plot

_COLOURS = ("blue", "orange", "green")


def group_plots(findings: Findings, group: Group) -> dict[str, Plot]:
    """The plots of a group by the end of their file's name; none before a row of it has been scored."""
    rows = [job for job in findings.of(group) if findings.score(job) is not None]
    plots = {"": score_plot(findings, group, rows)} if rows else {}
    if rows and group.checkerboard:
        plots["-checkerboard"] = checkerboard_plot(findings, group, rows)
    if len([job for job in rows if job.row.share is not None]) > 1:
        plots["-shares"] = share_plot(findings, rows)
    return plots


def score_plot(findings: Findings, group: Group, rows: Sequence[Job]) -> Plot:
    """One line a row: mIoU on every split, over the band of the noise."""
    splits = findings.table.score
    found = {(split, y): _miou(findings, job, split) for job, y in _places(rows) for split in splits}
    values = [value for value in found.values() if value is not None] or [0.0]
    plot = _row_plot(rows, (min(values) - 1, max(values) + 1), "mIoU, %", f"{group.title}: mIoU")
    bound = findings.noise.bound(max(1, len(findings.noise.values)))
    if findings.noise.mean is not None and bound is not None:
        low, high = (100 * (findings.noise.mean + sign * bound) for sign in (-1, 1))
        plot.band(low, high, "noise", f"the seeds alone: {low:.1f} to {high:.1f}")
    for index, split in reversed(list(enumerate(splits))):
        for (other, y), value in found.items():
            if other == split and value is not None:
                plot.dots([(value, y, 4 if index else 6, f"{split} {value:.2f}")], f"s{index + 1}")
    words = [f"{colour}: {split}" for colour, split in zip(_COLOURS, splits, strict=False)]
    _key(plot, ", ".join([*words, f"band: the seeds alone, on {findings.split}"]))
    return plot


def checkerboard_plot(findings: Findings, group: Group, rows: Sequence[Job]) -> Plot:
    """One line a row: the share of the lattice of each period in the logits' differences."""
    shares = [(y, found.checkerboard) for job, y in _places(rows) if (found := findings.result(job))]
    top = max([0.02, *(value for _, share in shares for value in share.values())])
    plot = _row_plot(rows, (0, 1.1 * top), "C, share of the lattice", f"{group.title}: checkerboard")
    for index, period in enumerate(PERIODS):
        found = [(share[str(period)], y) for y, share in shares if str(period) in share]
        plot.dots([(value, y, 6 - 2 * index, f"period {period}") for value, y in found], f"s{index + 1}")
    _key(plot, ", ".join(f"{colour}: period {period}" for colour, period in zip(_COLOURS, PERIODS, strict=False)))
    return plot


def share_plot(findings: Findings, rows: Sequence[Job]) -> Plot:
    """The share of the labels against mIoU, from scratch and from pretraining."""
    lines = [_shares(findings, rows, pretrained=started) for started in (False, True)]
    values = [value for points in lines for _, value in points]
    shares = sorted({share for points in lines for share, _ in points})
    x = Axis(shares[0] * 0.9, shares[-1] * 1.1, "labelled frames", "log", [(share, f"{share:g} %") for share in shares])
    y = Axis(min(values) - 2, max(values) + 2, f"{findings.split} mIoU, %")
    plot = Plot(x, y, "mIoU over the share of the labels", 900, 320)
    for points, style, name in zip(lines, ("s1", "s2"), ("from scratch", "pretrained"), strict=True):
        plot.line(points, f"{style} drawn")
        plot.dots([(*point, 5, name) for point in points], style)
    _key(plot, "blue: from scratch, orange: pretrained on the same frames without labels")
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
    y = Axis(0, len(rows) + 0.6, "", ticks=[(y, job.row.name) for job, y in _places(rows)])
    return Plot(Axis(span[0], span[1], label), y, title, 900, 76 + 28 * len(rows), left=250)


def _places(rows: Sequence[Job]) -> list[tuple[Job, float]]:
    return [(job, len(rows) - index - 0.5) for index, job in enumerate(rows)]


def _key(plot: Plot, text: str) -> None:
    """What the colours mean, in the upper right corner."""
    plot.text(plot.x.high, plot.y.high - 17 / plot.height * (plot.y.high - plot.y.low), text, anchor="end")
