"""Confirm capture-to-mask latency from the saved picture itself.

    python tools/stamp_check.py BUNDLE [--rate 30] [--duration 10] [--out DIR]

Each frame carries the time of its capture as a bar code; a second one is drawn when its mask is published. Both are
read back from the overlay video on disk: their difference is the latency, whatever the pipeline says of itself. The two
medians are printed side by side; exit 3 where they differ by more than 5 % + 1 ms.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edgeseg.bench.frames import street_frames
from edgeseg.bench.request import BenchTarget, open_bench_target
from edgeseg.core.clock import now_ns
from edgeseg.core.errors import DataError, EdgesegError, ExitCode
from edgeseg.core.metrics import Series, series_ms
from edgeseg.core.progress import Silent
from edgeseg.core.types import U8, Frame, Result, SinkContext
from edgeseg.live import run_live
from edgeseg.live.request import LiveRequest, LoadedEngine
from edgeseg.live.stop import Stop
from edgeseg.sinks.video import VideoSink
from edgeseg.sources.memory import MemorySource

BITS = 40  # of microseconds: wraps every 12 days
CHECK_BITS = 8
ROWS = 16  # height of a bar code: two rows of the coder's blocks


class StampError(DataError):
    """A picture whose bar code does not read."""


def write_stamp(picture_hwc: U8, top: int, t_ns: int) -> None:
    """Draw microseconds as a bar code over the whole width: each bit is a dark and a bright half, or the other way.

    The two halves are compared with each other, so that a mask blended over them changes nothing.
    """
    value = t_ns // 1000 % (1 << BITS)
    bits = [(value >> i) & 1 for i in range(BITS)] + [(_check(value) >> i) & 1 for i in range(CHECK_BITS)]
    cell = picture_hwc.shape[1] // (2 * len(bits))
    halves = np.array([(255, 0) if bit else (0, 255) for bit in bits], np.uint8).ravel()
    line = np.repeat(halves, cell)
    picture_hwc[top : top + ROWS, : len(line)] = line[None, :, None]


def read_stamp(picture_hwc: U8, top: int) -> int:
    """Microseconds of a bar code.

    Raises:
        StampError: The check bits do not fit.
    """
    count = BITS + CHECK_BITS
    cell = picture_hwc.shape[1] // (2 * count)
    inner = picture_hwc[top + 4 : top + ROWS - 4, : 2 * count * cell].mean(axis=(0, 2))
    halves = inner.reshape(2 * count, cell)[:, cell // 4 : cell - cell // 4].mean(axis=1).reshape(count, 2)
    bits = halves[:, 0] > halves[:, 1]
    value = sum(1 << i for i in range(BITS) if bits[i])
    if _check(value) != sum(1 << i for i in range(CHECK_BITS) if bits[BITS + i]):
        raise StampError("a bar code does not read", value=hex(value))
    return value


def _check(value: int) -> int:
    return sum(value.to_bytes(BITS // 8, "little")) * 31 % 256


def rows_of(height: int) -> tuple[int, int]:
    """Tops of the capture and the publication code: in the middle, away from the overlay's badges."""
    middle = height // 2 // 8 * 8
    return middle - ROWS, middle + ROWS


class StampedSource(MemorySource):
    """Street frames at a rate, each with the time of its capture drawn into it."""

    def retrieve(self, out_hwc: U8 | None = None) -> Frame:
        """The grabbed frame, stamped with its own capture time."""
        frame = super().retrieve(out_hwc)
        write_stamp(frame.image_hwc, rows_of(frame.image_hwc.shape[0])[0], frame.t_capture_ns)
        return frame


class StampedVideo(VideoSink):
    """The overlay video, with the time of publication drawn into each frame beside the time of capture."""

    name = "stamped video"

    def open(self, context: SinkContext) -> None:
        """Prepare the file."""
        super().open(context)
        self._picture = np.zeros((0, 0, 3), np.uint8)

    def write(self, result: Result) -> None:
        """Stamp and save."""
        published_ns = now_ns()
        if result.image_hwc is None or result.mask_hw is None:
            return
        if self._picture.shape != result.image_hwc.shape:
            self._picture = np.empty_like(result.image_hwc)
        np.copyto(self._picture, result.image_hwc)
        write_stamp(self._picture, rows_of(self._picture.shape[0])[1], published_ns)
        super().write(replace(result, image=self._picture))


def latencies_us(video: Path) -> Iterator[int]:
    """Publication minus capture of each frame of a saved video, in microseconds."""
    capture = cv2.VideoCapture(str(video))
    while True:
        ok, picture = capture.read()
        if not ok:
            capture.release()
            return
        first, second = rows_of(picture.shape[0])
        yield (read_stamp(picture, second) - read_stamp(picture, first)) % (1 << BITS)


def check(target: BenchTarget, out: Path, *, rate_hz: float, duration_s: float) -> dict[str, object]:
    """Run the pipeline, read its video back, and compare the two medians."""
    frames = street_frames(target.spec.frame_size, Silent())
    count = max(30, round(rate_hz * duration_s))
    video = out / "stamped.avi"
    request = LiveRequest(
        engine=LoadedEngine(target.make(), target.name),
        sources=[StampedSource(frames, rate_hz=rate_hz, count=count, name="street: stamped")],
        sinks=[StampedVideo(video)],
        stop=Stop(),
        signals=threading.current_thread() is threading.main_thread(),
    )
    summary = run_live(request)
    read = series_ms(np.array(list(latencies_us(video)), dtype=np.int64) * 1000)
    told = summary.capture_to_mask_ms
    return {
        "video": str(video),
        "frames": read.n,
        "read_from_picture_ms": msgspec.to_builtins(read),
        "told_by_pipeline_ms": msgspec.to_builtins(told),
        "agrees": _agrees(read, told),
    }


def _agrees(read: Series, told: Series) -> bool:
    if read.p50 is None or told.p50 is None:
        return False
    return abs(read.p50 - told.p50) <= 0.05 * told.p50 + 1.0


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--duration", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("stamp_check"))
    options = parser.parse_args()
    try:
        target = open_bench_target(options.bundle, progress=Silent())
        found = check(target, options.out, rate_hz=options.rate, duration_s=options.duration)
    except EdgesegError as error:
        print(f"stamp_check: error: {error}", file=sys.stderr)
        return int(error.exit_code)
    print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    return int(ExitCode.OK if found["agrees"] else ExitCode.GATE)


if __name__ == "__main__":
    sys.exit(main())
