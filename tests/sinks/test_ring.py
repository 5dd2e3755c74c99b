"""The shared-memory ring: whole results only, the dead-man time-out, and the example readers."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.core.types import Classes, Result, SinkContext, SourceInfo, State
from edgeseg.sinks import ring_layout as layout
from edgeseg.sinks.ring import RingSink
from edgeseg.sinks.ring_reader import RingReader

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SIZE = (48, 64)
CLASSES = Classes(names=("road", "car"), palette_rgb=((200, 0, 0), (0, 0, 200)))


def result(number: int, state: State = State.OK, camera: int = 0, age_ms: float = 5) -> Result:
    now = now_ns()
    return Result(
        camera=camera,
        frame_id=number,
        t_capture_ns=now - round(age_ms * 1e6),
        clock=CaptureClock.DRIVER,
        t_result_ns=now,
        state=state,
        reason="" if state is State.OK else "why",
        mask_hw=np.full(SIZE, number % 251, np.uint8) if state.has_mask else None,
    )


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[RingSink]:
    info = SourceInfo(uri="x", size=SIZE, rate_hz=30.0, live=True, coding="raw", clock=CaptureClock.DRIVER)
    sink = RingSink(str(tmp_path / "ring"))
    sink.open(SinkContext(cameras=[info, info], classes=CLASSES, engine="e"))
    yield sink
    sink.close()
    sink.close()
    assert not (tmp_path / "ring").exists()


@pytest.fixture
def path(ring: RingSink, tmp_path: Path) -> str:
    return str(tmp_path / "ring")


def test_a_reader_gets_the_newest_result_of_its_camera(ring: RingSink, path: str) -> None:
    reader = RingReader(path, dead_ms=60_000)
    assert reader.newest() is None
    for number in range(20):
        ring.write(result(number, camera=0))
        ring.write(result(100 + number, camera=1))
    first, second = reader.newest(0), reader.newest(1)
    assert first is not None
    assert second is not None
    assert (first.frame_id, second.frame_id) == (19, 119)
    assert first.mask_hw is not None
    assert (first.mask_hw == 19).all()
    assert reader.class_names == ["road", "car"]
    reader.close()


@pytest.mark.parametrize("state", [State.BLACK, State.STALE, State.LOST])
def test_a_state_without_a_mask_has_none_in_the_ring(ring: RingSink, path: str, state: State) -> None:
    reader = RingReader(path, dead_ms=60_000)
    ring.write(result(1))
    ring.write(result(2, state))
    got = reader.newest()
    assert got is not None
    assert (got.state, got.reason, got.mask_hw) == (state, "why", None)
    reader.close()


def test_a_mask_older_than_the_dead_man_time_out_is_not_handed_out(ring: RingSink, path: str) -> None:
    reader = RingReader(path, dead_ms=100)
    ring.write(result(1, age_ms=500))
    got = reader.newest()
    assert got is not None
    assert (got.state, got.mask_hw) == (State.LOST, None)
    assert "ms old" in got.reason
    reader.close()


def test_no_torn_result_is_ever_read(ring: RingSink, path: str) -> None:
    """A writer at full speed against a reader: every mask that comes out has one value, that of its frame id."""
    stop = threading.Event()

    def write() -> None:
        for number in range(10**9):
            if stop.is_set():
                return
            ring.write(result(number, age_ms=0))

    writer = threading.Thread(target=write)
    writer.start()
    reader = RingReader(path, dead_ms=60_000)
    read = 0
    try:
        while read < 300:
            got = reader.newest()
            if got is not None:
                assert got.mask_hw is not None
                assert (got.mask_hw == got.frame_id % 251).all()
                read += 1
    finally:
        stop.set()
        writer.join(10)
        reader.close()


def test_a_slot_that_is_being_written_is_not_read(ring: RingSink, path: str) -> None:
    ring.write(result(1))
    reader = RingReader(path, dead_ms=60_000)
    ring._heads[0].sequence += 1
    assert reader.newest() is None
    ring._heads[0].sequence += 1
    assert reader.newest() is not None
    reader.close()


def test_a_writer_that_ends_or_starts_again_is_noticed(ring: RingSink, path: str) -> None:
    reader = RingReader(path, dead_ms=1000)
    assert not reader.over
    ring.close()
    assert reader.over
    reader.close()


def test_what_is_no_ring_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such ring"):
        RingReader(str(tmp_path / "nowhere"), dead_ms=1)
    (tmp_path / "other").write_bytes(b"\0" * 8192)
    with pytest.raises(VerifyError, match="not a ring"):
        RingReader(str(tmp_path / "other"), dead_ms=1)
    with pytest.raises(RequestError, match="shared memory"):
        RingSink(str(tmp_path / "no" / "folder"))


def test_the_python_example_reads(ring: RingSink, path: str) -> None:
    ring.write(result(7))
    command = [sys.executable, str(TOOLS / "ring_reader.py"), path, "--dead-ms", "60000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("frame 7 ok ")
    ring.close()
    assert process.wait(20) == 0
    process.stdout.close()


@pytest.fixture
def cpp_reader(tmp_path: Path) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    out = tmp_path / "ring_reader"
    subprocess.run(
        ["g++", "-O1", "-std=c++17", "-Wall", "-Wextra", "-Werror", str(TOOLS / "ring_reader.cpp"), "-o", str(out)],
        check=True,
    )
    return out


def test_the_cpp_example_reads_and_knows_a_dead_writer(ring: RingSink, path: str, cpp_reader: Path) -> None:
    ring.write(result(0, camera=1))
    command = [str(cpp_reader), path, "1", "60000", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert re.fullmatch(r"frame 0 ok 48x64 3072 [\d.]+ ms \n", done.stdout)
    ring.write(result(3, camera=0, age_ms=900))
    done = subprocess.run([str(cpp_reader), path, "0", "100", "1"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("frame 3 dead")


def test_both_languages_have_the_same_layout(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    fields = [(kind.__name__, name) for kind in (layout.Header, layout.SlotHeader) for name, *_ in kind._fields_]
    lines = [f'std::printf("%zu\\n", __builtin_offsetof(edgeseg::{kind}, {name}));' for kind, name in fields]
    lines += ['std::printf("%zu\\n%zu\\n", sizeof(edgeseg::Header), sizeof(edgeseg::SlotHeader));']
    source = tmp_path / "layout.cpp"
    reader = (TOOLS / "ring_reader.cpp").read_text().replace("int main(", "int example_main(")
    source.write_text(reader + "\nint main(){" + "".join(lines) + "}\n")
    subprocess.run(["g++", "-std=c++17", str(source), "-o", str(tmp_path / "layout")], check=True)
    printed = subprocess.run([str(tmp_path / "layout")], capture_output=True, text=True, check=True).stdout
    expected = [getattr(getattr(layout, kind), name).offset for kind, name in fields]
    sizes = [ctypes.sizeof(layout.Header), ctypes.sizeof(layout.SlotHeader)]
    assert [int(line) for line in printed.split()] == [*expected, *sizes]
