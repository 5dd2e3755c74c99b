"""A small plotter: scales, axes and marks as inline SVG. Colours are classes: the page's style sheet decides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

Kind = Literal["linear", "log"]
Point = tuple[float, float]
Box = tuple[float, float, float, float]
_MIDDLE = 'text-anchor="middle"'
_SIDES = (
    (0.0, -11.0, "middle"),
    (0.0, 20.0, "middle"),
    (11.0, 4.0, "start"),
    (-11.0, 4.0, "end"),
    (9.0, -9.0, "start"),
    (-9.0, -9.0, "end"),
    (9.0, 17.0, "start"),
    (-9.0, 17.0, "end"),
)
"""Where a word may stand from its dot, in pixels, the liked ones first."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: the range of its values, its kind and its label.

    Attributes:
        low: Value at the origin.
        high: Value at the far end.
        label: Quantity and unit.
        kind: Linear or logarithmic.
        ticks: Tick values and labels; None chooses round ones.
    """

    low: float
    high: float
    label: str
    kind: Kind = "linear"
    ticks: Sequence[tuple[float, str]] | None = None

    def share(self, value: float) -> float:
        """Where a value lies: 0 at `low`, 1 at `high`; clamped to that."""
        if self.kind == "log":
            low, high, value = (math.log10(max(item, 1e-12)) for item in (self.low, self.high, value))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / ((high - low) or 1.0)))

    def marks(self) -> Sequence[tuple[float, str]]:
        """Ticks with their labels."""
        if self.ticks is not None:
            return self.ticks
        values = _log_ticks(self.low, self.high) if self.kind == "log" else _linear_ticks(self.low, self.high)
        return [(value, number(value)) for value in values]


@dataclass(slots=True)
class Plot:
    """One picture. Marks are added in order; later ones lie above.

    Args:
        x: Horizontal axis.
        y: Vertical axis.
        title: Read by screen readers, and shown as a tooltip.
        width: Pixels at scale 1; the page scales it to its column.
        height: Likewise.
        left: Room for the labels of the vertical axis.
    """

    x: Axis
    y: Axis
    title: str
    width: int = 720
    height: int = 300
    left: int = 62
    marks: list[str] = field(default_factory=list)

    _RIGHT, _TOP, _BOTTOM = 16, 14, 44

    def at(self, x: float, y: float) -> Point:
        """Pixel position of a value."""
        inner_w, inner_h = self.width - self.left - self._RIGHT, self.height - self._TOP - self._BOTTOM
        return self.left + inner_w * self.x.share(x), self._TOP + inner_h * (1 - self.y.share(y))

    def line(self, points: Iterable[Point], style: str) -> None:
        """A polyline."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        self.marks.append(f'<polyline class="line {style}" points="{path}"/>')

    def area(self, points: Sequence[Point], style: str) -> None:
        """A polyline filled down to the axis."""
        if not points:
            return
        base = [(points[-1][0], self.y.low), (points[0][0], self.y.low)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in [*points, *base]))
        self.marks.append(f'<polygon class="area {style}" points="{path}"/>')

    def dots(self, points: Iterable[tuple[float, float, float, str]], style: str) -> None:
        """Circles (x, y, radius in pixels, tooltip)."""
        for x, y, radius, tip in points:
            px, py = self.at(x, y)
            self.marks.append(
                f'<circle class="dot {style}" cx="{px:.1f}" cy="{py:.1f}" r="{radius:.1f}">'
                f"<title>{escape(tip)}</title></circle>"
            )

    def band(self, low: float, high: float, style: str, tip: str) -> None:
        """A vertical band between two x values."""
        left, right = self.at(low, self.y.low)[0], self.at(high, self.y.low)[0]
        top, bottom = self._TOP, self.height - self._BOTTOM
        self.marks.append(
            f'<rect class="band {style}" x="{left:.1f}" y="{top}" width="{max(1.0, right - left):.1f}" '
            f'height="{bottom - top}"><title>{escape(tip)}</title></rect>'
        )

    def rule(self, x: float, style: str, text: str) -> None:
        """A vertical line with a word at its top."""
        left = self.at(x, self.y.low)[0]
        self.marks.append(
            f'<line class="rule {style}" x1="{left:.1f}" x2="{left:.1f}" y1="{self._TOP}" '
            f'y2="{self.height - self._BOTTOM}"/>'
            f'<text class="note {style}" x="{left + 4:.1f}" y="{self._TOP + 11}">{escape(text)}</text>'
        )

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        """A word at a value."""
        px, py = self.at(x, y)
        self.marks.append(
            f'<text class="note {style}" x="{px:.1f}" y="{py - 5:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def names(self, points: Sequence[tuple[float, float, str]], lines: Sequence[Sequence[Point]] = ()) -> None:
        """Words beside dots, each on the side where it covers the least of other dots, words and lines.

        Args:
            points: (x, y, word) of each dot.
            lines: Polylines that words keep off, as given to `line`.
        """
        dots = [self.at(x, y) for x, y, _ in points]
        paths = [spot for line in lines for spot in _along([self.at(*point) for point in line])]
        frame = (self.left, self._TOP, self.width - self._RIGHT, self.height - self._BOTTOM)
        taken: list[Box] = []
        for place, (_, _, word) in enumerate(points):
            px, py = dots[place]
            others = [(*spot, 7) for spot in (*dots[:place], *dots[place + 1 :])] + [(*spot, 3) for spot in paths]
            boxes = [_word_box(px + dx, py + dy, word, anchor) for dx, dy, anchor in _SIDES]
            costs = [_covered(box, others, taken, frame) for box in boxes]
            best = costs.index(min(costs))
            dx, dy, anchor = _SIDES[best]
            taken.append(boxes[best])
            self.marks.append(
                f'<text class="note" x="{px + dx:.1f}" y="{py + dy:.1f}" text-anchor="{anchor}">{escape(word)}</text>'
            )

    def svg(self) -> str:
        """The whole picture."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.title, quote=True)}">'
            f"{self._grid()}{''.join(self.marks)}</svg>"
        )

    def _grid(self) -> str:
        left, bottom = self.left, self.height - self._BOTTOM
        right, top = self.width - self._RIGHT, self._TOP
        parts = []
        for value, text in self.x.marks():
            px = self.at(value, self.y.low)[0]
            parts.append(f'<line class="grid" x1="{px:.1f}" x2="{px:.1f}" y1="{top}" y2="{bottom}"/>')
            parts.append(
                f'<text class="tick" x="{px:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(text)}</text>'
            )
        for value, text in self.y.marks():
            py = self.at(self.x.low, value)[1]
            parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{py:.1f}" y2="{py:.1f}"/>')
            parts.append(f'<text class="tick" x="{left - 7}" y="{py + 4:.1f}" text-anchor="end">{escape(text)}</text>')
        middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
        parts.append(
            f'<text class="axis" x="{middle_x}" y="{self.height - 8}" {_MIDDLE}>{escape(self.x.label)}</text>'
            f'<text class="axis" transform="translate(14 {middle_y}) rotate(-90)" {_MIDDLE}>'
            f"{escape(self.y.label)}</text>"
        )
        return "".join(parts)


def _word_box(px: float, py: float, word: str, anchor: str) -> Box:
    """About where a word of 12 pixels' height lies: left, top, right, bottom."""
    width = 6.6 * len(word)
    left = px - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return left, py - 11, left + width, py + 3


def _covered(box: Box, spots: Iterable[tuple[float, float, int]], taken: Iterable[Box], frame: Box) -> int:
    """How much a word would lie on: spots (x, y, radius) by number; words and the frame's edge count most."""
    left, top, right, bottom = box
    points = sum(left - r < x < right + r and top - r < y < bottom + r for x, y, r in spots)
    words = sum(left < other[2] and other[0] < right and top < other[3] and other[1] < bottom for other in taken)
    outside = left < frame[0] or right > frame[2] or top < frame[1] or bottom > frame[3]
    return points + 100 * (words + outside)


def _along(corners: Sequence[Point]) -> list[Point]:
    """Points on a polyline, some four pixels apart."""
    spots: list[Point] = []
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        count = max(1, round(math.hypot(x1 - x0, y1 - y0) / 4))
        spots += [(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(count + 1)]
    return spots


def number(value: float) -> str:
    """A number for a tick or a cell: three significant digits, thousands with a k, millions with an M."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def step(edges: Sequence[float], counts: Sequence[float]) -> list[Point]:
    """Corners of a histogram."""
    points: list[Point] = []
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        points += [(low, count), (high, count)]
    return points


def _linear_ticks(low: float, high: float) -> list[float]:
    span = (high - low) or 1.0
    size = 10 ** math.floor(math.log10(span / 5))
    size *= next(factor for factor in (1, 2, 5, 10) if span / (size * factor) <= 7)
    first = math.ceil(low / size)
    return [round(i * size, 12) for i in range(first, math.floor(high / size + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(max(low, 1e-12))), math.ceil(math.log10(max(high, 1e-12))) + 1)
    factors = (1, 2, 5) if high < 1000 * low else (1,)
    return [10.0**decade * factor for decade in decades for factor in factors if low <= 10.0**decade * factor <= high]
