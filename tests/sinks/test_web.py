"""The web page: over real sockets, and in a real headless Chromium where there is one."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.errors import RequestError
from edgeseg.core.types import Classes, Result, SinkContext, SourceInfo, Stage, State
from edgeseg.sinks.web import sink as web_sink
from edgeseg.sinks.web.server import needs_token
from edgeseg.sinks.web.sink import WebSink

SIZE = (48, 64)
CLASSES = Classes(names=("road", "<b>car</b>"), palette_rgb=((200, 0, 0), (0, 0, 200)))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)


def result(number: int, state: State = State.OK, camera: int = 0) -> Result:
    now = now_ns()
    return Result(
        camera=camera,
        frame_id=number,
        t_capture_ns=now - 7_000_000,
        clock=CaptureClock.HOST,
        t_result_ns=now,
        state=state,
        reason="" if state is State.OK else "no new picture for 600 ms",
        stages_ns={Stage.ENGINE: 5_000_000},
        mask_hw=np.ones(SIZE, np.uint8) if state.has_mask else None,
        image=None if number < 0 else np.full((*SIZE, 3), 100, np.uint8),
    )


@pytest.fixture
def open_page() -> Iterator[Callable[..., WebSink]]:
    opened: list[WebSink] = []
    before = set(threading.enumerate())

    def make(**options: Any) -> WebSink:
        page = WebSink(0, **options)
        info = SourceInfo(
            uri="rtsp://***@front", size=SIZE, rate_hz=30.0, live=True, coding="inter", clock=CaptureClock.PTS
        )
        page.open(SinkContext(cameras=[info, info], classes=CLASSES, engine="b <1>"))
        opened.append(page)
        return page

    yield make
    for page in opened:
        page.close()
        page.close()
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(5)
    assert not [thread.name for thread in left if thread.is_alive()]


def port_of(page: WebSink) -> int:
    return int(page.url.split(":")[2].split("/")[0])


def get(page: WebSink, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


class Viewer:
    """Opens a stream and reads pictures one by one."""

    def __init__(self, page: WebSink, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port_of(page)), 10)
        self.socket.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")
        self.status = self.file.readline()
        while self.file.readline() not in (b"\r\n", b""):
            pass

    def picture(self) -> bytes:
        length = 0
        while (line := self.file.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        data = self.file.read(length)
        self.file.readline()
        return data

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does at once."""
    waiting = threading.Event()
    for _ in range(1000):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("it never came")


def test_the_page_is_self_contained(open_page: Callable[..., WebSink]) -> None:
    status, headers, body = get(open_page(), "/")
    assert status == 200
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert not re.findall(rb"(?:src|href)=\"(?!data:)[^\"]*//", body), "nothing is loaded from elsewhere"
    assert b"http://" not in body
    assert b"https://" not in body


