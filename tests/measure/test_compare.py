import numpy as np
import pytest

from edgeseg.backend import open_null
from edgeseg.core.clock import now_ns
from edgeseg.core.types import Classes, RunTimes
from edgeseg.measure import WarmUpRule, compare_runners
from edgeseg.measure.compare import Feed, compare_calls, interleave

CLASSES = Classes(names=("a", "b"), palette_rgb=((0, 0, 0), (9, 9, 9)))
FRAMES = list(np.random.default_rng(0).integers(0, 255, (3, 16, 24, 3), dtype=np.uint8))
QUICK = WarmUpRule(window_s=0.01, limit_s=0.5)


def null(**latency):
    return open_null(CLASSES, (16, 24), **latency)


def test_the_ratio_of_two_known_engines_is_inside_its_interval():
    def recorded(ms, seed):
        rng = np.random.default_rng(seed)
        return lambda batch: RunTimes(0, int(rng.normal(ms, 0.1) * 1e6), 0)

    batches = [frame[None] for frame in FRAMES]
    feeds = {"slow": Feed(recorded(3.0, 1), batches), "fast": Feed(recorded(2.0, 2), batches)}
    comparison = compare_calls(feeds, duration_s=0.1, rule=QUICK)
    ratio, (low, high) = comparison.ratio("slow", "fast")
    assert 1.4 < low <= ratio <= high < 1.6
    assert comparison.ratio("fast", "fast")[0] == 1


def test_runners_are_entered_and_compared_in_whole_rounds():
    comparison = compare_runners({"a": null(), "b": null()}, FRAMES, duration_s=0.02, rule=QUICK)
    counts = [len(samples.engine_ns) for samples in comparison.samples.values()]
    assert counts[0] == counts[1]
    assert counts[0] % comparison.block == 0
    assert counts[0] >= 2 * comparison.block


def test_engines_take_turns_in_changing_order():
    order = []

    def engine(name):
        def call(batch):
            order.append(name)
            return RunTimes(0, 1, 0)

        return call

    recorders = interleave({name: Feed(engine(name), FRAMES) for name in "ab"}, duration_s=0.002, block=2, lead_in=1)
    blocks = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert set(blocks) == {"aaa", "bbb"}
    rounds = {"".join(pair) for pair in zip(blocks[::2], blocks[1::2], strict=True)}
    assert rounds <= {"aaabbb", "bbbaaa"}
    assert len(recorders["a"]) == len(recorders["b"]) == len(order) // 3


@pytest.mark.bench
def test_the_harness_costs_little_beside_a_bare_loop():
    """Engine p50 within 2 % of the runtime's own call at 2 ms, in one interleaved run (repeated where it is busy)."""
    runner, bare = null(latency_ms=2.0), null(latency_ms=2.0)
    ratios = []
    for _ in range(4):
        with runner, bare:

            def through_runner(batch):
                with runner.infer(batch) as output:
                    return output.times

            def bare_call(batch):
                begin_ns = now_ns()
                bare._run(0, 0)
                return RunTimes(0, now_ns() - begin_ns, 0)

            batches = [frame[None] for frame in FRAMES]
            recorders = interleave(
                {"runner": Feed(through_runner, batches), "bare": Feed(bare_call, batches)},
                duration_s=0.4,
                block=5,
                lead_in=1,
            )
        medians = {
            name: np.median(recorder.samples(frames_per_call=1, warm_up=None, collections=0).engine_ns)
            for name, recorder in recorders.items()
        }
        ratios.append(medians["runner"] / medians["bare"])
        if abs(ratios[-1] - 1) < 0.02:
            return
    raise AssertionError(f"p50 through the runner over a bare loop: {ratios}")
