"""A build in a process of its own, so that nothing it does can hang or take down its caller.

A builder may crash, be killed for memory, or compute for minutes without looking at a signal (8.6 has no progress
monitor). The parent only waits for messages: Ctrl-C kills the child at once, on every version, and a death becomes one
error with the last lines of the log.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from edgeseg.backend.nvidia.api import LogSink, ProgressSink
from edgeseg.backend.nvidia.failures import tail
from edgeseg.core.errors import EdgesegError
from edgeseg.core.log import get_logger
from edgeseg.core.progress import Progress, Silent

T = TypeVar("T")
Work = Callable[[Any, LogSink, ProgressSink], T]
"""A function of this package: takes a picklable request, a log and a progress sink, returns something picklable."""

_LOG = get_logger(__name__)
_POLL_S = 0.1
_KEEP = 40
_GOODBYE_S = 10.0
_REMEDY = {
    signal.SIGKILL: (
        "killed, most likely because memory ran out",
        "edgeseg build MODEL --frame-size HxW, smaller, or add swap",
    ),
    signal.SIGSEGV: ("crashed", "edgeseg build MODEL --precision fp32, and report the log"),
    signal.SIGABRT: ("aborted", "edgeseg build MODEL --precision fp32, and report the log"),
}
_OTHER = ("ended", "edgeseg build MODEL --debug")


@dataclass(slots=True)
class _Watch(Generic[T]):
    """What the parent has heard so far."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEEP))
    result: T | None = None
    error: BaseException | None = None
    ended: bool = False


def run_in_child(work: Work[T], request: object, *, what: str, progress: Progress | None = None) -> T:
    """Run `work(request, log, progress)` in a spawned process and return what it returns.

    Args:
        work: A module-level function.
        request: Its argument.
        what: Name of the work, for progress and errors: "building the engine".
        progress: Where phases are shown.

    Raises:
        EdgesegError: The child's own error, or its death by a signal, with its last log lines and the remedy.
        KeyboardInterrupt: After the child was killed.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_main, args=(work, request, theirs, os.getpid()), daemon=True)
    watch: _Watch[T] = _Watch()
    try:
        child.start()
        theirs.close()
        _listen(ours, watch, what, progress or Silent())
        child.join(_GOODBYE_S)  # a driver may take its time, or forever, to let go of the GPU
    finally:
        if child.is_alive():  # Ctrl-C, or an error here: the build cannot be asked to stop, only be stopped
            child.kill()
            child.join()
        ours.close()
    if watch.error is not None:
        raise watch.error
    if not watch.ended:
        raise _death(what, child.exitcode or 0, watch.lines)
    return watch.result  # type: ignore[return-value]


def _listen(pipe: Connection, watch: _Watch[T], what: str, progress: Progress) -> None:
    with progress.task(what) as task:
        while True:
            try:
                if not pipe.poll(_POLL_S):
                    continue
                kind, payload = pipe.recv()
            except EOFError:  # the child has gone
                return
            if kind == "log":
                severity, text = payload
                watch.lines.append(text)
                _LOG.debug("%s: %s", severity.lower(), text)
                task.advance(0)
            elif kind == "phase":
                name, done, total = payload
                task.advance(0 if done else 1, note=f"{name} {done}/{total}" if total else name)
            elif kind == "error":
                watch.error = payload
                return
            else:
                watch.result, watch.ended = payload, True
                return


def _death(what: str, code: int, lines: deque[str]) -> EdgesegError:
    how, fix = _REMEDY.get(signal.Signals(-code), _OTHER) if code < 0 else _OTHER
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    said = tail(lines, 3)
    return EdgesegError(
        f"{what}: its process was {how}" if code < 0 else f"{what}: its process {how}",
        value=f"{name}; last words: {said}" if said else name,
        fix=fix,
    )


def _main(work: Work[Any], request: object, pipe: Connection, parent: int) -> None:
    """The child: works, and sends ("log" | "phase" | "error" | "result", payload)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C of the terminal reaches the whole group; the parent decides
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    sending = threading.Lock()  # log lines come from the runtime's own threads

    def send(kind: str, payload: object) -> None:
        with sending:
            pipe.send((kind, payload))

    def phase(name: str, done: int, total: int) -> bool:
        if done in (0, total) or done % max(total // 20, 1) == 0:
            send("phase", (name, done, total))
        return True

    try:
        send("result", work(request, lambda severity, text: send("log", (severity, text)), phase))
    except EdgesegError as error:
        send("error", error)
    except MemoryError:
        send("error", EdgesegError("the build ran out of memory", fix=_REMEDY[signal.SIGKILL][1]))
    except (
        Exception
    ) as error:  # a fault of edgeseg or of the runtime: the trace belongs into the log, not on the screen
        send("log", ("ERROR", traceback.format_exc()))
        what = "internal error, which is a fault of edgeseg"
        send("error", EdgesegError(what, value=f"{type(error).__name__}: {error}", fix=_OTHER[1]))
    finally:
        pipe.close()


def _die_with(parent: int) -> None:
    """End this process when its parent has gone: a killed command line must not leave a build behind."""
    waiting = threading.Event()
    while os.getppid() == parent:
        waiting.wait(0.5)
    os._exit(1)
