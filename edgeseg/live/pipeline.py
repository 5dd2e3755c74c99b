"""All threads of one run: started in the order in which things are checked, stopped together, joined once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import TimeoutError as FutureTimeout

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.errors import RequestError, UnavailableError
from edgeseg.core.log import get_logger
from edgeseg.core.packing import check_packable
from edgeseg.core.types import Runner, Sink, SinkContext, Size, SourceInfo, Suitable, format_size
from edgeseg.live.capture import Capture
from edgeseg.live.drops import DropCounter
from edgeseg.live.fanout import Fanout, SinkWorker
from edgeseg.live.health import CameraHealth
from edgeseg.live.inference import Inference
from edgeseg.live.request import LiveRequest
from edgeseg.live.slot import Slots
from edgeseg.live.stagelog import StageLog

_POLL_S = 0.05
_STOP_S = 1.8  # a clean stop takes less than two seconds; a thread that is stuck in a driver is left behind, and named
_FINISH_S = 60.0  # after the end of a file, sinks may take their time to write what waits
_log = get_logger(__name__)


class Pipeline:
    """The running loop.

    Args:
        request: What to run.
    """

    def __init__(self, request: LiveRequest) -> None:
        if not request.sources:
            raise RequestError("no source to read from", allowed="at least one", fix="edgeseg live BUNDLE --source 0")
        self.request = request
        self.stop = request.stop
        self.log = StageLog()
        self.started_ns = now_ns()
        self.workers: list[SinkWorker] = []
        self.captures: list[Capture] = []
        self.inference: Inference | None = None
        self._slots = Slots()
        self.stop.on_wake(self._slots.notify)
        self._ended = False

    # ------------------------------------------------------------ start

    def start(self) -> None:
        """Open sources, then sinks, then the engine; returns when frames flow.

        Raises:
            EdgesegError: Whatever keeps it from starting; nothing runs any more then.
        """
        try:
            self._start_captures()
            infos = self._wait_for_sources()
            if self.stop.is_set():
                return
            self._start_sinks(infos)
            self._start_engine(infos)
        except BaseException as error:
            self.stop.fail(error)
            self.end()
            raise

    def _start_captures(self) -> None:
        request = self.request
        held = self._held_by_sinks()
        for number, source in enumerate(request.sources):
            if isinstance(source, Suitable):
                source.suit(*request.engine.takes)
            drops = DropCounter()
            capture = Capture(
                number,
                source,
                self._slots.add(drops),
                drops=drops,
                health=CameraHealth(request.config.health, now_ns=self.started_ns),
                stop=self.stop,
                config=request.config,
                buffers=4 + held,  # decoding, in the slot, two in flight, and what the sinks may hold
            )
            self.captures.append(capture)
            capture.start()

    def _wait_for_sources(self) -> Sequence[SourceInfo | None]:
        """What each source is; None for one that is missing, which only `keep_trying` allows."""
        config = self.request.config
        deadline_ns = now_ns() + round(config.open_timeout_s * 1e9)
        infos: list[SourceInfo | None] = []
        for capture in self.captures:
            while not self.stop.is_set():
                try:
                    infos.append(capture.opened.result(timeout=_POLL_S))
                    break
                except FutureTimeout:
                    if config.keep_trying and (capture.tried.is_set() or now_ns() > deadline_ns):
                        infos.append(None)
                        break
                    if now_ns() > deadline_ns:
                        raise UnavailableError(
                            "the source does not open",
                            value=capture.uri,
                            allowed=f"an answer within {config.open_timeout_s:g} s (--open-timeout)",
                            fix="the same command with --keep-trying, which starts without it and waits for it",
                        ) from None
        return infos

    def _start_sinks(self, infos: Sequence[SourceInfo | None]) -> None:
        request = self.request
        files = _are_files(infos)
        context = SinkContext(
            cameras=[info or _missing(number) for number, info in enumerate(infos)],
            classes=request.engine.classes,
            engine=request.engine.name,
        )
        for sink in request.sinks:
            worker = SinkWorker(
                sink, queue=self._queue_of(sink), wait=files and sink.lossless, stop=self.stop, fatal=files
            )
            self.workers.append(worker)
            worker.start(context)
        for worker in self.workers:
            worker.opened.result()

    def _queue_of(self, sink: Sink) -> int:
        """Results that may wait for a sink: its own wish, or the setting."""
        return int(getattr(sink, "queue", self.request.config.sink_queue))

    def _held_by_sinks(self) -> int:
        """Results that all sinks together may hold: one being written each, and those that wait."""
        return sum(1 + self._queue_of(sink) for sink in self.request.sinks)

    def _start_engine(self, infos: Sequence[SourceInfo | None]) -> None:
        request = self.request
        size = next((info.size for info in infos if info is not None), None)
        while size is None:  # every camera is missing: an engine is made for the first that comes
            if self.stop.wait(_POLL_S):
                return
            size = next((capture.info.size for capture in self.captures if capture.info is not None), None)
        runner = request.engine.load(size, throughput=_are_files(infos))
        self._check_engine(runner, infos, size)
        fanout = Fanout(self.workers, self.log.add)
        self.inference = Inference(
            runner,
            self.captures,
            self._slots,
            fanout,
            stop=self.stop,
            config=request.config,
            masks=2 + runner.spec.batch + self._held_by_sinks(),
        )
        self.inference.start()
        while not self.stop.is_set():
            try:
                self.inference.ready.result(timeout=_POLL_S)
                break
            except FutureTimeout:
                continue
        for capture in self.captures:
            capture.go()

    def _check_engine(self, runner: Runner, infos: Sequence[SourceInfo | None], size: Size) -> None:
        """Refuse what this engine cannot do, and say once what costs time."""
        config, spec = self.request.config, runner.spec
        if (config.min_confidence or config.smooth_confidence) and not spec.confidence:
            raise RequestError(
                "the engine gives no confidence, which --min-confidence and --smooth need",
                value=self.request.engine.name,
                allowed="a bundle built with the output `confidence`",
                fix="edgeseg build MODEL --confidence",
            )
        if spec.input_format != "bgr":
            check_packable(spec.frame_size, spec.input_format)
            for info in infos:
                if info is not None and info.form != spec.input_format:
                    what = f"the engine takes {spec.input_format}, which %s does not give"
                    _log.warning(f"{what}: its pictures are converted on the host", info.uri)
        if spec.frame_size != size:
            _log.warning(
                "pictures are resized on the host from %s to %s (%s); a bundle built with --frame-size %s needs none",
                format_size(size),
                format_size(spec.frame_size),
                config.resize,
                format_size(size),
            )

    # ------------------------------------------------------------ run and end

    def running(self) -> bool:
        """Whether results may still come."""
        return self.inference is not None and self.inference.is_alive() and not self.stop.is_set()

    @property
    def beat_ns(self) -> int:
        """When the engine thread last went round its loop."""
        return self.inference.beat_ns if self.inference is not None else self.started_ns

    def pump(self, timeout_s: float = _POLL_S) -> None:
        """Let a little time pass: step the sinks that belong to the calling thread."""
        mine = [worker for worker in self.workers if worker.runs_on_main_thread]
        for worker in mine:
            worker.step(timeout_s / len(mine))
        if not mine and self.inference is not None:
            self.inference.join(timeout_s)

    def join_when_done(self) -> None:
        """Let it run to its end, then `join`."""
        while self.running():
            self.pump()
        self.join()

    def join(self) -> None:
        """End every thread: sinks write what they have, then close. May be called twice.

        Raises:
            EdgesegError: The first failure of any thread.
        """
        self.end()
        self.stop.reraise()

    def end(self) -> None:
        """End every thread, and raise nothing. May be called twice."""
        if self._ended:
            return
        self._ended = True
        if self.inference is not None:
            self.inference.join()
        grace_s = _STOP_S if self.stop.is_set() else _FINISH_S
        self.stop.set()
        deadline_ns = now_ns() + round(grace_s * 1e9)
        self._slots.close()
        for worker in self.workers:
            worker.finish()
            if worker.runs_on_main_thread:
                while worker.step(0.0):
                    pass
                worker.close()
        for capture in self.captures:
            capture.go()
            capture.join(max(0.0, (deadline_ns - now_ns()) / 1e9))
            if capture.failed is not None:
                self.stop.fail(capture.failed)
        for worker in self.workers:
            worker.join(max(0.0, (deadline_ns - now_ns()) / 1e9))
        left = [thread.name for thread in self.captures if thread.is_alive()]
        left += [worker.sink.name for worker in self.workers if worker.alive]
        if left:
            _log.warning("still busy after %.1f s, left to end by themselves: %s", grace_s, ", ".join(left))


def _are_files(infos: Sequence[SourceInfo | None]) -> bool:
    """Whether no source is a camera: then nothing is dropped, and frames a second count more than their age."""
    return not any(info is None or info.live for info in infos)


def _missing(number: int) -> SourceInfo:
    """Stands in for a camera that has not opened yet."""
    return SourceInfo(
        uri=f"camera {number} (missing)",
        size=(0, 0),
        rate_hz=None,
        live=True,
        coding="raw",
        clock=CaptureClock.HOST,
    )
