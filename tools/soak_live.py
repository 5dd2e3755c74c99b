"""How the live loop keeps time, and whether it stays as it is for hours: the scenarios of docs/live.md.

    python tools/soak_live.py ENGINE paced  [--seconds 300]    30 Hz from memory, no sinks
    python tools/soak_live.py ENGINE watched                   the same, with overlay video and one web viewer
    python tools/soak_live.py ENGINE slow                      the camera three times as fast as the engine
    python tools/soak_live.py ENGINE soak   [--seconds 1800]   30 Hz, every sink but a window and ROS 2: memory,
                                                               threads, descriptors

ENGINE is a bundle, zoo:NAME, an ONNX file, or null:MS, which only waits (simulated). One JSON object on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgeseg.backend import open_null
from edgeseg.core.clock import now_ns
from edgeseg.core.types import U8, Classes, Runner, Sink
from edgeseg.data.street import StreetScene
from edgeseg.live.engine import open_engine
from edgeseg.live.pipeline import Pipeline
from edgeseg.live.request import LiveRequest, LoadedEngine
from edgeseg.live.summary import LiveSummary, summarise
from edgeseg.sinks.flicker import FlickerSink
from edgeseg.sinks.masks import MasksSink
from edgeseg.sinks.mcap import RecordSink
from edgeseg.sinks.ring import RingSink
from edgeseg.sinks.video import VideoSink
from edgeseg.sinks.web.sink import WebSink
from edgeseg.sources.memory import MemorySource

_RATE_HZ = 30.0
_SIZE = (360, 480)
_SETTLE_S = 300.0  # memory is judged after so long, or after a quarter of a shorter run
_VIEWER = """
import sys, threading, time, urllib.request
def scrape():
    while True:
        urllib.request.urlopen(sys.argv[1] + "metrics").read()
        time.sleep(5)
threading.Thread(target=scrape, daemon=True).start()
with urllib.request.urlopen(sys.argv[1] + "stream?camera=0&view=overlay") as s:
    while s.read(65536):
        pass
