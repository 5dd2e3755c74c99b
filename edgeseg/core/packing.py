"""BGR pictures in the camera format that an engine was built for, and a camera's bytes as BGR.

An engine that was built for its camera's own bytes needs none of this while it drives. Labelled frames, golden frames
and recordings are BGR, though, and so are some sources: live says so once and times it as `resize_in`. People who
watch see BGR.
"""

from __future__ import annotations

import cv2
import numpy as np

from edgeseg.core.errors import RequestError
from edgeseg.core.types import U8, Colour, InputFormat, Size, format_size
from edgeseg.core.types.colour import OPENCV

_TO_BGR = {"nv12": cv2.COLOR_YUV2BGR_NV12, "yuyv": cv2.COLOR_YUV2BGR_YUY2}


def check_packable(size: Size, form: InputFormat) -> None:
    """Refuse a size that the format cannot have.

    Raises:
        RequestError: NV12 needs even sizes, YUYV an even width.
    """
    if (form == "nv12" and (size[0] % 2 or size[1] % 2)) or (form == "yuyv" and size[1] % 2):
        raise RequestError(f"{form} has no odd sizes", value=format_size(size), allowed="even sizes")


def packed_shape(size: Size, form: InputFormat) -> tuple[int, ...]:
    """Shape of one packed picture, uint8: bgr [H, W, 3]; nv12 [3H/2, W], y and then u and v in turn; yuyv [H, W, 2]."""
    height, width = size
    if form == "nv12":
        return height * 3 // 2, width
    return height, width, 3 if form == "bgr" else 2


def picture_size(data: U8, form: InputFormat) -> Size:
    """(H, W) of a picture of `packed_shape`."""
    rows, width = data.shape[:2]
    return (rows * 2 // 3 if form == "nv12" else rows), width


def luma_chroma(data: U8, form: InputFormat) -> tuple[U8, U8]:
    """Views of a nv12 or yuyv picture: luma [H, W], and chroma [H/2 or H, W], u and v in turn."""
    if form == "nv12":
        height = data.shape[0] * 2 // 3
        return data[:height], data[height:]
    return data[..., 0], data[..., 1]


def unpack(data: U8, form: InputFormat, out_hwc: U8, colour: Colour = OPENCV) -> U8:
    """Write a picture as BGR.

    Args:
        data: uint8, of `packed_shape`.
        form: Its layout.
        out_hwc: uint8 [H, W, 3].
        colour: What its bytes mean.

    Returns:
        `out_hwc`.
    """
    if form == "bgr":
        np.copyto(out_hwc, data)
        return out_hwc
    if colour == OPENCV:
        return cv2.cvtColor(data, _TO_BGR[form], dst=out_hwc)  # type: ignore[no-any-return]
    luma, chroma = luma_chroma(data, form)
    height, width = luma.shape
    pairs = chroma.reshape(chroma.shape[0], width // 2, 2)
    yuv = np.empty((height, width, 3), np.uint8)
    yuv[..., 0] = luma
    yuv[..., 1:] = cv2.resize(pairs, (width, height), interpolation=cv2.INTER_NEAREST)
    matrix, offset = colour.to_bgr()
    return cv2.transform(yuv, np.column_stack([matrix, offset]), dst=out_hwc)  # type: ignore[no-any-return]


def pack(image_hwc: U8, form: InputFormat, out: U8, colour: Colour = OPENCV) -> U8:
    """Write a picture in an engine's input format.

    Args:
        image_hwc: uint8 [H, W, 3] BGR.
        form: Layout of `out`.
        out: uint8, of `packed_shape`.
        colour: What its bytes shall mean.

    Returns:
        `out`.
    """
    height, width = image_hwc.shape[:2]
    if form == "bgr":
        np.copyto(out, image_hwc)
        return out
    luma, u, v = _planes(image_hwc, colour)
    if form == "nv12":
        out[:height] = luma
        chroma = out[height:].reshape(height // 2, width // 2, 2)
        chroma[..., 0], chroma[..., 1] = u, v
        return out
    out[..., 0] = luma
    # OpenCV's planes have one chroma for two rows, as NV12 has
    out[:, 0::2, 1] = u.repeat(2, axis=0)[:height]
    out[:, 1::2, 1] = v.repeat(2, axis=0)[:height]
    return out


def packed(image_hwc: U8, form: InputFormat, colour: Colour = OPENCV) -> U8:
    """`pack` into new memory; a BGR picture as it is."""
    if form == "bgr":
        return image_hwc
    shape = packed_shape((image_hwc.shape[0], image_hwc.shape[1]), form)
    return pack(image_hwc, form, np.empty(shape, np.uint8), colour)


def _planes(image_hwc: U8, colour: Colour) -> tuple[U8, U8, U8]:
    """Luma [H, W], and both chroma planes [H/2, W/2] (rounded up)."""
    height, width = image_hwc.shape[:2]
    if colour == OPENCV and height % 2 == 0:
        planes = cv2.cvtColor(image_hwc, cv2.COLOR_BGR2YUV_I420)
        u, v = planes[height:].reshape(2, height // 2, width // 2)
        return planes[:height], u, v
    matrix, offset = colour.to_bgr()
    inverse = np.linalg.inv(matrix)
    # uint8 in, uint8 out: rounded and clipped by OpenCV
    yuv = cv2.transform(image_hwc, np.column_stack([inverse, -inverse @ offset]))
    if height % 2:
        yuv = cv2.copyMakeBorder(yuv, 0, 1, 0, 0, cv2.BORDER_REPLICATE)
    small = cv2.resize(yuv[..., 1:], (width // 2, yuv.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return yuv[:height, :, 0], small[..., 0], small[..., 1]
