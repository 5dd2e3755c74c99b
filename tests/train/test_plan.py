"""Epoch orders: every frame once, the same for the same place, shared out without overlap."""

from __future__ import annotations

from edgeseg.train.plan import plan_epoch


def test_an_epoch_shows_each_frame_once_and_differs_from_the_next() -> None:
    first = plan_epoch(12, 4, seed=1, epoch=0)
    assert sorted(first.order.tolist()) == list(range(12))
    assert first.steps == 3
    assert first.order.tolist() == plan_epoch(12, 4, seed=1, epoch=0).order.tolist()
    assert first.order.tolist() != plan_epoch(12, 4, seed=1, epoch=1).order.tolist()
    assert first.order.tolist() != plan_epoch(12, 4, seed=2, epoch=0).order.tolist()


def test_a_rest_waits_and_a_small_set_repeats() -> None:
    assert plan_epoch(11, 4, seed=1, epoch=0).steps == 2
    small = plan_epoch(3, 8, seed=1, epoch=0)
    assert small.steps == 1
    assert set(small.order.tolist()) == {0, 1, 2}


def test_processes_share_a_step_out() -> None:
    plan = plan_epoch(12, 4, seed=1, epoch=0)
    assert [list(plan.positions(1, rank, 2)) for rank in (0, 1)] == [[4, 6], [5, 7]]