"""
_CLASSES = Classes(
    names=tuple(f"class-{i}" for i in range(11)), palette_rgb=tuple((20 * i, 255 - 20 * i, 90) for i in range(11))
)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine")
    parser.add_argument("scenario", choices=["paced", "watched", "slow", "soak"])
    parser.add_argument("--seconds", type=float, default=None, help="300; for soak 1800")
    options = parser.parse_args()
    seconds = options.seconds or (1800.0 if options.scenario == "soak" else 300.0)
    runner = _runner(options.engine)
    rate_hz = 3 * _rate_of(runner) if options.scenario == "slow" else _RATE_HZ
    frames = [StreetScene(1, size=runner.spec.frame_size).render(i).image_hwc for i in range(60)]
    with tempfile.TemporaryDirectory() as folder:
        report = run(options.scenario, runner, frames, rate_hz, seconds, Path(folder))
    sys.stdout.write(json.dumps({"engine": options.engine, "seconds": seconds, **report}) + "\n")


def run(
    scenario: str, runner: Runner, frames: list[U8], rate_hz: float, seconds: float, folder: Path
) -> dict[str, object]:
    """Play one scenario."""
    web = WebSink(0)
    sinks: dict[str, list[Sink]] = {
        "paced": [],
        "slow": [],
        "watched": [VideoSink(folder / "o.mp4"), web],
        "soak": [
            VideoSink(folder / "o.mp4"),
            MasksSink(folder / "masks"),
            RecordSink(folder / "o.mcap"),
            RingSink(str(folder / "ring")),
            FlickerSink(),
            web,
        ],
    }
    source = MemorySource(frames, rate_hz=rate_hz, count=round(seconds * rate_hz))
    pipeline = Pipeline(LiveRequest(engine=LoadedEngine(runner, "engine"), sources=[source], sinks=sinks[scenario]))
    watch = Watch(seconds, folder)
    pipeline.start()
    with _viewer(web.url) if web in sinks[scenario] else _nobody():
        while pipeline.running():
            pipeline.pump()
            watch.look()
    pipeline.join()
    return {"scenario": scenario, "rate_hz": rate_hz, **_figures(summarise(pipeline), pipeline), **watch.report()}


class Watch:
    """Memory, threads and descriptors, once a second; mask files are removed as they come."""

    def __init__(self, seconds: float, folder: Path) -> None:
        self._settle_s = min(_SETTLE_S, seconds / 4)
        self._folder = folder
        self._start_ns = self._next_ns = now_ns()
        self._rows: list[tuple[float, int, int, int]] = []

    def look(self) -> None:
        """Take a sample when one is due."""
        if now_ns() < self._next_ns:
            return
        self._next_ns += 1_000_000_000
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
        self._rows.append(((now_ns() - self._start_ns) / 1e9, resident, threading.active_count(), descriptors))
        for file in list(self._folder.glob("masks/[!.]*.png")):  # not those that are being written
            file.unlink(missing_ok=True)

    def report(self) -> dict[str, object]:
        """Slope of the resident memory with its 95 % bound, and the ranges of the counts, after settling."""
        rows = np.array([row for row in self._rows if row[0] >= self._settle_s])
        if len(rows) < 20:
            return {}
        slope, bound = slope_mb_per_hour(rows[:, 0], rows[:, 1])
        return {
            "memory_mb": round(float(rows[-1, 1]) / 1e6, 1),
            "memory_slope_mb_per_hour": round(slope, 2),
            "memory_slope_upper_95": round(bound, 2),
            "threads": [int(rows[:, 2].min()), int(rows[:, 2].max())],
            "descriptors": [int(rows[:, 3].min()), int(rows[:, 3].max())],
        }


def slope_mb_per_hour(seconds: np.ndarray, resident: np.ndarray) -> tuple[float, float]:
    """Least-squares slope of memory over time and its upper 95 % bound, from means of 20 blocks.

    Samples a second apart are not independent; means of blocks nearly are (batch means).
    """
    blocks = [np.array_split(values, min(20, len(seconds) // 2)) for values in (seconds, resident)]
    x = np.array([block.mean() for block in blocks[0]]) / 3600
    y = np.array([block.mean() for block in blocks[1]]) / 1e6
    x = x - x.mean()
    slope = float((x * y).sum() / (x * x).sum())
    residual = y - y.mean() - slope * x
    error = float(np.sqrt((residual**2).sum() / (len(x) - 2) / (x * x).sum()))
    return slope, slope + 1.734 * error  # one-sided t at 18 degrees of freedom


def _figures(summary: LiveSummary, pipeline: Pipeline) -> dict[str, object]:
    beyond_ms = pipeline.log.engine_ages_ns() / 1e6
    halves = [float(np.percentile(half, 99)) for half in np.array_split(beyond_ms, 2)]
    return {
        "frames": summary.frames,
        "masks": summary.masks,
        "drops": summary.drops,
        "states": summary.cameras[0].states,
        "engine_p50_ms": summary.stages_ms["engine"].p50,
        "beyond_engine_ms": {
            name: round(float(np.percentile(beyond_ms, q)), 3)
            for name, q in (("p50", 50), ("p99", 99), ("p99.9", 99.9), ("max", 100))
        },
        "beyond_engine_p99_ms_by_half": [round(half, 3) for half in halves],
        "sinks_dropped": {sink.name: sink.dropped for sink in summary.sinks},
    }


@contextmanager
def _viewer(url: str) -> Iterator[None]:
    """A browser's part and Prometheus's, in a process of their own: reads the overlay as fast as it comes."""
    process = subprocess.Popen([sys.executable, "-c", _VIEWER, url])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _nobody() -> Iterator[None]:
    yield


def _runner(engine: str) -> Runner:
    if engine.startswith("null:"):
        return open_null(_CLASSES, _SIZE, latency_ms=float(engine.removeprefix("null:")))
    return open_engine(engine).load(_SIZE)


def _rate_of(runner: Runner) -> float:
    """Frames a second of the engine alone."""
    frame = np.zeros((1, *runner.spec.frame_size, 3), np.uint8)
    with runner:
        for _ in range(10):
            runner.infer(frame).release()
        begin_ns = now_ns()
        for _ in range(30):
            runner.infer(frame).release()
        return 30e9 / (now_ns() - begin_ns)


if __name__ == "__main__":
    main()
