"""Sizes of frame, region and network: what each is by default, and which cannot be."""

from __future__ import annotations

from edgeseg.core.errors import RequestError
from edgeseg.core.types import Region, Size, format_size
from edgeseg.graph.meta import ModelMeta

_MIN_SIDE = 8
_MAX_SIDE = 16384


def check_size(size: Size, *, what: str = "frame size") -> None:
    """Refuse a size that cannot be.

    Raises:
        RequestError: A side under 8 or over 16384 pixels.
    """
    if not all(_MIN_SIDE <= side <= _MAX_SIDE for side in size):
        allowed = f"sides of {_MIN_SIDE} to {_MAX_SIDE}"
        raise RequestError(f"the {what} cannot be", value=format_size(size), allowed=allowed)


def check_network_size(size: Size, meta: ModelMeta, *, fix: str) -> None:
    """Refuse a size at which the network has nothing to look at.

    A side under the stride is one cell of the coarsest level, and most of that is padding.

    Args:
        size: (H, W) that the layers would see, before padding.
        meta: Of the model.
        fix: What to give instead.

    Raises:
        RequestError: A side under the model's stride, or one that no size may have.
    """
    least = max(_MIN_SIDE, meta.stride)
    if not all(least <= side <= _MAX_SIDE for side in size):
        raise RequestError(
            "the network size cannot be",
            value=f"{format_size(size)} at stride {meta.stride}",
            allowed=f"sides of {least} to {_MAX_SIDE}; trained at {format_size(meta.network_size)}",
            fix=fix,
        )


def check_roi(roi: Region, frame_size: Size) -> None:
    """Refuse a region of interest that the frame does not hold.

    Raises:
        RequestError: It is empty or reaches outside.
    """
    top, left, height, width = roi
    if min(top, left) < 0 or min(height, width) < 1 or top + height > frame_size[0] or left + width > frame_size[1]:
        raise RequestError(
            "the region of interest does not lie in the frame",
            value=f"{format_size((height, width))} at row {top}, column {left}",
            allowed=f"a part of {format_size(frame_size)}",
        )


def default_network_size(trained: Size, frame_size: Size) -> Size:
    """The size that the layers see unless told otherwise.

    The trained height with the frame's aspect ratio, never enlarging: a frame that is not taller is not resized.

    Args:
        trained: (H, W) that the network was trained at.
        frame_size: (H, W) of the frame.
    """
    if frame_size[0] <= trained[0]:
        return frame_size
    return trained[0], max(_MIN_SIDE, round(frame_size[1] * trained[0] / frame_size[0]))
