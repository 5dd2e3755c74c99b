"""The one host-side resize: a frame to the engine's size, and the mask back to the camera's.

Used only where a given bundle's frame size is not the camera's; otherwise the resize is in the graph. Three
policies, each an affine map from mask pixels to camera pixels (pixel centres at half-integers):

    stretch    the whole picture, aspect ratio not kept
    crop       the largest central part with the engine's aspect ratio; the mask is "no class" outside of it
    letterbox  the whole picture, aspect ratio kept; its edge pixels repeated into the bars
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from edgeseg.core.errors import RequestError
from edgeseg.core.types import U8, Size, format_size

Policy = Literal["stretch", "crop", "letterbox"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in an array [H, W, …]."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True, slots=True)
class AffineMap:
    """`camera = mask * scale + offset`, in pixels, for x and y apart; integer coordinates are pixel centres."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        """The camera pixel (x, y) that a mask pixel looks at."""
        return x * self.scale_x + self.offset_x, y * self.scale_y + self.offset_y


class Resizer:
    """Camera frames to one engine frame size, and masks back. Holds no picture: threads may share one.

    Args:
        camera_size: (H, W) of the pictures that come in.
        frame_size: (H, W) of the engine's frames and masks.
        policy: `stretch`, `crop` or `letterbox`.

    Raises:
        RequestError: An unknown policy, or a size without pixels.
    """

    def __init__(self, camera_size: Size, frame_size: Size, policy: Policy = "stretch") -> None:
        if policy not in POLICIES:
            raise RequestError("unknown resize policy", value=policy, allowed=", ".join(POLICIES))
        if min(*camera_size, *frame_size) < 1:
            raise RequestError(
                "a size without pixels",
                value=f"{format_size(camera_size)} to {format_size(frame_size)}",
                allowed="at least 1x1",
            )
        self.camera_size = camera_size
        self.frame_size = frame_size
        self.policy = policy
        whole_camera, whole_frame = Rect(0, 0, *camera_size), Rect(0, 0, *frame_size)
        self.camera_rect = _fit(frame_size, camera_size) if policy == "crop" else whole_camera
        self.frame_rect = _fit(camera_size, frame_size) if policy == "letterbox" else whole_frame

    @property
    def identity(self) -> bool:
        """Whether the sizes agree, so that nothing needs to be done."""
        return self.camera_size == self.frame_size

    @property
    def mask_to_camera(self) -> AffineMap:
        """Where a mask pixel looks in the camera's picture."""
        scale_x = self.camera_rect.width / self.frame_rect.width
        scale_y = self.camera_rect.height / self.frame_rect.height
        return AffineMap(
            scale_x=scale_x,
            scale_y=scale_y,
            offset_x=self.camera_rect.left + (0.5 - self.frame_rect.left) * scale_x - 0.5,
            offset_y=self.camera_rect.top + (0.5 - self.frame_rect.top) * scale_y - 0.5,
        )

    def to_frame(self, image_hwc: U8, out_hwc: U8) -> U8:
        """Write the engine's frame.

        Area averaging where the picture shrinks in both directions (no aliasing), linear elsewhere.

        Args:
            image_hwc: uint8 [H, W, C] at camera size.
            out_hwc: uint8 [H, W, C] at frame size, contiguous; all of it is written.

        Returns:
            `out_hwc`.

        Raises:
            RequestError: A picture of another size.
        """
        self._check(image_hwc, self.camera_size, "picture")
        self._check(out_hwc, self.frame_size, "frame")
        rect = self.frame_rect
        part = image_hwc[self.camera_rect.slices]
        shrinks = part.shape[0] >= rect.height and part.shape[1] >= rect.width
        scaled = cv2.resize(
            part, (rect.width, rect.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        if scaled.shape[:2] == self.frame_size:
            np.copyto(out_hwc, scaled.reshape(out_hwc.shape))
            return out_hwc
        below = self.frame_size[0] - rect.top - rect.height
        right = self.frame_size[1] - rect.left - rect.width
        cv2.copyMakeBorder(scaled, rect.top, below, rect.left, right, cv2.BORDER_REPLICATE, dst=out_hwc)
        return out_hwc

    def to_camera(self, plane_hw: U8, out_hw: U8, outside: int) -> U8:
        """Write a mask (or confidence) plane at camera size: nearest pixel centre, so ids are never mixed.

        Args:
            plane_hw: uint8 [H, W] at frame size.
            out_hw: uint8 [H, W] at camera size; all of it is written.
            outside: Value where the engine saw nothing (`crop`): the ignore id for masks, 0 for confidence.

        Returns:
            `out_hw`.

        Raises:
            RequestError: A plane of another size.
        """
        self._check(plane_hw, self.frame_size, "mask")
        self._check(out_hw, self.camera_size, "mask at camera size")
        rect = self.camera_rect
        part = plane_hw[self.frame_rect.slices]
        whole = (rect.height, rect.width) == self.camera_size
        scaled = cv2.resize(
            part,
            (rect.width, rect.height),
            dst=out_hw if whole else None,
            interpolation=cv2.INTER_NEAREST_EXACT,
        )
        if not whole:
            out_hw[...] = outside
            out_hw[rect.slices] = scaled
        elif scaled is not out_hw:
            np.copyto(out_hw, scaled)
        return out_hw

    @staticmethod
    def _check(array: U8, size: Size, what: str) -> None:
        if array.shape[:2] != size:
            raise RequestError(
                f"the {what} has another size", value=format_size(array.shape[:2]), allowed=f"{format_size(size)} here"
            )


def _fit(aspect: Size, within: Size) -> Rect:
    """The largest central rectangle of `within` that has the aspect ratio of `aspect`, to the nearest pixel."""
    height, width = within
    scale = min(height / aspect[0], width / aspect[1])
    fit_h = min(height, max(1, round(aspect[0] * scale)))
    fit_w = min(width, max(1, round(aspect[1] * scale)))
    return Rect((height - fit_h) // 2, (width - fit_w) // 2, fit_h, fit_w)
