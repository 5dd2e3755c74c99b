"""What the bytes of a camera's YUV mean (ITU-R BT.601-7 and BT.709-6, section 3)."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import RequestError

_LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


Matrix = Literal["bt601", "bt709"]
Range = Literal["limited", "full"]


class Colour(msgspec.Struct, frozen=True, kw_only=True):
    """How bytes of YUV mean colours.

    Attributes:
        matrix: Weights of red and blue in luma: `bt601` (most cameras up to 576 lines), `bt709` (HD).
        range: `limited` (luma 16 to 235, chroma 16 to 240) or `full` (0 to 255; JPEG and many USB cameras).
    """

    matrix: Matrix = "bt601"
    range: Range = "limited"

    @classmethod
    def from_text(cls, text: str) -> Colour:
        """The colour that `str` writes so: `bt601-limited`, `bt709-full` and so on.

        Raises:
            RequestError: It is none of them.
        """
        known = {f"{matrix}-{span}": (matrix, span) for matrix in get_args(Matrix) for span in get_args(Range)}
        if text not in known:
            raise RequestError("no such meaning of YUV bytes", value=text, allowed=", ".join(known))
        matrix, span = known[text]
        return cls(matrix=matrix, range=span)

    def __str__(self) -> str:
        return f"{self.matrix}-{self.range}"

    def to_bgr(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Matrix [3, 3] and offset [3], float64: BGR in 0 to 255 = matrix @ (Y, U, V) + offset, before clipping."""
        red, blue = _LUMA_WEIGHTS[self.matrix]
        green = 1 - red - blue
        chroma = np.array(
            [
                [2 * (1 - blue), 0],
                [-2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
                [0, 2 * (1 - red)],
            ]
        )
        luma_gain, chroma_gain, black = (255 / 219, 255 / 224, 16) if self.range == "limited" else (1.0, 1.0, 0)
        matrix = np.hstack([np.full((3, 1), luma_gain), chroma * chroma_gain])
        return matrix, -matrix @ np.array([black, 128, 128])


OPENCV = Colour()
"""What OpenCV's own conversions mean, and most cameras of up to 576 lines: BT.601, limited range."""
