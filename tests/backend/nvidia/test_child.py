"""A build's process: results, errors, progress; and however it dies, one line and no child left."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from edgeseg.backend.nvidia.api import LogSink, ProgressSink
from edgeseg.backend.nvidia.child import run_in_child
from edgeseg.core.clock import now_ns
from edgeseg.core.errors import CapabilityError, EdgesegError
from edgeseg.core.progress import Task


def add(request: tuple[int, int], log: LogSink, progress: ProgressSink) -> int:
    for step in range(3):
        progress("adding", step, 2)
    return sum(request)


def refuse(request: str, log: LogSink, progress: ProgressSink) -> None:
    raise CapabilityError(request, runtime="TensorRT 8.6.1", fix="edgeseg build MODEL --precision fp16")


def die(number: int, log: LogSink, progress: ProgressSink) -> None:
    log("ERROR", "the last thing it said")
    os.kill(os.getpid(), number)


def leave(code: int, log: LogSink, progress: ProgressSink) -> None:
    os._exit(code)


def fill_memory(limit: int, log: LogSink, progress: ProgressSink) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return len(bytearray(limit))


def hang(request: None, log: LogSink, progress: ProgressSink) -> None:
    log("INFO", "hanging")
    progress("hanging", 0, 1)
    threading.Event().wait()


def stumble(request: str, log: LogSink, progress: ProgressSink) -> None:
    raise TypeError(request)


def finish_and_hang(request: int, log: LogSink, progress: ProgressSink) -> int:
    threading.Thread(target=threading.Event().wait).start()  # not a daemon: the process cannot end by itself
    return request


class Recorder:
    """Keeps notes; calls `react` at each."""

    def __init__(self, react: Any = None) -> None:
        self.notes: list[str] = []
        self.react = react

    @contextmanager
    def task(self, name: str, total: float | None = None) -> Iterator[Task]:
        yield self

    def advance(self, n: float = 1.0, note: str | None = None) -> None:
        if note is not None:
            self.notes.append(note)
            if self.react is not None:
                self.react()

    def say(self, text: str) -> None:
        self.notes.append(text)


def test_it_returns_what_the_work_returns_and_shows_its_phases() -> None:
    progress = Recorder()
    assert run_in_child(add, (2, 3), what="adding", progress=progress) == 5
    assert progress.notes[0] == "adding 0/2"
    assert progress.notes[-1] == "adding 2/2"


def test_an_error_of_the_work_is_raised_here_as_it_was() -> None:
    with pytest.raises(CapabilityError) as caught:
        run_in_child(refuse, "precision bf16", what="building")
    assert str(caught.value) == (
        "precision bf16 is not available (TensorRT 8.6.1); try: edgeseg build MODEL --precision fp16"
    )


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "killed, most likely because memory ran out (SIGKILL"),
        (signal.SIGSEGV, "crashed (SIGSEGV"),
        (signal.SIGABRT, "aborted (SIGABRT"),
        (signal.SIGTERM, "ended (SIGTERM"),
    ],
)
def test_a_death_by_a_signal_is_one_line_with_the_last_words(number: signal.Signals, words: str) -> None:
    with pytest.raises(EdgesegError) as caught:
        run_in_child(die, int(number), what="building the engine")
    text = str(caught.value)
    assert text.startswith("building the engine: its process was " + words)
    assert "the last thing it said" in text
    assert "; try: edgeseg build MODEL" in text


def test_a_child_that_does_not_end_after_its_result_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeseg.backend.nvidia.child._GOODBYE_S", 0.2)
    assert run_in_child(finish_and_hang, 7, what="building") == 7
    assert multiprocessing.active_children() == []


def test_a_fault_is_one_line_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EdgesegError, match=r"fault of edgeseg \(TypeError: unexpected\)"):
        run_in_child(stumble, "unexpected", what="building")
    assert "Traceback" not in capfd.readouterr().err


def test_leaving_without_a_result_is_an_error() -> None:
    with pytest.raises(EdgesegError, match=r"its process ended \(exit code 3"):
        run_in_child(leave, 3, what="building")


def test_memory_that_runs_out_in_python_names_the_remedy() -> None:
    with pytest.raises(EdgesegError, match=r"ran out of memory.*add swap"):
        run_in_child(fill_memory, 8 << 30, what="building")


def test_ctrl_c_ends_the_build_within_a_second_and_leaves_no_process() -> None:
    pressed: list[int] = []

    def press() -> None:
        pressed.append(now_ns())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_child(hang, None, what="building", progress=Recorder(press))
    assert now_ns() - pressed[0] < 1_000_000_000
    assert multiprocessing.active_children() == []


def _start_and_hang(pipe: Any) -> None:
    run_in_child(hang, None, what="building", progress=Recorder(lambda: pipe.send(_child_of_mine())))


def _child_of_mine() -> int:
    (child,) = multiprocessing.active_children()
    assert child.pid is not None
    return child.pid


def test_a_killed_command_line_leaves_no_build_behind() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    parent = context.Process(target=_start_and_hang, args=(theirs,))
    parent.start()
    assert ours.poll(30)
    grandchild = ours.recv()
    handle = os.pidfd_open(grandchild)
    try:
        parent.kill()
        parent.join()
        waiting = threading.Event()
        deadline_ns = now_ns() + 10_000_000_000
        while _alive(grandchild) and now_ns() < deadline_ns:
            waiting.wait(0.05)
        assert not _alive(grandchild)
    finally:
        os.close(handle)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
