"""Throughput of the live loop on a file, beside the usual one-thread loop and the ideal overlap, in one run.

    python tools/compare_loops.py BUNDLE VIDEO [--rounds 5] [--frames 200] [--brief] [--json]
    python tools/compare_loops.py null:20 VIDEO          an engine that only waits 20 ms (simulated)

Everything is measured in turns, round by round, so that all parts see the same machine: decoding alone, the engine
alone, a loop in one thread (read, infer; then also draw and encode), and `edgeseg live` at WAIT without and with an
overlay video. The ideal overlap is `cores / (decode core-ms + engine core-ms)`, and never above the engine's own rate.
Core-ms are processor time of the whole process. What the ideal is made of is measured before and after the loop in
each round, since a machine does not stay as fast as it is; --brief leaves out the other loops. The engine alone is the
one that the loop runs (for files the form for throughput, fed without a copy), and beside it the form that is soonest
done with one frame, which the one-thread loop uses.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from edgeseg.backend import open_null
from edgeseg.core.clock import cpu_ns, now_ns
from edgeseg.core.types import U8, Classes, Runner, Sink, Ticket
from edgeseg.live import run_live
from edgeseg.live.engine import open_engine
from edgeseg.live.request import LiveRequest, LoadedEngine
from edgeseg.sinks.video import VideoSink
from edgeseg.sources import open_source

_WARM = 10  # frames before the processor time of the loop is taken
_CORES = float(len(os.sched_getaffinity(0)))
_CLASSES = Classes(names=("a", "b"), palette_rgb=((255, 0, 0), (0, 0, 255)))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", help="bundle, zoo:NAME, ONNX file, or null:MS")
    parser.add_argument("video", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=200, help="frames of one measurement")
    parser.add_argument("--brief", action="store_true", help="the loop and its ideal only")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = compare(options.engine, options.video, options.rounds, options.frames, brief=options.brief)
    if options.json:
        sys.stdout.write(json.dumps(report) + "\n")
        return
    for name, value in report.items():
        print(f"{name:<44} {value:8.3f}")


def compare(engine: str, video: Path, rounds: int, frames: int, *, brief: bool = False) -> dict[str, float]:
    """Medians over the rounds, by name."""
    source = open_source(video)
    size = source.open().size
    source.close()
    make = _runner_maker(engine, size)
    images = list(itertools.islice(_decoded(video), 8))
    measured: dict[str, list[float]] = {}

    def keep(name: str, value: float) -> None:
        measured.setdefault(name, []).append(value)

    for _ in range(rounds):
        parts = _Parts(make(True), video, images, frames)
        parts.measure()
        live, live_cpu = _live(make(True), video, frames, [])
        parts.measure()
        parts.close()
        for name, value in parts.report().items():
            keep(name, value)
        keep("edgeseg live frames/s", live)
        keep("edgeseg live core-ms", live_cpu)
        keep("edgeseg live / ideal", live / parts.ideal)
        if not brief:
            _others(make, video, images, frames, keep)
    ratios = measured["edgeseg live / ideal"]
    spread = {"edgeseg live / ideal, lowest round": min(ratios), "edgeseg live / ideal, highest round": max(ratios)}
    medians = {name: statistics.median(values) for name, values in measured.items()}
    return {"cores": _CORES, **medians, **spread}


class _Parts:
    """Decoding alone and the engine alone, each measured as often as is asked."""

    def __init__(self, runner: Runner, video: Path, images: list[U8], frames: int) -> None:
        self._runner, self._images, self._count = runner, images, frames
        self._pictures = _opened(video)
        self._times: list[tuple[float, float, float, float]] = []
        runner.__enter__()
        _infer(runner, images, 10)

    def measure(self) -> None:
        decode = _timed(lambda: _drain(self._pictures, self._count), self._count)
        engine = _timed(lambda: _infer(self._runner, self._images, self._count), self._count)
        self._times.append((*decode, *engine))

    def report(self) -> dict[str, float]:
        names = ("decode ms", "decode core-ms", "engine ms", "engine core-ms")
        return {**dict(zip(names, self._means(), strict=True)), "ideal overlap frames/s": self.ideal}

    @property
    def ideal(self) -> float:
        _, decode_cpu, engine, engine_cpu = self._means()
        return min(1e3 / engine, _CORES * 1e3 / (decode_cpu + engine_cpu))

    def close(self) -> None:
        self._runner.__exit__(None, None, None)
        self._pictures.close()

    def _means(self) -> list[float]:
        return [statistics.mean(column) for column in zip(*self._times, strict=True)]


def _others(
    make: Callable[[bool], Runner], video: Path, images: list[U8], frames: int, keep: Callable[[str, float], None]
) -> None:
    """The engine one frame at a time, the one-thread loop over it, and both loops with an overlay video."""
    parts = _Parts(make(False), video, images, frames)
    parts.measure()
    parts.close()
    for name, value in parts.report().items():
        if not name.startswith("decode"):
            keep(f"{name}, one frame at a time", value)
    keep("one thread frames/s", _one_thread(make(False), video, frames, None))
    with tempfile.TemporaryDirectory() as folder:
        keep("one thread + overlay frames/s", _one_thread(make(False), video, frames, Path(folder) / "one.mp4"))
        sinks = [VideoSink(Path(folder) / "live.mp4")]
        keep("edgeseg live + overlay frames/s", _live(make(True), video, frames, sinks)[0])


def _runner_maker(engine: str, size: tuple[int, int]) -> Callable[[bool], Runner]:
    """Makes a runner: for throughput, or for one frame at a time."""
    if engine.startswith("null:"):
        return lambda _: open_null(_CLASSES, size, latency_ms=float(engine.removeprefix("null:")))
    known = open_engine(engine)
    return lambda throughput: known.load(size, throughput=throughput)


def _decoded(video: Path) -> Generator[U8, None, None]:
    """Frames of the video, over and over."""
    while True:
        source = open_source(video)
        out = np.empty((*source.open().size, 3), np.uint8)
        while source.grab():
            yield source.retrieve(out).image_hwc
        source.close()


def _opened(video: Path) -> Generator[U8, None, None]:
    """The same, with the file open and its first frame decoded: what happens once is not timed."""
    frames = _decoded(video)
    next(frames)
    return frames


def _drain(frames: Iterator[U8], count: int) -> None:
    for _ in itertools.islice(frames, count):
        pass


def _infer(runner: Runner, images: list[U8], count: int) -> None:
    """The engine alone, always with as many frames in flight as it takes, from its own memory."""
    flying: deque[Ticket] = deque()
    for index in range(count):
        view = runner.input_view()
        if index <= runner.spec.depth:  # from then on its buffers come round again
            np.copyto(view[0], images[index % len(images)])
        flying.append(runner.submit(view))
        if len(flying) == runner.spec.depth:
            runner.collect(flying.popleft()).release()
    while flying:
        runner.collect(flying.popleft()).release()


def _one_thread(runner: Runner, video: Path, count: int, overlay: Path | None) -> float:
    """Frames a second of the usual loop, without its start: read, infer, and with a path also draw and encode."""
    with runner:
        pictures = _opened(video)
        writer = None
        if overlay is not None:
            writer = cv2.VideoWriter(str(overlay), cv2.VideoWriter.fourcc(*"mp4v"), 25, runner.spec.frame_size[::-1])
        begin_ns = now_ns()
        for image in itertools.islice(pictures, count):
            with runner.infer(image[None]) as output:
                if writer is not None:
                    writer.write(_blend(image, output.mask_nhw[0], runner.spec.classes))
        if writer is not None:
            writer.release()
        return count * 1e9 / (now_ns() - begin_ns)


def _blend(image: U8, mask: U8, classes: Classes) -> U8:
    colours = np.array(classes.palette_rgb, np.uint8)[:, ::-1][np.minimum(mask, len(classes) - 1)]
    return cv2.addWeighted(image, 0.5, colours, 0.5, 0)  # type: ignore[no-any-return]


def _live(runner: Runner, video: Path, count: int, sinks: Sequence[Sink]) -> tuple[float, float]:
    """The loop between its first and its last result: frames a second, and processor milliseconds a frame."""
    source = _Endless(video, count)
    summary = run_live(LiveRequest(engine=LoadedEngine(runner), sources=[source], sinks=sinks))
    assert summary.drops == {}, summary.drops
    assert summary.fps is not None
    return summary.fps, (source.last_ns - source.first_ns) / 1e6 / (count - _WARM)


class _Endless:
    """A video played over and over until `count` frames have come."""

    def __init__(self, video: Path, count: int) -> None:
        self._source = open_source(video)
        self._count = count
        self._number = -1
        self.first_ns = self.last_ns = 0  # processor time

    def open(self):  # type: ignore[no-untyped-def]
        return self._source.open()

    def grab(self) -> bool:
        self._number += 1
        self.last_ns = cpu_ns()
        if self._number == _WARM:
            self.first_ns = self.last_ns
        if self._number >= self._count:
            return False
        if not self._source.grab():
            self._source.close()
            self._source.open()
            return self._source.grab()
        return True

    def retrieve(self, out_hwc: U8 | None = None):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        return replace(self._source.retrieve(out_hwc), id=self._number)

    def close(self) -> None:
        self._source.close()


def _timed(work: Callable[[], None], count: int) -> tuple[float, float]:
    """Wall and processor milliseconds a unit."""
    wall, cpu = now_ns(), cpu_ns()
    work()
    return (now_ns() - wall) / 1e6 / count, (cpu_ns() - cpu) / 1e6 / count


if __name__ == "__main__":
    main()