def test_several_viewers_cost_one_encode_and_none_without_viewers(
    open_page: Callable[..., WebSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page()
    encodes: list[int] = []
    real = web_sink.cv2.imencode
    monkeypatch.setattr(web_sink.cv2, "imencode", lambda *args: encodes.append(1) or real(*args))
    page.write(result(0))
    assert encodes == []
    viewers = [Viewer(page, "/stream?camera=0&view=overlay") for _ in range(3)]
    until(lambda: page._site.broadcast.viewers == 3)
    page.write(result(1))
    pictures = [viewer.picture() for viewer in viewers]
    assert len(set(pictures)) == 1
    assert pictures[0].startswith(b"\xff\xd8")
    page.write(result(2, camera=1))
    assert len(encodes) == 1, "nobody watches camera 1"
    for viewer in viewers:
        viewer.close()


def test_a_viewer_that_stops_reading_holds_up_nobody(open_page: Callable[..., WebSink]) -> None:
    page = open_page()
    stuck, reads = Viewer(page, "/stream?camera=0&view=frame"), Viewer(page, "/stream?camera=0&view=frame")
    until(lambda: page._site.broadcast.viewers == 2)
    noisy = result(0)
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    longest_ns = 0
    for number in range(40):
        begin_ns = now_ns()
        page.write(Result(**{**{f: getattr(noisy, f) for f in noisy.__slots__}, "frame_id": number, "image": noise}))
        longest_ns = max(longest_ns, now_ns() - begin_ns)
        assert reads.picture()
    assert longest_ns < 2_000_000_000
    stuck.close()
    reads.close()


def test_states_without_a_mask_show_no_mask(open_page: Callable[..., WebSink]) -> None:
    page = open_page()
    viewer = Viewer(page, "/stream?camera=0&view=mask")
    until(lambda: page._site.broadcast.viewers == 1)
    import cv2

    page.write(result(0))
    shown = cv2.imdecode(np.frombuffer(viewer.picture(), np.uint8), cv2.IMREAD_COLOR)
    assert shown[20, 30, 0] > 150, "class 1 is blue"
    for number, state in ((1, State.FROZEN), (-1, State.LOST)):
        page.write(result(number, state))
        shown = cv2.imdecode(np.frombuffer(viewer.picture(), np.uint8), cv2.IMREAD_COLOR)
        assert shown[2, 2].max() < 80
    viewer.close()


def test_metrics_are_in_prometheus_format(open_page: Callable[..., WebSink]) -> None:
    page = open_page()
    for number in (0, 1, 4):
        page.write(result(number))
    page.write(result(-1, State.STALE))
    status, headers, body = get(page, "/metrics")
    text = body.decode()
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'edgeseg_results_total{camera="0",state="ok"} 3' in text
    assert 'edgeseg_skipped_frames_total{camera="0"} 2' in text
    assert 'edgeseg_state{camera="0",state="stale"} 1' in text
    assert 'edgeseg_mask_age_seconds_bucket{camera="0",le="0.01"} 3' in text
    assert 'edgeseg_mask_age_seconds_count{camera="0"} 3' in text
    assert all(re.fullmatch(r"# .*|\w+\{[^}]*\} [0-9.e+-]+", line) for line in text.splitlines())


@pytest.mark.parametrize("path", ["/nowhere", "/stream?camera=9", "/stream?view=secret", "/stream?camera=-1"])
def test_what_is_not_there(open_page: Callable[..., WebSink], path: str) -> None:
    assert get(open_page(), path)[0] == 404


def test_loopback_answers_to_its_own_name_only(open_page: Callable[..., WebSink]) -> None:
    page = open_page()
    assert get(page, "/about", Host="evil.example")[0] == 421
    assert get(page, "/about", Host="localhost")[0] == 200


def test_any_other_address_needs_the_token(open_page: Callable[..., WebSink]) -> None:
    page = open_page(host="0.0.0.0")
    token = page.url.split("token=")[1]
    assert len(token) >= 24
    assert get(page, "/")[0] == 401
    assert get(page, "/?token=guess")[0] == 401
    status, headers, _ = get(page, f"/?token={token}")
    assert status == 200
    assert "HttpOnly" in headers["Set-Cookie"]
    assert get(page, "/about", Cookie=headers["Set-Cookie"].split(";")[0])[0] == 200
    assert [needs_token(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "10.1.2.3", "car")] == [
        *(False, False, False),
        *(True, True, True),
    ]


def test_a_taken_port_is_refused(open_page: Callable[..., WebSink]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RequestError, match="cannot listen"):
        WebSink(taken.getsockname()[1]).open(SinkContext(cameras=[], classes=CLASSES, engine=""))
    with pytest.raises(RequestError, match="not a port"):
        WebSink(70000)


# ---------------------------------------------------------------- a real browser


class Browser:
    """A headless Chromium, spoken to over its DevTools protocol (WebSocket, RFC 6455)."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        arguments = [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"),
            *(f"--user-data-dir={profile}", "--window-size=1300,900", "about:blank"),
        ]
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line):
                break
        port = int(found[1])  # type: ignore[index]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/json")
        target = next(item for item in json.loads(connection.getresponse().read()) if item["type"] == "page")
        connection.close()
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        key = base64.b64encode(os.urandom(16)).decode()
        path = "/" + target["webSocketDebuggerUrl"].split("/", 3)[3]
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.file = self.socket.makefile("rb")
        while self.file.readline() != b"\r\n":
            pass
        self.number = 0

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        self.number += 1
        data = json.dumps({"id": self.number, "method": method, "params": parameters}).encode()
        head = bytes([0x81, 0xFE]) + struct.pack(">H", len(data))
        self.socket.sendall(head + b"\0\0\0\0" + data)  # masked with zeros
        while True:
            length = self.file.read(2)[1]
            if length >= 126:
                size = 2 if length == 126 else 8
                length = int.from_bytes(self.file.read(size), "big")
            message = json.loads(self.file.read(length))
            if message.get("id") == self.number:
                return message["result"]  # type: ignore[no-any-return]

    def ask(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def close(self) -> None:
        self.file.close()
        self.socket.close()
        self.process.kill()
        self.process.wait(20)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs a headless Chromium (apt install chromium-headless-shell)")
    one = Browser(tmp_path / "profile")
    yield one
    one.close()


def test_in_a_real_browser(open_page: Callable[..., WebSink], browser: Browser) -> None:
    page = open_page()
    number = iter(range(10**6))
    stop = threading.Event()

    def feed() -> None:
        while not stop.wait(0.03):
            page.write(result(next(number)))
            page.write(result(-1, State.LOST, camera=1))

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        browser.call("Page.navigate", url=page.url)
        until(lambda: browser.ask("document.getElementById('badge')?.textContent") == "OK")
        until(lambda: browser.ask("document.getElementById('picture').naturalWidth") == SIZE[1])
        legend = browser.ask("[...document.querySelectorAll('#legend li')].map(x => x.textContent)")
        assert legend == list(CLASSES.names), "names are text, not markup"
        until(lambda: "p50 7" in browser.ask("document.getElementById('facts').textContent"))
        browser.ask("document.querySelector('[data-view=mask]').click()")
        until(lambda: page._site.broadcast.wanted(0) == ["mask"])
        browser.ask("document.querySelectorAll('#cameras button')[1].click()")
        until(lambda: browser.ask("document.getElementById('badge').textContent") == "LOST")
        assert browser.ask("document.getElementById('reason').textContent") == "no new picture for 600 ms"
        if folder := os.environ.get("EDGESEG_SCREENSHOTS"):
            shot = browser.call("Page.captureScreenshot")["data"]
            (Path(folder) / "live.png").write_bytes(base64.b64decode(shot))
    finally:
        stop.set()
        feeder.join(10)
    page.close()
    until(lambda: browser.ask("getComputedStyle(document.getElementById('gone')).display") == "block")
