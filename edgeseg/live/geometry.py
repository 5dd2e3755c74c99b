"""From camera pictures to engine frames and back, for one camera, also when its size changes in mid-run."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.resize import Policy, Resizer
from edgeseg.core.types import Size, format_size

_SAME_ASPECT = 0.01


@dataclass(frozen=True, slots=True)
class Fit:
    """How pictures of one size go through the engine.

    Attributes:
        resizer: None where the size is refused.
        note: Why masks are DEGRADED, or why the size is refused; else empty.
    """

    resizer: Resizer | None
    note: str = ""


class Geometry:
    """One camera's way through the engine.

    A camera that comes back with another size is taken at that size where its aspect ratio is what it was, and its
    masks are DEGRADED; with another aspect ratio the picture would be another view, so it is refused.

    Args:
        frame_size: The engine's.
        policy: What to do where sizes differ.
    """

    def __init__(self, frame_size: Size, policy: Policy) -> None:
        self._frame_size = frame_size
        self._policy = policy
        self._first: Size | None = None
        self._size: Size | None = None
        self._fit = Fit(None)

    def fit(self, size: Size) -> Fit:
        """How a picture of `size` goes through the engine."""
        if size != self._size:
            self._first = self._first or size
            self._fit = self._make(size, self._first)
            self._size = size
        return self._fit

    def _make(self, size: Size, first: Size) -> Fit:
        resizer = Resizer(size, self._frame_size, self._policy)
        if size == first:
            return Fit(resizer)
        change = f"the camera's size changed from {format_size(first)} to {format_size(size)}"
        aspect, before = size[1] / size[0], first[1] / first[0]
        if abs(aspect / before - 1) > _SAME_ASPECT:
            return Fit(None, f"{change}: another aspect ratio is another view")
        return Fit(resizer, change)
