"""Slots, leases and pools: nothing is dropped uncounted, nothing lent is written to."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgeseg.core.clock import CaptureClock
from edgeseg.core.types import Frame
from edgeseg.live.buffers import BufferPool, Lease
from edgeseg.live.drops import DropCounter
from edgeseg.live.slot import Captured, Slots


def captured(pool: BufferPool, number: int) -> Captured:
    lent = pool.take()
    assert lent is not None
    image, lease = lent
    frame = Frame(id=number, image_hwc=image, t_capture_ns=0, clock=CaptureClock.HOST)
    return Captured(frame, lease, 0, 0, None)


def test_latest_keeps_the_newest_and_counts_what_it_replaced() -> None:
    pool, drops, slots = BufferPool((2, 2, 3), 3), DropCounter(), Slots()
    slot = slots.add(drops)
    for number in range(3):
        assert slot.put_latest(captured(pool, number))
    assert pool.free == 2, "replaced frames gave their memory back"
    [(camera, got)] = slots.take(4)
    assert (camera, got.frame.id) == (0, 2)
    assert drops.counts() == {"replaced": 2}


def test_wait_holds_the_reader_until_there_is_room() -> None:
    pool, drops, slots = BufferPool((2, 2, 3), 3), DropCounter(), Slots()
    slot = slots.add(drops)
    assert slot.put_wait(captured(pool, 0), timeout_s=1)
    second = captured(pool, 1)
    assert not slot.put_wait(second, timeout_s=0)
    reader = threading.Thread(target=lambda: slot.put_wait(second, timeout_s=20))
    reader.start()
    assert slots.take(1)[0][1].frame.id == 0
    reader.join(20)
    assert slots.take(1)[0][1].frame.id == 1
    assert drops.counts() == {}


def test_a_closed_slot_wakes_its_reader_and_counts_the_frame_that_waited() -> None:
    pool, drops, slots = BufferPool((2, 2, 3), 2), DropCounter(), Slots()
    slot = slots.add(drops)
    slot.put_wait(captured(pool, 0), timeout_s=1)
    refused: list[bool] = []
    second = captured(pool, 1)
    reader = threading.Thread(target=lambda: refused.append(slot.put_wait(second, timeout_s=20)))
    reader.start()
    slots.close()
    reader.join(20)
    assert refused == [False]
    assert drops.counts() == {"stopping": 1}
    assert not slot.put_latest(second)


def test_an_engine_too_slow_for_all_serves_every_camera_equally() -> None:
    pool, slots = BufferPool((2, 2, 3), 16), Slots()
    drops = [DropCounter() for _ in range(3)]
    each = [slots.add(counter) for counter in drops]
    served = [0, 0, 0]
    for number in range(60):
        for slot in each:
            slot.put_latest(captured(pool, number))
        for camera, got in slots.take(2):
            served[camera] += 1
            got.lease.release()
    assert served == [40, 40, 40]


def test_a_lease_frees_once_and_only_at_the_last_release() -> None:
    freed: list[int] = []
    lease = Lease(lambda: freed.append(1))
    lease.retain()
    lease.release()
    assert not freed
    lease.release()
    assert freed == [1]
    with pytest.raises(AssertionError):
        lease.release()


def test_a_pool_never_lends_the_same_memory_twice() -> None:
    pool = BufferPool((4,), 2)
    first, second = pool.take(), pool.take()
    assert first is not None
    assert second is not None
    assert not np.shares_memory(first[0], second[0])
    assert pool.take() is None
    first[1].release()
    again = pool.take(timeout_s=1)
    assert again is not None
    assert np.shares_memory(again[0], first[0])
