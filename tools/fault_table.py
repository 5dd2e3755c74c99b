"""What the live loop shows in every fault, how soon, and how soon after its end masks are OK again.

    python tools/fault_table.py [--only NAME ...] [--json]

The engine is simulated (`null`, 5 ms): its mask says which frame it was made of, so a stale mask cannot pass as a fresh
one. Cameras are scripted at 30 Hz but for `rtsp killed`, which needs the distribution's GStreamer RTSP server and is
left out without it; `disk full` fills a small file system of its own where this user may mount one. Each row: the
states that were published, the time from the fault to the first of them that is not OK, the time from its end to the
first OK mask, masks published as OK that were not of the newest frame, and threads that were left behind.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from faulty_camera import CLASSES, RATE_HZ, SCRIPTED, SIZE, Fault, FaultyCamera

from edgeseg.backend import open_null
from edgeseg.core.clock import now_ns, sleep_until
from edgeseg.core.errors import EdgesegError, UnavailableError
from edgeseg.core.types import U8, Classes, Result, Runner, Sink, SinkContext, State
from edgeseg.live.pipeline import Pipeline
from edgeseg.live.request import LiveRequest, LoadedEngine
from edgeseg.sinks.mcap import RecordSink
from edgeseg.sinks.web.sink import WebSink
from edgeseg.sources import open_source

_CLASSES = Classes(names=tuple("abcdefg"), palette_rgb=((0, 0, 0),) * CLASSES)
_REFUSED = {State.BLACK, State.FROZEN, State.LOST}  # what a scene that is sound must not read
_BEFORE_S, _AFTER_S = 1.0, 12.0
_SERVER = Path(__file__).parents[1] / "tests" / "sources" / "rtsp_server.py"


@dataclass
class Watcher:
    """A sink that notes every result, and whether an OK mask is of the frame that it is published with."""

    name: str = "watcher"
    lossless: bool = False
    seen: list[tuple[int, State, int]] = field(default_factory=list)  # when, state, frame
    stale: int = 0

    def open(self, context: SinkContext) -> None:
        """Nothing to open."""

    def write(self, result: Result) -> None:
        """Note it."""
        if self.seen and result.frame_id >= 0 and result.frame_id <= max(number for _, _, number in self.seen[-50:]):
            self.stale += 1  # published twice, or out of order
        if result.state is State.OK and result.mask_hw is not None and result.image_hwc is not None:
            self.stale += not np.array_equal(result.mask_hw, result.image_hwc[..., 0] % CLASSES)
            self.stale += result.age_ns > 2.5e9 / RATE_HZ
        self.seen.append((result.t_result_ns, result.state, result.frame_id))

    def close(self) -> None:
        """Nothing to close."""


def scripted(name: str, sinks: list[Sink]) -> dict[str, Any]:
    """Play one scripted fault, beside sinks that may have faults of their own."""
    fault = SCRIPTED[name]() if name in SCRIPTED else Fault(2)
    camera = FaultyCamera(fault)
    return play(camera, lambda: camera, sinks, fault)


def play(source: Any, begin: Callable[[], Any], sinks: list[Sink], fault: Fault, runner: Any = None) -> dict[str, Any]:
    """One run: a second of peace, the fault, and what comes after it.

    Args:
        source: The camera.
        begin: Begins the fault, and called again ends it; a scripted camera does that itself.
        sinks: Besides the watcher.
        fault: How long, and what is expected.
        runner: The engine; by default one that never fails.
    """
    watcher = Watcher()
    before = set(threading.enumerate())
    pipeline = Pipeline(LiveRequest(engine=LoadedEngine(runner or _null()), sources=[source], sinks=[*sinks, watcher]))
    pipeline.start()
    error = ""
    _pump(pipeline, _BEFORE_S)
    began_ns = now_ns()
    if isinstance(source, FaultyCamera):
        source.began_ns = began_ns
    else:
        begin()
    _pump(pipeline, fault.seconds)
    ended_ns = now_ns()
    if not isinstance(source, FaultyCamera):
        begin()
    _pump(pipeline, _AFTER_S, until=lambda: _ok_after(watcher, ended_ns) is not None)
    _pump(pipeline, 0.2)
    pipeline.stop.set()
    try:
        pipeline.join()
    except EdgesegError as failure:
        error = failure.what
    return {**_row(watcher, fault, began_ns, ended_ns), "error": error, "threads_left": _left(before)}


def _pump(pipeline: Pipeline, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
    end_ns = now_ns() + round(seconds * 1e9)
    while now_ns() < end_ns and pipeline.running() and not until():
        pipeline.pump(0.02)


def _ok_after(watcher: Watcher, t_ns: int) -> int | None:
    return next((when for when, state, _ in list(watcher.seen) if when > t_ns and state is State.OK), None)


def _row(watcher: Watcher, fault: Fault, began_ns: int, ended_ns: int) -> dict[str, Any]:
    during = [(when, state) for when, state, _ in watcher.seen if when > began_ns]
    wanted = fault.expected
    first = next((when for when, state in during if state in wanted), None)
    after = _ok_after(watcher, ended_ns)
    shown: list[str] = []
    for _, state in during:
        if not shown or shown[-1] != state.name:
            shown.append(state.name)
    return {
        "states": " ".join(shown[:8]),
        "as_expected": first is not None if wanted else not {state for _, state in during} & _REFUSED,
        "shown_after_ms": None if first is None else round((first - began_ns) / 1e6),
        "recovered_after_ms": None if after is None else round((after - ended_ns) / 1e6),
        "stale_as_ok": watcher.stale,
    }


def _left(before: set[threading.Thread]) -> int:
    end_ns = now_ns() + 3_000_000_000
    while now_ns() < end_ns and set(threading.enumerate()) - before:
        _sleep(0.02)
    return len(set(threading.enumerate()) - before)


def _sleep(seconds: float) -> None:
    sleep_until(now_ns() + round(seconds * 1e9))


def _null() -> Runner:
    return open_null(_CLASSES, SIZE, latency_ms=5)


# ---------------------------------------------------------------- faults of sinks, engine and processes


class Holder:
    """A sink that sits on one result while fifty others pass, and then looks whether its bytes are still the same."""

    name = "holder"
    lossless = False
    changed = False

    def open(self, context: SinkContext) -> None:
        """Nothing to open."""

    def write(self, result: Result) -> None:
        """Hold the thirtieth."""
        if result.frame_id == 30 and result.mask_hw is not None and result.image_hwc is not None:
            mask, image = result.mask_hw.copy(), result.image_hwc.copy()
            _sleep(50 / RATE_HZ)
            self.changed = not (np.array_equal(mask, result.mask_hw) and np.array_equal(image, result.image_hwc))

    def close(self) -> None:
        """Nothing to close."""


class FailingRunner:
    """The simulated engine, until it is told to fail."""

    def __init__(self) -> None:
        self._runner = _null()
        self.broken = False

    def __enter__(self) -> FailingRunner:
        self._runner.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self._runner.__exit__(*args)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def submit(self, frames_nhwc: U8, *, lent: bool = False) -> Any:
        """Start one, or fail."""
        if self.broken:
            raise EdgesegError("the device is gone")
        return self._runner.submit(frames_nhwc, lent=lent)


def sink_holds() -> dict[str, Any]:
    """A sink that holds a mask for fifty frames."""
    holder = Holder()
    row = scripted("", [holder])
    return {**row, "as_expected": row["as_expected"] and not holder.changed}


def viewer_stops() -> dict[str, Any]:
    """A browser that asks for the stream and never reads it."""
    web = WebSink(0)
    camera = FaultyCamera(Fault(3))
    asked: list[socket.socket] = []

    def ask_or_leave() -> None:
        if asked:
            asked.pop().close()
            return
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", int(web.url.rsplit(":", 1)[1].strip("/"))))
        one.sendall(b"GET /stream?camera=0&view=overlay HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        asked.append(one)

    return play(_Plain(camera), ask_or_leave, [web], camera.fault)


def engine_fails() -> dict[str, Any]:
    """An engine error in mid-run."""
    runner, camera = FailingRunner(), FaultyCamera(Fault(1, (State.LOST,)))
    return play(_Plain(camera), lambda: setattr(runner, "broken", True), [], camera.fault, runner)


def disk_full() -> dict[str, Any] | str:
    """The recorder fills a file system of 6 MB."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return "needs the right to mount a small file system"
        try:
            row = scripted("", [RecordSink(Path(folder) / "drive.mcap")])
            left = [item.name for item in Path(folder).iterdir()]
            return {**row, "as_expected": "disk is full" in row["error"] and left == ["drive.mcap"]}
        finally:
            subprocess.run(["umount", folder], check=True)


