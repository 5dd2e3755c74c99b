import gc
import itertools

import numpy as np
import pytest

from edgeseg.backend import open_null
from edgeseg.core.errors import RequestError
from edgeseg.core.types import Classes, RunTimes
from edgeseg.measure import WarmUpRule, measure_runner
from edgeseg.measure.timing import stack_batches, warm_until_stable

CLASSES = Classes(names=("a", "b"), palette_rgb=((0, 0, 0), (9, 9, 9)))
FRAMES = list(np.random.default_rng(0).integers(0, 255, (3, 16, 24, 3), dtype=np.uint8))
QUICK = WarmUpRule(window_s=0.01, limit_s=0.5)


def null(**latency):
    return open_null(CLASSES, (16, 24), **latency)


def test_every_call_is_kept_and_the_parts_fit_in_the_whole():
    samples = measure_runner(null(latency_ms=1.0), FRAMES, duration_s=0.2, rule=QUICK)
    assert len(samples.engine_ns) >= 1
    assert (samples.engine_ns >= 1_000_000).all()
    assert (samples.engine_ns + samples.copy_in_ns + samples.copy_out_ns <= samples.call_ns).all()
    assert (np.diff(samples.start_ns) >= samples.call_ns[:-1]).all()
    span_ns = samples.start_ns[-1] + samples.call_ns[-1] - samples.start_ns[0]
    assert samples.fps == pytest.approx(len(samples.start_ns) * 1e9 / span_ns)


def test_one_call_is_made_even_when_there_is_no_time():
    assert len(measure_runner(null(latency_ms=5), FRAMES, duration_s=0, rule=QUICK).engine_ns) == 1


def test_no_frames_is_refused():
    with pytest.raises(RequestError, match="frames"):
        measure_runner(null(), [], duration_s=0.01)


def test_warm_up_ends_when_windows_agree():
    latencies = iter([9, 7, 5, 3] + [2] * 1000)
    calls = []

    def call(batch):
        calls.append(batch)
        return RunTimes(0, next(latencies) * 1_000_000, 0)

    rule = WarmUpRule(windows=3, window_calls=2, window_s=0)
    warm_up = warm_until_stable(call, iter(FRAMES * 400), rule)
    assert warm_up.stable
    assert warm_up.medians_ms == (8, 4, 2, 2, 2)
    assert warm_up.calls == len(calls) == 10


def test_a_run_that_never_becomes_stable_says_so():
    drift = iter(range(1, 100_000))
    rule = WarmUpRule(window_calls=1, window_s=0, limit_s=0.005, tolerance=1e-9)
    assert not warm_until_stable(lambda batch: RunTimes(0, next(drift), 0), itertools.repeat(FRAMES[0]), rule).stable


def test_the_collector_stays_on_and_is_counted():
    class Littering:
        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __init__(self, inner):
            self.inner = inner

        def __enter__(self):
            self.inner.__enter__()
            return self

        def __exit__(self, *error):
            self.inner.__exit__(*error)

        def infer(self, batch):
            assert gc.isenabled()
            gc.collect()
            return self.inner.infer(batch)

    samples = measure_runner(Littering(null()), FRAMES, duration_s=0.05, rule=QUICK)
    assert samples.collections >= len(samples.engine_ns)


def test_batches_are_filled_from_the_start():
    spec = null().spec.__class__(frame_size=(16, 24), batch=2, classes=CLASSES)
    batches = stack_batches(FRAMES, spec)
    assert [batch.shape for batch in batches] == [(2, 16, 24, 3)] * 2
    assert (batches[1][1] == FRAMES[0]).all()
