"""sd_notify against a real datagram socket."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeseg.core.clock import now_ns
from edgeseg.live import run_live
from edgeseg.live.notify import Notifier
from edgeseg.live.request import LiveRequest, LoadedEngine


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(5)
    yield listener, str(tmp_path / "notify")
    listener.close()


def messages(listener: socket.socket) -> list[str]:
    listener.setblocking(False)
    found = []
    try:
        while True:
            found.append(listener.recv(4096).decode())
    except BlockingIOError:
        return found


def test_a_run_tells_that_it_is_ready_alive_and_stopping(
    manager: tuple[socket.socket, str],
    kit: SimpleNamespace,
    null: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listener, address = manager
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    steps = [kit.Shot(kit.picture(i)) for i in range(20)]
    run_live(LiveRequest(engine=LoadedEngine(null(latency_ms=10)), sources=[kit.ScriptedSource(steps, live=False)]))
    said = messages(listener)
    assert said[0] == "READY=1"
    assert "WATCHDOG=1" in said
    assert any(line.startswith("STATUS=OK") for line in said)
    assert said[-1] == "STOPPING=1"


def test_a_loop_that_does_not_go_round_starves_the_watchdog(manager: tuple[socket.socket, str]) -> None:
    listener, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000"})
    notifier.alive(beat_ns=now_ns() - 1_000_000_000, status="OK")
    notifier.alive(beat_ns=now_ns(), status="OK")
    notifier.close()
    assert messages(listener) == ["STATUS=OK", "WATCHDOG=1"]


def test_without_a_manager_nothing_is_said(manager: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch) -> None:
    listener, address = manager
    monkeypatch.setenv("NOTIFY_SOCKET", address)  # of another process: only the environment handed in counts
    notifier = Notifier({})
    notifier.ready()
    notifier.alive(beat_ns=0, status="x")
    notifier.stopping()
    notifier.close()
    notifier.close()
    assert messages(listener) == []


def test_the_unit_asks_for_what_the_command_has() -> None:
    from edgeseg.cli.cmd_live import command

    unit = (Path(__file__).parents[2] / "tools" / "edgeseg-live.service").read_text()
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    _, name, *words = settings["ExecStart"].split()
    known = {option for parameter in command.params for option in parameter.opts}
    given = {word for word in words if word.startswith("--")}
    assert name == "live"
    assert given <= known
    assert "--keep-trying" in given, "a camera that is missing when the vehicle starts does not end the service"
    assert "--quiet" not in given, "warnings belong in the journal"
    assert settings["Type"] == "notify"
    assert float(settings["WatchdogSec"]) > 5
