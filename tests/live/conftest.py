"""A source that plays a script, a runner that can be held and broken, and a sink that keeps copies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest

from edgeseg.backend.base import BaseRunner
from edgeseg.backend.null import Latency, runner_of
from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.types import (
    U8,
    Classes,
    EngineSpec,
    Frame,
    InputFormat,
    Output,
    Result,
    Runner,
    SinkContext,
    Size,
    SourceInfo,
    Ticket,
)
from edgeseg.live.pipeline import Pipeline
from edgeseg.live.request import LiveRequest
from edgeseg.live.summary import LiveSummary, summarise

SIZE = (24, 32)
CLASSES = Classes(names=("road", "sky", "car"), palette_rgb=((128, 64, 128), (70, 130, 180), (0, 0, 142)))


def picture(value: int, size: tuple[int, int] = SIZE) -> U8:
    """A picture that is not black, not flat, unlike those of other values, and whose null mask is value % 3."""
    rng = np.random.default_rng(value)
    image = rng.integers(40, 220, (*size, 3), np.uint8)
    image[..., 0] = value % 3 + 3 * (image[..., 0] // 4)
    return image


@dataclass
class Shot:
    """One frame of a script: what it shows, when it was taken, and what must have happened before it comes."""

    image: U8
    after: threading.Event | None = None
    stamp_ns: int | None = None
    skipped: int = 0
    before: Callable[[], None] | None = None


Step = Shot | Exception | threading.Event


@dataclass
class ScriptedSource:
    """Plays steps: a `Shot` is a frame, an exception is raised by `grab`, an event is waited for.

    `opens` says what each `open` does: an exception to raise, or a picture size.
    """

    steps: Iterable[Step]
    live: bool = True
    rate_hz: float | None = 100.0
    coding: Literal["raw", "intra", "inter"] = "raw"
    opens: list[Exception | tuple[int, int]] = field(default_factory=list)
    uri: str = "scripted:"
    form: InputFormat = "bgr"
    opened: int = 0
    closed: int = 0

    def __post_init__(self) -> None:
        self._steps: Iterator[Step] = iter(self.steps)
        self.ready = threading.Event()  # a camera's frames before the engine is ready are drops, so none come
        self._id = -1

    def open(self) -> SourceInfo:
        self.opened += 1
        what = self.opens.pop(0) if self.opens else SIZE
        if isinstance(what, Exception):
            raise what
        self._id = -1
        return SourceInfo(
            uri=self.uri,
            size=what,
            rate_hz=self.rate_hz,
            live=self.live,
            coding=self.coding,
            clock=CaptureClock.DRIVER,
            form=self.form,
        )

    def suit(self, form: InputFormat, size: Size | None) -> None:
        self.asked = (form, size)

    def grab(self) -> bool:
        assert not self.live or self.ready.wait(20), "start it with `play`"
        for step in self._steps:
            if isinstance(step, threading.Event):
                assert step.wait(20), "the script waits for something that never came"
                continue
            if isinstance(step, Exception):
                raise step
            if step.after is not None:
                assert step.after.wait(20), "the script waits for something that never came"
            if step.before is not None:
                step.before()
            self._id += 1 + step.skipped
            self._shot, self._stamp = step, now_ns() if step.stamp_ns is None else step.stamp_ns
            return True
        return False

    def retrieve(self, out_hwc: U8 | None = None) -> Frame:
        image = self._shot.image
        if out_hwc is not None and out_hwc.shape == image.shape:
            np.copyto(out_hwc, image)
            image = out_hwc
        return Frame(id=self._id, image_hwc=image, t_capture_ns=self._stamp, clock=CaptureClock.DRIVER, form=self.form)

    def close(self) -> None:
        self.closed += 1


class GatedRunner:
    """A null runner whose every call can be made to wait for a permit, or to fail."""

    def __init__(self, runner: BaseRunner) -> None:
        self._runner = runner
        self.permits: threading.Semaphore | None = None
        self.fail_at: int | None = None
        self.calls = 0
        self.started = threading.Event()

    @property
    def spec(self):  # type: ignore[no-untyped-def]
        return self._runner.spec

    @property
    def free_outputs(self) -> int:
        return self._runner.free_outputs

    def __enter__(self) -> Runner:
        self._runner.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self._runner.__exit__(*args)  # type: ignore[arg-type]

    def input_view(self) -> U8:
        return self._runner.input_view()

    def submit(self, frames_nhwc: U8, *, lent: bool = False) -> Ticket:
        self.calls += 1
        self.started.set()
        if self.permits is not None:
            assert self.permits.acquire(timeout=20)
        if self.fail_at == self.calls:
            raise RuntimeError("the device is gone")
        return self._runner.submit(frames_nhwc, lent=lent)

    def collect(self, ticket: Ticket) -> Output:
        return self._runner.collect(ticket)

    def infer(self, frames_nhwc: U8) -> Output:
        return self.collect(self.submit(frames_nhwc))


class KeepSink:
    """Keeps a copy of each result, and can wait or fail in the middle."""

    name = "keep"

    def __init__(self, *, lossless: bool = True) -> None:
        self.lossless = lossless
        self.results: list[Result] = []
        self.context: SinkContext | None = None
        self.on_write: Callable[[Result], None] | None = None
        self.closed = 0
        self.changed = threading.Condition()

    def open(self, context: SinkContext) -> None:
        self.context = context

    def write(self, result: Result) -> None:
        kept = replace(
            result,
            mask_hw=None if result.mask_hw is None else result.mask_hw.copy(),
            image=None if result.image_hwc is None else result.image_hwc.copy(),
        )
        with self.changed:
            self.results.append(kept)
            self.changed.notify_all()
        if self.on_write is not None:
            self.on_write(result)

    def close(self) -> None:
        self.closed += 1

    def wait_for(self, condition: Callable[[list[Result]], bool]) -> None:
        """Wait until the results satisfy a condition."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.results), 20), self.results


