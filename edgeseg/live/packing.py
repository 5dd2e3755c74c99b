"""BGR pictures into the camera format that an engine was built for: the fallback where a source gives only BGR.

The conversion is OpenCV's: BT.601, limited range. An engine that was built for its camera's own bytes needs none of
this; where it happens it is said once, and timed as `resize_in`.
"""

from __future__ import annotations

import cv2
import numpy as np

from edgeseg.core.errors import RequestError
from edgeseg.core.types import U8, InputFormat, Size, format_size


def check_packable(size: Size, form: InputFormat) -> None:
    """Refuse a size that the format cannot have.

    Raises:
        RequestError: NV12 needs even sizes, YUYV an even width.
    """
    if (form == "nv12" and (size[0] % 2 or size[1] % 2)) or (form == "yuyv" and size[1] % 2):
        raise RequestError(f"{form} has no odd sizes", value=format_size(size), allowed="even sizes")


def pack(image_hwc: U8, form: InputFormat, out: U8) -> U8:
    """Write a picture in an engine's input format.

    Args:
        image_hwc: uint8 [H, W, 3] BGR.
        form: Layout of `out`.
        out: uint8: bgr [H, W, 3]; nv12 [3H/2, W], the y plane and then interleaved u and v; yuyv [H, W, 2].

    Returns:
        `out`.
    """
    height, width = image_hwc.shape[:2]
    if form == "bgr":
        np.copyto(out, image_hwc)
        return out
    planes = cv2.cvtColor(image_hwc, cv2.COLOR_BGR2YUV_I420)
    if form == "nv12":
        out[:height] = planes[:height]
        chroma = planes[height:].reshape(2, height // 2, width // 2)
        out[height:].reshape(height // 2, width // 2, 2)[...] = chroma.transpose(1, 2, 0)
        return out
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    out[..., 0] = planes[:height]
    out[:, 0::2, 1] = chroma[0].repeat(2, axis=0)
    out[:, 1::2, 1] = chroma[1].repeat(2, axis=0)
    return out
