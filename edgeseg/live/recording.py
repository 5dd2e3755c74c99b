"""Reading back what the recorder wrote."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
from mcap.exceptions import McapError
from mcap.reader import McapReader, make_reader
from PIL import Image

from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.core.types import U8, Classes
from edgeseg.sinks.mcap import FORMAT, METADATA, RecordedResult, classes_of


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One frame that had a mask: `image_hwc` as the recording's JPEG gives it, `mask_hw` as it was published."""

    camera: int
    image_hwc: U8
    mask_hw: U8
    result: RecordedResult


class Recording:
    """An open recording.

    Args:
        path: The file.

    Raises:
        RequestError: There is no such file.
        VerifyError: Truncated, foreign, or of a newer format.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise RequestError(
                "there is no such recording", value=path, allowed="an MCAP file of edgeseg live --record"
            )
        self._path = path
        with path.open("rb") as file, self._verified():
            metadata = {item.name: item.metadata for item in self._reader(file).iter_metadata()}.get(METADATA)
            summary = self._reader(file).get_summary()
        if metadata is None or summary is None or summary.statistics is None:
            raise VerifyError("not a recording of edgeseg", value=path, allowed="a whole file of edgeseg live --record")
        if metadata.get("format") != FORMAT:
            raise VerifyError(
                "the recording has another format",
                value=f"{path}: {metadata.get('format')}",
                allowed=f"format {FORMAT}",
            )
        self.engine: str = metadata["engine"]
        self.classes: Classes = classes_of(metadata)
        masks = [item.id for item in summary.channels.values() if item.topic.endswith("/mask")]
        self.masks = sum(summary.statistics.channel_message_counts.get(number, 0) for number in masks)

    def frames(self) -> Iterator[RecordedFrame]:
        """Every frame that had a mask, in order.

        Raises:
            VerifyError: A part of the file is damaged.
        """
        parts: dict[tuple[int, str], bytes] = {}
        with self._path.open("rb") as file, self._verified():
            for _, channel, message in self._reader(file).iter_messages():
                _, _, number, kind = channel.topic.split("/")
                camera = int(number)
                parts[camera, kind] = message.data
                if kind != "result":
                    continue
                image, mask = parts.pop((camera, "image"), None), parts.pop((camera, "mask"), None)
                if image is None or mask is None:
                    continue
                yield RecordedFrame(
                    camera,
                    _decode_jpeg(image),
                    _decode_mask(mask),
                    msgspec.json.decode(message.data, type=RecordedResult),
                )

    @staticmethod
    def _reader(file: io.BufferedReader) -> McapReader:
        file.seek(0)
        return make_reader(file, validate_crcs=True)

    def _verified(self) -> _Verified:
        return _Verified(self._path)


class _Verified:
    """Turns whatever a damaged file makes the reader raise into one VerifyError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (McapError, ValueError, KeyError, EOFError, cv2.error, OSError, msgspec.MsgspecError)):
            raise VerifyError(
                "the recording is truncated, damaged or foreign", value=f"{self._path}: {error}"
            ) from None


def _data(message: bytes) -> bytes:
    return base64.b64decode(msgspec.json.decode(message)["data"])


def _decode_jpeg(message: bytes) -> U8:
    image: U8 | None = cv2.imdecode(np.frombuffer(_data(message), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("a frame does not decode")
    return image


def _decode_mask(message: bytes) -> U8:
    return np.array(Image.open(io.BytesIO(_data(message))), dtype=np.uint8)
