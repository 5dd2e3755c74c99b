"""Null engines as bench targets, and engines whose times are recorded, so that no machine is too busy for a test."""

from edgeseg.backend import open_null
from edgeseg.bench.request import BenchTarget
from edgeseg.core.types import RunTimes
from edgeseg.data.classes import CAMVID

SIZE = (48, 64)


def null_target(name="null", size=SIZE, **latency):
    return BenchTarget(name, lambda: open_null(CAMVID, size, **latency))


class Recorded:
    """A runner that says what it took instead of taking it: `ms`, one percent up and down in turn."""

    def __init__(self, ms):
        self.inner = open_null(CAMVID, SIZE)
        self.ns = int(ms * 1e6)
        self.calls = 0

    def __enter__(self):
        self.inner.__enter__()
        return self

    def __exit__(self, *error):
        self.inner.__exit__(*error)

    @property
    def spec(self):
        return self.inner.spec

    def infer(self, batch):
        output = self.inner.infer(batch)
        self.calls += 1
        output.times = RunTimes(0, self.ns + self.ns // 100 * (self.calls % 3 - 1), 0)
        return output


def recorded_target(name, ms):
    return BenchTarget(name, lambda: Recorded(ms))
