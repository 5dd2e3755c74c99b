"""The page of `compare_quantizers.py`: losses with their intervals, class by class, in Markdown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.clock import wall_iso
from edgeseg.core.device import fingerprint
from edgeseg.core.types import U8
from edgeseg.measure.bootstrap import Interval

Ratio = tuple[float, Interval]
_REPLICATES = 1000
_LEAST_IOU, _LEAST_SHARE = 0.3, 0.005  # of a class whose loss is judged by itself


@dataclass
class Row:
    """One engine or graph: its confusion by frame, masks, and what could be measured of flicker and speed."""

    name: str
    executor: str
    confusion: NDArray[np.int64]  # [frames, C, C + 1]
    masks: list[U8]
    int8_share: float | None = None
    p50_ms: float | None = None
    flicker: float | None = None
    of_bf16: Ratio | None = None
    of_f32: Ratio | None = None


def save_row(file: Path, row: Row) -> None:
    """Keep what a row was scored by; latencies are not kept."""
    flicker = np.nan if row.flicker is None else row.flicker
    np.savez_compressed(file, confusion=row.confusion, masks=np.stack(row.masks), flicker=flicker)


def load_row(file: Path, name: str, executor: str) -> Row:
    """A row that `save_row` kept."""
    with np.load(file) as kept:
        flicker = float(kept["flicker"])
        return Row(
            name, executor, kept["confusion"], list(kept["masks"]), flicker=None if np.isnan(flicker) else flicker
        )


def write_between_marks(page: Path, text: str, mark: str = "measured") -> None:
    """Put tables between the marks of a page, or write a page of them alone."""
    begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->\n"
    before, _, rest = (page.read_text(encoding="utf-8") if page.exists() else begin + end).partition(begin)
    page.write_text(before + begin + text + end + rest.partition(end)[2], encoding="utf-8")


def command(tool: str) -> str:
    """The command line that made a page, without the folders of this machine."""
    return " ".join(["python", f"tools/{tool}", *map(_portable, sys.argv[1:])])


def _portable(argument: str) -> str:
    scheme, colon, place = argument.rpartition(":")
    if "/" not in place or argument.startswith("docs/"):
        return argument or '""'
    return f"{scheme}:PATH" if colon else Path(place).name


def markdown(rows: Sequence[Row], names: Sequence[str], caption: str, notes: Sequence[str]) -> str:
    """The tables of all rows; the first is FP32."""
    base = rows[0]
    watched = watched_classes(base.confusion)
    device = fingerprint()
    lines = [
        f"`{command('compare_quantizers.py')}`",
        "",
        f"{caption} {device.cpu}, {device.cores} cores; {wall_iso()[:10]}. Loss in points of mIoU with its 95 % "
        "interval (paired bootstrap of frames); worst class among those with IoU of 0.3 or more and 0.5 % of the "
        f"pixels ({', '.join(names[i] for i in watched)}); agreement is the share of pixels with FP32's class; flicker "
        "is the share of still pixels that change class from frame to frame, over FP32's. p50 of one interleaved run, "
        "precision hints set and read back; ratios of medians with their 95 % interval (resampled rounds).",
        "",
        "| | executed by | mIoU | loss | worst class | agreement | flicker | INT8 layers | p50 ms | of BF16 | of f32 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_line(row, base, names, watched) for row in rows),
        "",
        "Loss of IoU in points, class by class, with its 95 % interval:",
        "",
        "| | FP32 IoU | " + " | ".join(row.name for row in rows[1:]) + " |",
        "|---" * (len(rows) + 1) + "|",
        *_class_lines(rows, names, watched),
    ]
    lines += ["", *(f"- {note}." for note in notes)]
    return "\n".join(lines).rstrip() + "\n"


def watched_classes(confusion: NDArray[np.int64]) -> list[int]:
    """Classes whose loss is judged by itself: IoU of 0.3 or more and 0.5 % of the labelled pixels."""
    reference = iou(confusion.sum(axis=0))
    shares = confusion.sum(axis=(0, 2)) / confusion.sum()
    return [i for i in range(len(reference)) if reference[i] >= _LEAST_IOU and shares[i] >= _LEAST_SHARE]


def _line(row: Row, base: Row, names: Sequence[str], watched: Sequence[int]) -> str:
    reference, found = iou(base.confusion.sum(axis=0)), iou(row.confusion.sum(axis=0))
    low, high = interval(base.confusion, row.confusion)
    drops = {names[i]: 100 * (reference[i] - found[i]) for i in watched}
    worst = max(drops, key=lambda name: drops[name]) if drops else "–"
    agreement = np.mean([np.mean(a == b) for a, b in zip(base.masks, row.masks, strict=True)])
    cells = [
        row.name,
        row.executor,
        f"{np.nanmean(found):.4f}",
        f"{100 * (np.nanmean(reference) - np.nanmean(found)):+.2f} [{low:+.2f}, {high:+.2f}]",
        f"{worst} {drops.get(worst, 0.0):+.2f}",
        f"{agreement:.2%}",
        _ratio(row.flicker, base.flicker),
        "–" if row.int8_share is None else f"{row.int8_share:.0%}",
        "–" if row.p50_ms is None else f"{row.p50_ms:.2f}",
        _timed(row.of_bf16),
        _timed(row.of_f32),
    ]
    return f"| {' | '.join(cells)} |"


def _class_lines(rows: Sequence[Row], names: Sequence[str], watched: Sequence[int]) -> list[str]:
    base = rows[0]
    reference = iou(base.confusion.sum(axis=0))
    drops = [class_intervals(base.confusion, row.confusion) for row in rows[1:]]
    lines = []
    for i, name in enumerate(names):
        if np.isnan(reference[i]):
            continue
        cells = [f"{drop[i][0]:+.2f} [{drop[i][1]:+.2f}, {drop[i][2]:+.2f}]" for drop in drops]
        lines.append(f"| {f'**{name}**' if i in watched else name} | {100 * reference[i]:.1f} | {' | '.join(cells)} |")
    return lines


def _ratio(value: float | None, base: float | None) -> str:
    return "–" if value is None or not base else f"{value / base:.2f}"


def _timed(ratio: Ratio | None) -> str:
    if ratio is None:
        return "–"
    value, (low, high) = ratio
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU by class of a confusion matrix whose last column is "no class"; NaN for what does not occur."""
    hits = np.diagonal(matrix).astype(np.float64)
    union = matrix.sum(axis=1) + matrix[:, : len(hits)].sum(axis=0) - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def interval(base: NDArray[np.int64], other: NDArray[np.int64]) -> tuple[float, float]:
    """The 95 % interval of the loss of mIoU in points, frames resampled with replacement (Efron 1979), in pairs."""
    drops = [np.nanmean(one) - np.nanmean(two) for one, two in _resampled(base, other)]
    low, high = 100 * np.percentile(drops, (2.5, 97.5))
    return float(low), float(high)


def class_intervals(base: NDArray[np.int64], other: NDArray[np.int64]) -> list[tuple[float, float, float]]:
    """Loss of IoU in points of each class, and its 95 % interval."""
    lost = 100 * (iou(base.sum(axis=0)) - iou(other.sum(axis=0)))
    drops = 100 * np.stack([one - two for one, two in _resampled(base, other)])
    found = []
    for i, value in enumerate(lost):
        known = drops[:, i][~np.isnan(drops[:, i])]
        low, high = np.percentile(known, (2.5, 97.5)) if known.size else (np.nan, np.nan)
        found.append((float(value), float(low), float(high)))
    return found


def _resampled(
    base: NDArray[np.int64], other: NDArray[np.int64]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    generator = np.random.default_rng(0)
    picks = [generator.integers(0, len(base), len(base)) for _ in range(_REPLICATES)]
    return [(iou(base[pick].sum(axis=0)), iou(other[pick].sum(axis=0))) for pick in picks]
