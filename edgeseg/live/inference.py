"""The thread that owns the engine: newest frames in, one result per accepted frame out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.packing import pack, picture_size
from edgeseg.core.types import U8, Output, Result, Runner, Size, Stage, State, Ticket
from edgeseg.live.buffers import BufferPool, Lease
from edgeseg.live.capture import Capture
from edgeseg.live.config import LiveConfig
from edgeseg.live.detect.verdict import Verdict
from edgeseg.live.fanout import Fanout
from edgeseg.live.geometry import Fit, Geometry
from edgeseg.live.pictures import CameraPicture
from edgeseg.live.slot import Captured, Slots
from edgeseg.live.smoothing import Smoother
from edgeseg.live.stop import Stop

_POLL_S = 0.2  # longest wait that does not look at the stop event


@dataclass(slots=True)
class _Row:
    """One frame in flight: its row of the batch."""

    camera: int
    captured: Captured
    image: U8 | CameraPicture
    fit: Fit
    stages_ns: dict[Stage, int]


@dataclass(frozen=True, slots=True)
class _Flight:
    ticket: Ticket
    rows: Sequence[_Row]


@dataclass(slots=True)
class _Camera:
    capture: Capture
    geometry: Geometry
    smoother: Smoother
    last_capture_ns: int
    clock: CaptureClock = CaptureClock.HOST
    masks: BufferPool | None = None
    pictures: BufferPool | None = None  # BGR of a camera whose own bytes go to the engine
    results: int = 0
    states: dict[State, int] = field(default_factory=dict)


class Inference(threading.Thread):
    """The engine loop.

    Args:
        runner: Not yet entered; this thread enters, uses and leaves it.
        captures: One per camera.
        slots: Where their frames wait.
        fanout: Where results go.
        stop: The loop's stop.
        config: Resize policy, confidence, batching.
        masks: Masks at camera size that may be in use at once.
    """

    def __init__(
        self,
        runner: Runner,
        captures: Sequence[Capture],
        slots: Slots,
        fanout: Fanout,
        *,
        stop: Stop,
        config: LiveConfig,
        masks: int,
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self.ready: Future[None] = Future()
        self.first_ok_ns: int | None = None
        self.beat_ns = now_ns()
        self._runner = runner
        self._slots = slots
        self._fanout = fanout
        self._stop_event = stop
        self._config = config
        self._mask_count = masks
        start_ns = now_ns()
        self.cameras = [
            _Camera(
                capture,
                Geometry(runner.spec.frame_size, config.resize),
                Smoother(round(255 * config.smooth_confidence), config.smooth_frames),
                start_ns,
            )
            for capture in captures
        ]
        self._bgr = np.zeros((*runner.spec.frame_size, 3), np.uint8)  # before packing, where a resize comes first
        self._flight: deque[_Flight] = deque()
        self._ignore_id = runner.spec.classes.ignore_id
        self._least_confidence = round(255 * config.min_confidence)

    def run(self) -> None:
        """Thread body."""
        try:
            with self._runner:
                self.ready.set_result(None)
                self._loop()
        except BaseException as error:
            if not self.ready.done():
                self.ready.set_exception(error)
            self._publish_failure(error)
            self._stop_event.fail(error)
        finally:
            for flight in self._flight:
                for row in flight.rows:
                    row.captured.lease.release()
            self._flight.clear()
            self._fanout.finish()

    # ------------------------------------------------------------ the loop

    def _loop(self) -> None:
        spec = self._runner.spec
        live = any(camera.capture.info is None or camera.capture.info.live for camera in self.cameras)
        # cameras: the newest frame is taken at the last moment, so nothing is launched ahead
        depth = 1 if live else spec.depth
        while not self._stop_event.is_set():
            self.beat_ns = now_ns()
            batch = self._next_batch(wait=not self._flight) if len(self._flight) < depth else ()
            if batch:
                self._launch(batch)
            elif self._flight:
                self._finish(self._flight.popleft())
            elif self._all_ended():
                break
            self._publish_silence()
        while self._flight:
            self._finish(self._flight.popleft())

    def _next_batch(self, *, wait: bool) -> Sequence[_Row]:
        """Frames to segment now; those that must not be segmented are published without a mask."""
        spec = self._runner.spec
        if wait:
            playing = sum(not camera.capture.ended.is_set() for camera in self.cameras)
            if self._slots.wait(self._wait_s()) and spec.batch > 1:
                self._slots.wait(self._config.batch_wait_ms / 1e3, cameras=min(spec.batch, playing))
        rows = []
        for number, captured in self._slots.take(spec.batch):
            camera = self.cameras[number]
            camera.last_capture_ns, camera.clock = captured.frame.t_capture_ns, captured.frame.clock
            size = picture_size(captured.frame.image_hwc, captured.frame.form)
            fit = camera.geometry.fit(size)
            verdict = captured.verdict or (Verdict(State.LOST, fit.note) if fit.resizer is None else None)
            row = _Row(number, captured, self._picture(camera, captured, size), fit, {})
            if verdict is None:
                rows.append(row)
            else:
                self._publish_frame(row, verdict)
        return rows

    def _picture(self, camera: _Camera, captured: Captured, size: Size) -> U8 | CameraPicture:
        if captured.frame.form == "bgr":
            return captured.frame.image_hwc
        if camera.pictures is None or camera.pictures.shape[:2] != size:
            camera.pictures = BufferPool((*size, 3), self._mask_count)
        return CameraPicture(captured.frame.image_hwc, captured.frame.form, self._runner.spec.colour, camera.pictures)

    def _wait_s(self) -> float:
        """Until the next moment at which a camera's silence becomes news."""
        now = now_ns()
        due = [camera.capture.health.due_ns() for camera in self.cameras]
        soonest = min((t_ns for t_ns in due if t_ns is not None and t_ns > now), default=None)
        return _POLL_S if soonest is None else min(_POLL_S, (soonest - now) / 1e9 + 1e-3)

    def _all_ended(self) -> bool:
        return all(camera.capture.ended.is_set() for camera in self.cameras) and not self._slots.wait(0)

    def _launch(self, rows: Sequence[_Row]) -> None:
        if self._runner.spec.batch == 1 and self._as_taken(rows[0]):
            # the picture is leased until its result is published, so the engine may read it where it lies
            rows[0].stages_ns.update(_waiting(rows[0].captured))
            frame = rows[0].captured.frame.image_hwc[None]
            self._flight.append(_Flight(self._runner.submit(frame, lent=True), rows))
            return
        view = self._runner.input_view()
        for index, row in enumerate(rows):
            row.stages_ns.update(_waiting(row.captured))
            begin_ns = now_ns()
            stage = self._write_frame(row, view[index])
            row.stages_ns[stage] = now_ns() - begin_ns
        self._flight.append(_Flight(self._runner.submit(view), rows))

    def _as_taken(self, row: _Row) -> bool:
        """Whether the picture has the engine's format and size already."""
        assert row.fit.resizer is not None
        return row.captured.frame.form == self._runner.spec.input_format and row.fit.resizer.identity

    def _write_frame(self, row: _Row, out: U8) -> Stage:
        """The picture into the engine's memory, resized and in its format; which stage that was."""
        frame, resizer, form = row.captured.frame, row.fit.resizer, self._runner.spec.input_format
        assert resizer is not None
        if self._as_taken(row):
            np.copyto(out, frame.image_hwc)
            return Stage.COPY_IN
        image = row.image.bgr() if isinstance(row.image, CameraPicture) else row.image
        if form != "bgr":
            if not resizer.identity:
                image = resizer.to_frame(image, self._bgr)
            pack(image, form, out, self._runner.spec.colour)
        elif resizer.identity:  # the camera gives its own format, which this engine does not take
            np.copyto(out, image)
        else:
            resizer.to_frame(image, out)
        return Stage.RESIZE_IN

    def _finish(self, flight: _Flight) -> None:
        output = self._runner.collect(flight.ticket)
        shared = Lease(output.release)
        try:
            for index, row in enumerate(flight.rows):
                times = output.times
                row.stages_ns[Stage.COPY_IN] = row.stages_ns.get(Stage.COPY_IN, 0) + times.copy_in_ns
                row.stages_ns[Stage.ENGINE] = times.engine_ns
                row.stages_ns[Stage.COPY_OUT] = times.copy_out_ns
                self._publish_mask(row, output, index, shared)
        finally:
            shared.release()

    # ------------------------------------------------------------ results

    def _publish_mask(self, row: _Row, output: Output, index: int, shared: Lease) -> None:
        camera = self.cameras[row.camera]
        mask = output.mask_nhw[index]
        confidence = None if output.confidence_nhw is None else output.confidence_nhw[index]
        if confidence is not None:  # the mask is leased to us: nobody else writes or reads here yet
            if self._config.smooth_confidence:
                camera.smoother.apply(row.captured.frame.id, mask, confidence)
            if self._least_confidence:
                mask[confidence < self._least_confidence] = self._ignore_id
        begin_ns = now_ns()
        leases = _leases(row)
        assert row.fit.resizer is not None
        if not row.fit.resizer.identity:
            mask, confidence, lease = self._to_camera(camera, row.fit, mask, confidence)
            leases.append(lease)
        elif self._runner.free_outputs <= self._runner.spec.depth:
            # sinks hold nearly all of the runner's buffers: give this one back, so that the next frame has one
            mask, confidence = mask.copy(), None if confidence is None else confidence.copy()
        else:
            leases.append(shared.retain())
        t_result_ns = now_ns()
        if not row.fit.resizer.identity:
            row.stages_ns[Stage.RESIZE_OUT] = t_result_ns - begin_ns
        frame = row.captured.frame
        verdict = camera.capture.health.mask(
            age_ns=t_result_ns - frame.t_capture_ns,
            delay_ns=row.captured.t_host_ns - frame.t_capture_ns,
            now_ns=t_result_ns,
            degraded=row.fit.note,
        )
        result = self._result(row, verdict or Verdict(State.OK, ""), t_result_ns)
        self._publish(camera, replace(result, mask_hw=mask, confidence_hw=confidence), leases)

    def _to_camera(self, camera: _Camera, fit: Fit, mask: U8, confidence: U8 | None) -> tuple[U8, U8 | None, Lease]:
        resizer = fit.resizer
        assert resizer is not None
        if camera.masks is None or camera.masks.shape[1:] != resizer.camera_size:
            planes = 1 if confidence is None else 2
            camera.masks = BufferPool((planes, *resizer.camera_size), self._mask_count)
        lent = camera.masks.take()
        assert lent is not None, "as many masks as results that sinks may hold"
        planes_nhw, lease = lent
        resizer.to_camera(mask, planes_nhw[0], self._ignore_id)
        if confidence is None:
            return planes_nhw[0], None, lease
        return planes_nhw[0], resizer.to_camera(confidence, planes_nhw[1], 0), lease

    def _publish_frame(self, row: _Row, verdict: Verdict) -> None:
        """A frame that was not segmented."""
        row.stages_ns.update(_waiting(row.captured))
        result = self._result(row, verdict, now_ns())
        self._publish(self.cameras[row.camera], result, _leases(row))

    def _result(self, row: _Row, verdict: Verdict, t_result_ns: int) -> Result:
        frame = row.captured.frame
        return Result(
            camera=row.camera,
            frame_id=frame.id,
            t_capture_ns=frame.t_capture_ns,
            clock=frame.clock,
            t_result_ns=t_result_ns,
            state=verdict.state,
            reason=verdict.reason,
            stages_ns=row.stages_ns,
            image=row.image,
            name=frame.name,
        )

    def _publish_silence(self) -> None:
        """One result for each camera that has just become STALE or LOST."""
        now = now_ns()
        for number, camera in enumerate(self.cameras):
            waiting = self._slots.waits(number) or any(row.camera == number for f in self._flight for row in f.rows)
            verdict = None if waiting else camera.capture.health.silent(now)
            if verdict is not None:
                self._publish(camera, self._without_frame(number, verdict, now), ())

    def _publish_failure(self, error: BaseException) -> None:
        """The engine is gone: no camera has a mask any more."""
        verdict = Verdict(State.LOST, f"the engine failed: {error}")
        for number, camera in enumerate(self.cameras):
            self._publish(camera, self._without_frame(number, verdict, now_ns()), ())

    def _without_frame(self, number: int, verdict: Verdict, t_result_ns: int) -> Result:
        camera = self.cameras[number]
        return Result(
            camera=number,
            frame_id=-1,
            t_capture_ns=camera.last_capture_ns,
            clock=camera.clock,
            t_result_ns=t_result_ns,
            state=verdict.state,
            reason=verdict.reason,
        )

    def _publish(self, camera: _Camera, result: Result, leases: Sequence[Lease]) -> None:
        camera.capture.health.publish(result.state)
        camera.states[result.state] = camera.states.get(result.state, 0) + 1
        camera.results += result.frame_id >= 0
        if result.state is State.OK and self.first_ok_ns is None:
            self.first_ok_ns = result.t_result_ns

        def release() -> None:
            for lease in leases:
                lease.release()

        self._fanout.publish(result, Lease(release))


def _leases(row: _Row) -> list[Lease]:
    """What keeps the picture of a frame: its bytes, and BGR of them where somebody asked."""
    if isinstance(row.image, CameraPicture):
        return [Lease(row.image.release), row.captured.lease]
    return [row.captured.lease]


def _waiting(captured: Captured) -> dict[Stage, int]:
    """QUEUE: all waiting, in driver or network and in the slot; CAPTURE: decoding."""
    decode_ns = captured.t_decoded_ns - captured.t_host_ns
    return {
        Stage.QUEUE: now_ns() - captured.frame.t_capture_ns - decode_ns,
        Stage.CAPTURE: decode_ns,
    }
