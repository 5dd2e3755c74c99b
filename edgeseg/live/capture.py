"""The thread that owns one source: opens it, grabs every frame, decodes into lent memory, and brings it back."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.errors import DataError, EdgesegError, SourceLostError, UnavailableError
from edgeseg.core.log import get_logger
from edgeseg.core.packing import packed_shape, picture_size
from edgeseg.core.types import Frame, Source, SourceInfo, format_size
from edgeseg.live.buffers import BufferPool
from edgeseg.live.config import LiveConfig
from edgeseg.live.drops import Drop, DropCounter
from edgeseg.live.health import CameraHealth
from edgeseg.live.slot import Captured, Slot
from edgeseg.live.stop import Stop

_FILE_BUFFERS = 5  # more for a file, of which several frames may be in the engine
_POLL_S = 0.2  # longest wait that does not look at the stop event
_log = get_logger(__name__)


class Capture(threading.Thread):
    """One camera or file.

    Args:
        camera: Its number.
        source: Not yet opened.
        slot: Where frames go.
        drops: Counts what does not get there.
        health: Told of every frame, and of the camera's coming and going.
        stop: The loop's stop.
        config: Time-outs and back-off.
        buffers: How many pictures may be in use at once behind this camera.
    """

    def __init__(
        self,
        camera: int,
        source: Source,
        slot: Slot,
        *,
        drops: DropCounter,
        health: CameraHealth,
        stop: Stop,
        config: LiveConfig,
        buffers: int,
    ) -> None:
        super().__init__(name=f"capture-{camera}", daemon=True)
        self.camera = camera
        self.drops = drops
        self.health = health
        self.opened: Future[SourceInfo] = Future()
        self.info: SourceInfo | None = None
        self.grabbed = 0
        self.uri = str(getattr(source, "uri", f"source {camera}"))
        self.tried = threading.Event()  # at least one attempt to open has failed
        self.ended = threading.Event()  # nothing more will come, for whatever reason
        self.failed: BaseException | None = None
        self._source = source
        self._slot = slot
        self._stop_event = stop
        self._config = config
        self._buffers = buffers
        self._pool: BufferPool | None = None
        self._go = threading.Event()
        self._expected_id = -1  # of the frame that was grabbed last
        self._id_base = 0

    def go(self) -> None:
        """Let frames through: the engine is ready."""
        self._go.set()

    def run(self) -> None:
        """Thread body."""
        try:
            self._live()
        except BaseException as error:
            self.failed = error
            self.health.lost(str(error))
            if not self.opened.done():
                self.opened.set_exception(error)
        finally:
            self._source.close()
            self.ended.set()
            self._stop_event.wake()

    # ------------------------------------------------------------ coming and going

    def _live(self) -> None:
        pause_ms = self._config.retry_first_ms
        lost_ns: int | None = None  # since when the camera is away
        while not self._stop_event.is_set():
            try:
                self._open()
                pause_ms, lost_ns = self._config.retry_first_ms, None
                self._play()
                self.health.ended()
                return
            except (UnavailableError, SourceLostError) as error:
                self._source.close()
                self.health.lost(error.what)
                self.tried.set()
                self._stop_event.wake()
                lost_ns = now_ns() if lost_ns is None else lost_ns
                self._give_up_or_note(error, away_s=(now_ns() - lost_ns) / 1e9)
            if self._stop_event.wait(pause_ms / 1e3):
                return
            pause_ms = min(2 * pause_ms, self._config.retry_max_ms)

    def _give_up_or_note(self, error: EdgesegError, *, away_s: float) -> None:
        if self._config.keep_trying:
            return
        if self.info is None:
            raise error
        if away_s > self._config.lost_timeout_s:
            raise SourceLostError(
                f"the source has gone and did not come back: {error.what}", value=self.info.uri
            ) from error
        _log.warning("camera %d: %s", self.camera, error)

    def _open(self) -> None:
        info = self._source.open()
        first = self.info is None
        if not first:
            _log.warning("camera %d is back: %s at %s", self.camera, info.uri, format_size(info.size))
            self._id_base = self._expected_id + 1
        self.info = info
        self.health.back(info, now_ns())
        self._resize_pool(packed_shape(info.size, info.form))
        if not self.opened.done():
            self.opened.set_result(info)

    def _resize_pool(self, shape: tuple[int, ...]) -> None:
        if self._pool is None or self._pool.shape != shape:
            live = self.info is None or self.info.live
            self._pool = BufferPool(shape, self._buffers + (0 if live else _FILE_BUFFERS))

    # ------------------------------------------------------------ frames

    def _play(self) -> None:
        assert self.info is not None
        live = self.info.live
        if not live:
            while not self._go.wait(_POLL_S):
                if self._stop_event.is_set():
                    return
        while not self._stop_event.is_set() and self._source.grab():
            t_host_ns = now_ns()
            self.grabbed += 1
            self._expected_id += 1
            if not self._go.is_set():
                self.health.arrived(t_host_ns)
                self.drops.add(Drop.STARTING)  # grabbing goes on, so that the driver's queue holds nothing old
                continue
            captured = self._decode(t_host_ns, live)
            if captured is not None:
                self.health.arrived(t_host_ns)  # not before: a stream of which nothing decodes is STALE
                self._put(captured, live)

    def _decode(self, t_host_ns: int, live: bool) -> Captured | None:
        assert self._pool is not None
        lent = self._pool.take()
        while lent is None and not live and not self._stop_event.is_set():
            lent = self._pool.take(timeout_s=_POLL_S)
        if lent is None:
            self.drops.add(Drop.BUFFERS if live else Drop.STOPPING)
            return None
        array, lease = lent
        try:
            frame = self._timed(self._number(self._source.retrieve(array)), t_host_ns)
        except DataError:
            lease.release()
            if not live:
                raise
            self.drops.add(Drop.CORRUPT)
            return None
        t_decoded_ns = now_ns()
        if frame.image_hwc.shape != self._pool.shape:
            size = picture_size(frame.image_hwc, frame.form)
            _log.warning("camera %d now gives %s", self.camera, format_size(size))
            self._resize_pool(packed_shape(size, frame.form))
        return Captured(frame, lease, t_host_ns, t_decoded_ns, self.health.picture(frame, t_host_ns))

    def _number(self, frame: Frame) -> Frame:
        """Ids go on counting over a reconnect; what the source skipped by itself is a counted drop."""
        number = self._id_base + frame.id
        skipped = number - self._expected_id
        if skipped > 0:
            self.grabbed += skipped
            self.drops.add(Drop.SOURCE, skipped)
            self._expected_id = number
        return frame if number == frame.id else replace(frame, id=number)

    def _timed(self, frame: Frame, t_host_ns: int) -> Frame:
        """A frame cannot be taken after the host had it: a clock that says so has jumped, and the host's is used."""
        if frame.t_capture_ns <= t_host_ns:
            return frame
        return replace(frame, t_capture_ns=t_host_ns, clock=CaptureClock.HOST)

    def _put(self, captured: Captured, live: bool) -> None:
        if live:
            put = self._slot.put_latest(captured)
        else:
            put = self._slot.put_wait(captured, timeout_s=_POLL_S)
            while not put and not self._stop_event.is_set():
                put = self._slot.put_wait(captured, timeout_s=_POLL_S)
        if not put:
            self.drops.add(Drop.STOPPING)
            captured.lease.release()
