"""A recording that can be replayed: frames, masks, states and timings as MCAP, which Foxglove opens.

One file for all cameras. For camera `i`:

    /camera/i/image    foxglove.CompressedImage, JPEG
    /camera/i/mask     foxglove.CompressedImage, PNG with the palette; its pixel values are class ids
    /camera/i/result   edgeseg.Result: state, reason, age, stages, capture time and its clock

Messages of one frame have one log time and the frame's id as sequence number. The metadata record `edgeseg` holds the
engine, the classes and a note on clocks. Format: mcap.dev/spec.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import cv2
import msgspec
from mcap.writer import Writer

import edgeseg
from edgeseg.core.artefacts import atomic_file, check_place, disk_errors, disk_is_full
from edgeseg.core.clock import now_ns, wall_ns
from edgeseg.core.errors import DataError, RequestError
from edgeseg.core.types import Classes, Result, SinkContext
from edgeseg.data.masks import encode_index_png

FORMAT = "1"
METADATA = "edgeseg"
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)
_CHUNK = 4 << 20  # large chunks keep the index, which stays in memory until the end, small
_RESERVE = 16 << 20  # bytes: the recording ends, whole, before the disk is full
_NOTE = (
    "log time is wall-clock time of the mask, from one reading at the start plus monotonic time since; "
    "t_capture_ns and t_result_ns are monotonic; `clock` says what the capture time means"
)

_TIME = {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
_IMAGE_SCHEMA = {
    "title": "foxglove.CompressedImage",
    "type": "object",
    "properties": {
        "timestamp": _TIME,
        "frame_id": {"type": "string"},
        "data": {"type": "string", "contentEncoding": "base64"},
        "format": {"type": "string"},
    },
}
_RESULT_SCHEMA = {
    "title": "edgeseg.Result",
    "type": "object",
    "properties": {
        "frame_id": {"type": "integer"},
        "name": {"type": "string"},
        "state": {"type": "string"},
        "reason": {"type": "string"},
        "age_ms": {"type": "number"},
        "stages_ms": {"type": "object"},
        "t_capture_ns": {"type": "integer"},
        "t_result_ns": {"type": "integer"},
        "clock": {"type": "string"},
    },
}


class RecordedResult(msgspec.Struct, frozen=True, kw_only=True):
    """The message of `/camera/i/result`."""

    frame_id: int
    name: str
    state: str
    reason: str
    age_ms: float
    stages_ms: Mapping[str, float]
    t_capture_ns: int
    t_result_ns: int
    clock: str


class RecordSink:
    """Writes a recording.

    Args:
        path: The file, `*.mcap`.

    Raises:
        RequestError: Another suffix, a folder, or a place that cannot be written to.
    """

    name = "record"
    lossless = True

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() != ".mcap" or path.is_dir():
            raise RequestError("not a name for a recording", value=path, allowed="a file named *.mcap")
        check_place(path)
        self._path = path
        self._partial = path.with_name(f".{path.stem}.tmp.mcap")
        self._writer: Writer | None = None
        self._count = 0

    def open(self, context: SinkContext) -> None:
        """Remember what there is to record; the file starts with the first result."""
        self._context = context

    def write(self, result: Result) -> None:
        """Record one result.

        Raises:
            DataError: The disk is nearly full: what was recorded before is whole and stays.
        """
        self._check_disk()
        with disk_errors(self._path):
            writer = self._writer or self._start()
            time_ns = result.t_result_ns + self._wall_offset_ns
            if result.image_hwc is not None:
                _, jpeg = cv2.imencode(".jpg", result.image_hwc, _JPEG)
                self._add(writer, "image", result, time_ns, _picture(result, time_ns, jpeg.tobytes(), "jpeg"))
            if result.mask_hw is not None:
                png = encode_index_png(result.mask_hw, self._context.classes, compress_level=1)
                self._add(writer, "mask", result, time_ns, _picture(result, time_ns, png, "png"))
            self._add(writer, "result", result, time_ns, msgspec.json.encode(_message(result)))

    def close(self) -> None:
        """Finish the file; may be called twice."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            with disk_errors(self._path):
                writer.finish()
                self._file.close()
                with atomic_file(self._path) as place:
                    self._partial.replace(place)
        finally:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    # ------------------------------------------------------------ inside

    def _start(self) -> Writer:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._partial.open("wb")
        writer = Writer(self._file, chunk_size=_CHUNK)
        writer.start(profile="", library=f"edgeseg {edgeseg.__version__}")
        self._wall_offset_ns = wall_ns() - now_ns()
        image = _schema(writer, _IMAGE_SCHEMA)
        kinds = {"image": image, "mask": image, "result": _schema(writer, _RESULT_SCHEMA)}
        self._channels = {
            (number, kind): writer.register_channel(f"/camera/{number}/{kind}", "json", schema)
            for number in range(len(self._context.cameras))
            for kind, schema in kinds.items()
        }
        writer.add_metadata(METADATA, _metadata(self._context))
        self._writer = writer
        return writer

    def _add(self, writer: Writer, kind: str, result: Result, time_ns: int, data: bytes) -> None:
        writer.add_message(
            channel_id=self._channels[result.camera, kind],
            log_time=time_ns,
            publish_time=time_ns,
            sequence=max(0, result.frame_id) & 0xFFFF_FFFF,
            data=data,
        )

    def _check_disk(self) -> None:
        self._count += 1
        if self._writer is None or self._count % 30:
            return
        if disk_is_full(self._path.parent, least=_RESERVE):
            self.close()
            raise DataError(
                "the disk is full, the recording has ended", value=self._path, fix=f"df -h {self._path.parent}"
            )


def _schema(writer: Writer, schema: Mapping[str, object]) -> int:
    return int(writer.register_schema(str(schema["title"]), "jsonschema", msgspec.json.encode(schema)))


def _metadata(context: SinkContext) -> dict[str, str]:
    return {
        "format": FORMAT,
        "engine": context.engine,
        "classes": msgspec.json.encode(context.classes).decode(),
        "cameras": msgspec.json.encode([info.uri for info in context.cameras]).decode(),
        "clocks": _NOTE,
    }


def classes_of(metadata: Mapping[str, str]) -> Classes:
    """The vocabulary that a recording's metadata holds."""
    return msgspec.json.decode(metadata["classes"], type=Classes)


def _picture(result: Result, time_ns: int, data: bytes, form: str) -> bytes:
    return msgspec.json.encode(
        {
            "timestamp": {"sec": time_ns // 10**9, "nsec": time_ns % 10**9},
            "frame_id": f"camera-{result.camera}",
            "data": base64.b64encode(data).decode(),
            "format": form,
        }
    )


def _message(result: Result) -> RecordedResult:
    return RecordedResult(
        frame_id=result.frame_id,
        name=result.name,
        state=result.state.value,
        reason=result.reason,
        age_ms=result.age_ns / 1e6,
        stages_ms={stage.value: ns / 1e6 for stage, ns in result.stages_ns.items()},
        t_capture_ns=result.t_capture_ns,
        t_result_ns=result.t_result_ns,
        clock=result.clock.value,
    )