def rtsp_killed() -> dict[str, Any] | str:
    """An RTSP server that is killed for three seconds and started again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server: list[subprocess.Popen[str]] = []

    def toggle() -> None:
        if server:
            one = server.pop()
            one.kill()
            one.wait()
            return
        command = ["/usr/bin/python3", str(_SERVER), str(port)]
        server.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        assert server[0].stdout is not None
        if server[0].stdout.readline() != "ready\n":
            raise UnavailableError("needs gir1.2-gst-rtsp-server-1.0 for the distribution's Python")

    try:
        toggle()
        return play(open_source(f"rtsp://127.0.0.1:{port}/test"), toggle, [], Fault(3, (State.LOST, State.STALE)))
    except UnavailableError as error:
        return error.what
    finally:
        if server:
            toggle()


class _Plain:
    """The scripted camera without a fault of its own."""

    uri = "scripted:"

    def __init__(self, camera: FaultyCamera) -> None:
        self.open, self.grab = camera.open, camera.grab
        self.retrieve, self.close = camera.retrieve, camera.close


OTHERS: dict[str, Callable[[], dict[str, Any] | str]] = {
    "sink holds a mask for 50 frames": sink_holds,
    "viewer stops reading": viewer_stops,
    "disk full under the recorder": disk_full,
    "engine error": engine_fails,
    "RTSP server killed for 3 s": rtsp_killed,
}


def main() -> None:
    """Play every fault and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="faults whose name contains one of these")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    for name in (*SCRIPTED, *OTHERS):
        if options.only and not any(word in name for word in options.only):
            continue
        rows[name] = OTHERS[name]() if name in OTHERS else scripted(name, [])
        if not options.json:
            _print(name, rows[name])
    if options.json:
        sys.stdout.write(json.dumps(rows) + "\n")
    sys.exit(any(isinstance(row, dict) and not _good(row) for row in rows.values()))


def _good(row: dict[str, Any]) -> bool:
    return bool(row["as_expected"]) and not row["stale_as_ok"] and not row["threads_left"]


def _print(name: str, row: dict[str, Any] | str) -> None:
    if isinstance(row, str):
        print(f"{name:<32} left out: {row}")
        return
    shown, back = row["shown_after_ms"], row["recovered_after_ms"]
    print(
        f"{name:<32} {'good' if _good(row) else 'BAD '} shown {'-' if shown is None else shown:>6} ms, "
        f"OK again {'-' if back is None else back:>6} ms, stale as OK {row['stale_as_ok']}, "
        f"threads left {row['threads_left']}: {row['states']} {row['error']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
