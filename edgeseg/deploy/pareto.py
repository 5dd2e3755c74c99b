"""The search as a picture: what each engine takes in time, and what it loses in accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _MARGIN = 640, 400, 60


@dataclass(frozen=True, slots=True)
class Point:
    """An engine: median time in ms, mIoU points lost against FP32, and whether it was kept."""

    name: str
    p50_ms: float
    lost_points: float
    kept: bool = False


def pareto_svg(points: Sequence[Point], budget: float) -> str:
    """A scatter of engines as SVG; the dashed line is the budget."""
    top_ms = 1.1 * max(point.p50_ms for point in points)
    high = 1.2 * max(budget, *(point.lost_points for point in points), 0.1)
    low = min(0.0, 1.2 * min(point.lost_points for point in points))

    def place(ms: float, lost: float) -> tuple[float, float]:
        x = _MARGIN + ms / top_ms * (_WIDTH - 2 * _MARGIN)
        return x, _MARGIN + (high - lost) / (high - low) * (_HEIGHT - 2 * _MARGIN)

    right, zero = _WIDTH - _MARGIN, place(0, 0)[1]
    line = place(0, budget)[1]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<path d="M{_MARGIN} {_MARGIN}V{_HEIGHT - _MARGIN}M{_MARGIN} {zero:.1f}H{right}" stroke="#444" fill="none"/>',
        f'<path d="M{_MARGIN} {line:.1f}H{right}" stroke="#c00" stroke-dasharray="6 4"/>',
        f'<text x="{right}" y="{line - 5:.1f}" text-anchor="end" fill="#c00">budget {budget:g} points</text>',
        f'<text x="{right}" y="{_HEIGHT - 20}" text-anchor="end">engine p50, ms (0 to {top_ms:.3g})</text>',
        f'<text x="{_MARGIN}" y="{_MARGIN - 20}">mIoU points lost (top {high:.2g})</text>',
    ]
    for point in points:
        x, y = place(point.p50_ms, point.lost_points)
        colour = "#080" if point.kept else "#26c"
        text = f"{point.name}: {point.p50_ms:.2f} ms, {point.lost_points:+.2f}"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{6 if point.kept else 4}" fill="{colour}"/>')
        anchor, shift = ("end", -9) if x > _WIDTH / 2 else ("start", 9)
        parts.append(f'<text x="{x + shift:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{escape(text)}</text>')
    return "\n".join([*parts, "</svg>", ""])
