"""Null engines as bench targets."""

from edgeseg.backend import open_null
from edgeseg.bench.request import BenchTarget
from edgeseg.data.classes import CAMVID

SIZE = (48, 64)


def null_target(name="null", size=SIZE, **latency):
    return BenchTarget(name, lambda: open_null(CAMVID, size, **latency))
