"""Reading and writing pictures through Pillow, strictly: what is damaged is refused, never half-read."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgeseg.core.artefacts import write_bytes
from edgeseg.core.errors import DataError
from edgeseg.core.types import U8

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def read_image(path: Path) -> U8:
    """Read a picture as uint8 [H, W, 3] BGR, turned as its EXIF orientation says.

    Raises:
        DataError: The file is missing, truncated, damaged, not a picture, or has more than 8 bits a channel.
    """
    image = open_picture(path)
    if image.mode in _DEEP_MODES:
        raise DataError("the picture has more than 8 bits a channel", value=path, allowed="8-bit pictures")
    return rgb_to_bgr(np.asarray(ImageOps.exif_transpose(image).convert("RGB")))


def open_picture(path: Path) -> Image.Image:
    """Decode a picture file wholly.

    PNG decoders forgive a missing end (OpenCV shows what it has, Pillow stops at the last row), so the chunks of a
    PNG are checked against their CRC first.

    Raises:
        DataError: The file is missing, truncated, damaged or not a picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError("the picture cannot be read", value=f"{path}: {error.strerror}") from error
    return decode_picture(data, origin=str(path))


def decode_picture(data: bytes, *, origin: str) -> Image.Image:
    """Decode the bytes of a picture file wholly; `origin` names it in errors.

    Raises:
        DataError: The bytes are truncated, damaged or not a picture.
    """
    if data.startswith(_PNG_SIGNATURE):
        _check_png(data, origin)
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except UnidentifiedImageError:
        raise DataError("the file is not a picture", value=origin, allowed=", ".join(IMAGE_SUFFIXES)) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError("the picture is truncated or damaged", value=f"{origin}: {error}") from None
    return image


def write_image_png(path: Path, image_hwc: U8) -> None:
    """Write uint8 [H, W, 3] BGR as a PNG, atomically."""
    write_bytes(path, encode_image_png(image_hwc))


def encode_image_png(image_hwc: U8) -> bytes:
    """The PNG bytes of a uint8 [H, W, 3] BGR picture."""
    buffer = io.BytesIO()
    Image.fromarray(rgb_to_bgr(image_hwc)).save(buffer, "PNG")
    return buffer.getvalue()


def rgb_to_bgr(image_hwc: U8) -> U8:
    """The channels of uint8 [H, W, 3] in reverse order, contiguous and writable."""
    return np.array(image_hwc[:, :, ::-1], order="C")


def _check_png(data: bytes, origin: str) -> None:
    """Walk the chunks of a PNG (length, type, data, CRC: PNG specification, section 5) to IEND."""
    view, at = memoryview(data), len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        length = int.from_bytes(view[at : at + 4], "big")
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise DataError("the picture is damaged", value=f"{origin}: checksum of a PNG chunk at byte {at}")
        if data[at + 4 : at + 8] == b"IEND":
            return
        at = end
    raise DataError("the picture is truncated", value=f"{origin}: PNG without its end, {len(data)} bytes")
