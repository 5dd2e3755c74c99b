"""One array that is picture and label at once, so that the two can never disagree.

The canvas is uint8 [H, W, 4]: blue, green, red, class id. Every stroke writes all four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edgeseg.core.types import U8, Size
from edgeseg.data.street.camera import Pixel

BGR = tuple[float, float, float]
EMPTY = 255
"""Class channel of a sprite where it is transparent."""

_SUBPIXEL_BITS = 3
_MIP_LEVELS = 4


def shaded(colour: BGR, gain: float) -> BGR:
    """A colour under more or less light."""
    return min(colour[0] * gain, 255.0), min(colour[1] * gain, 255.0), min(colour[2] * gain, 255.0)


@dataclass(frozen=True, slots=True)
class Haze:
    """What the air does to a colour at some distance: gain and offset for each channel.

    Attributes:
        keep: Share of the object's own light that arrives.
        veil: Light of the air that is added.
    """

    keep: float
    veil: BGR

    def colour(self, colour: BGR, gain: float = 1.0) -> BGR:
        """The colour as it arrives."""
        k = self.keep * gain
        return colour[0] * k + self.veil[0], colour[1] * k + self.veil[1], colour[2] * k + self.veil[2]

    def picture(self, picture: U8, gain: float = 1.0) -> U8:
        """A uint8 [h, w, 4] picture as it arrives; the class channel stays."""
        k = self.keep * gain
        if k > 0.97 and gain <= 1.0:
            return picture
        matrix = np.zeros((4, 5), np.float32)
        matrix[0, 0] = matrix[1, 1] = matrix[2, 2] = k
        matrix[3, 3] = 1
        matrix[:3, 4] = self.veil
        return np.asarray(cv2.transform(picture, matrix), np.uint8)


class Mipmap:
    """A textured rectangle of one class, kept at several resolutions so that far ones do not flicker.

    Args:
        texture: uint8 [h, w, 4], one class throughout.
    """

    def __init__(self, texture: U8) -> None:
        self.class_id = int(texture[0, 0, 3])
        self.levels: list[U8] = [texture]
        while len(self.levels) < _MIP_LEVELS and min(self.levels[-1].shape[:2]) >= 16:
            last = self.levels[-1]
            half = cv2.resize(last, (last.shape[1] // 2, last.shape[0] // 2), interpolation=cv2.INTER_AREA)
            self.levels.append(np.asarray(half, np.uint8))
        blue, green, red, _ = cv2.mean(self.levels[-1])
        self.mean: BGR = (blue, green, red)

    def level_for(self, height_px: float) -> U8:
        """The level whose rows are nearest to `height_px`, from above."""
        for level in reversed(self.levels):
            if level.shape[0] >= 0.8 * height_px:
                return level
        return self.levels[0]


class Sprite:
    """A cut-out, kept at several resolutions.

    Args:
        picture: uint8 [h, w, 4]; the class channel is `EMPTY` where it is transparent.
    """

    def __init__(self, picture: U8) -> None:
        self.aspect = picture.shape[1] / picture.shape[0]
        self._levels: list[U8] = [picture]
        while len(self._levels) < _MIP_LEVELS:
            last = self._levels[-1]
            self._levels.append(_scaled(last, (last.shape[1] // 2, last.shape[0] // 2)))

    def at(self, width: int, height: int) -> U8:
        """The cut-out at a size in pixels."""
        best = self._levels[0]
        for level in self._levels[1:]:
            if level.shape[0] >= height:
                best = level
        return _scaled(best, (width, height))


def _scaled(picture: U8, size_wh: tuple[int, int]) -> U8:
    """Resize colours smoothly and class ids without mixing them."""
    mode = cv2.INTER_AREA if size_wh[1] < picture.shape[0] else cv2.INTER_LINEAR
    scaled = np.asarray(cv2.resize(picture, size_wh, interpolation=mode), np.uint8)
    scaled[:, :, 3] = cv2.resize(picture[:, :, 3], size_wh, interpolation=cv2.INTER_NEAREST)
    return scaled


class Canvas:
    """A labelled picture under construction.

    Args:
        size: (height, width) in pixels.
    """

    def __init__(self, size: Size) -> None:
        self.pixels: U8 = np.zeros((*size, 4), np.uint8)

    def polygon(self, points: Sequence[Pixel], colour: BGR, class_id: int, *, convex: bool = True) -> None:
        """Fill a polygon; a thin one is at least one pixel wide."""
        if len(points) < 3:
            return
        corners = (np.array(points, np.float64).clip(-30_000, 30_000) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        paint = (colour[0], colour[1], colour[2], float(class_id))
        if convex:
            cv2.fillConvexPoly(self.pixels, corners, paint, cv2.LINE_8, _SUBPIXEL_BITS)
        else:
            cv2.fillPoly(self.pixels, [corners], paint, cv2.LINE_8, _SUBPIXEL_BITS)

    def box(self, x: float, y: float, width: float, height: float, colour: BGR, class_id: int) -> None:
        """Fill an upright rectangle with its top left corner at (x, y)."""
        self.polygon([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], colour, class_id)

    def texture(
        self, mipmap: Mipmap, quad: Sequence[Pixel], span: tuple[float, float], haze: Haze, gain: float
    ) -> None:
        """Draw part of a texture onto a quadrilateral.

        Args:
            mipmap: The texture; its rows run from top to bottom.
            quad: Top left, top right, bottom right, bottom left corner in the picture.
            span: Part of the texture's width that the quad shows, 0 to 1.
            haze: The air between.
            gain: Light on the surface.
        """
        self.polygon(quad, haze.colour(mipmap.mean, gain), mipmap.class_id)
        xs, ys = [p[0] for p in quad], [p[1] for p in quad]
        height, width = self.pixels.shape[:2]
        left, right = max(int(min(xs)), 0), min(int(max(xs)) + 2, width)
        top, bottom = max(int(min(ys)), 0), min(int(max(ys)) + 2, height)
        if right - left < 2 or bottom - top < 2:
            return
        level = mipmap.level_for(max(ys[3] - ys[0], ys[2] - ys[1]))
        rows, columns = level.shape[:2]
        source = np.array(
            [(span[0] * columns, 0), (span[1] * columns, 0), (span[1] * columns, rows), (span[0] * columns, rows)],
            np.float32,
        )
        target = np.array([(x - left, y - top) for x, y in quad], np.float32)
        matrix = cv2.getPerspectiveTransform(source, target)
        region = self.pixels[top:bottom, left:right]
        lit = haze.picture(level, gain)
        cv2.warpPerspective(
            lit,
            matrix,
            (right - left, bottom - top),
            dst=region,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )

    def sprite(self, sprite: Sprite, foot: Pixel, height_px: float, haze: Haze, gain: float = 1.0) -> None:
        """Draw an upright cut-out standing on `foot`.

        Args:
            sprite: What to draw.
            foot: Bottom centre in the picture.
            height_px: Height in the picture.
            haze: The air between.
            gain: Light on it.
        """
        width, height = max(round(height_px * sprite.aspect), 2), max(round(height_px), 3)
        left, top = round(foot[0] - width / 2), round(foot[1]) - height
        rows, columns = self.pixels.shape[:2]
        x0, x1 = max(left, 0), min(left + width, columns)
        y0, y1 = max(top, 0), min(top + height, rows)
        if x1 <= x0 or y1 <= y0:
            return
        inner = np.ascontiguousarray(sprite.at(width, height)[y0 - top : y1 - top, x0 - left : x1 - left])
        opaque = cv2.compare(inner[:, :, 3], EMPTY, cv2.CMP_NE)
        cv2.copyTo(haze.picture(inner, gain), opaque, self.pixels[y0:y1, x0:x1])