def start(request: LiveRequest) -> Pipeline:
    """Start a pipeline, then let its scripted cameras speak."""
    pipeline = Pipeline(request)
    pipeline.start()
    for source in request.sources:
        source.ready.set()  # type: ignore[attr-defined]
    return pipeline


def play(request: LiveRequest) -> LiveSummary:
    """`run_live` for scripted sources."""
    pipeline = start(request)
    pipeline.join_when_done()
    return summarise(pipeline)


def play_any(request: LiveRequest) -> LiveSummary:
    """`run_live` for sources that wait for nobody."""
    pipeline = Pipeline(request)
    pipeline.start()
    pipeline.join_when_done()
    return summarise(pipeline)


@pytest.fixture
def kit() -> SimpleNamespace:
    """The classes of this file, which test modules cannot import."""
    return SimpleNamespace(
        SIZE=SIZE,
        CLASSES=CLASSES,
        Shot=Shot,
        ScriptedSource=ScriptedSource,
        KeepSink=KeepSink,
        picture=picture,
        start=start,
        play=play,
        play_any=play_any,
    )


@pytest.fixture
def null() -> Callable[..., GatedRunner]:
    """Makes a runner: `null()`, `null(batch=2)`."""

    def make(
        size: tuple[int, int] = SIZE,
        *,
        batch: int = 1,
        confidence: bool = False,
        latency_ms: float = 0.0,
        outputs: int = 8,
        form: InputFormat = "bgr",
    ) -> GatedRunner:
        spec = EngineSpec(frame_size=size, batch=batch, classes=CLASSES, confidence=confidence, input_format=form)
        return GatedRunner(runner_of(spec, Latency(ms=latency_ms), outputs=outputs))

    return make


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Every test of the loop ends with the threads that it began with."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(5)
    assert not [thread.name for thread in left if thread.is_alive()]
