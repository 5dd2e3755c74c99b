"""The streaming histogram agrees with NumPy's over the same final range, whatever the order of the values."""

import numpy as np
import pytest

from edgeseg.core.errors import DataError
from edgeseg.quant.histogram import BINS, Histogram

RNG = np.random.default_rng(3)
STREAMS = {
    "growing": [RNG.uniform(-s, s, 5000) for s in (0.01, 1.0, 0.3, 77.0)],
    "shrinking": [RNG.uniform(-s, s, 5000) for s in (77.0, 1.0)],
    "one-sided, then signed": [RNG.uniform(0, 3, 4000), RNG.uniform(-0.1, 20, 4000)],
    "one-sided": [np.maximum(RNG.normal(size=4000), 0), np.maximum(RNG.normal(size=4000) * 9, 0)],
    "negative": [RNG.uniform(-6, -5, 4000)],
    "zeros first": [np.zeros(100), RNG.normal(size=1000)],
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_stream_equals_one_histogram_over_everything(stream):
    histogram = Histogram("t")
    for part in stream:
        histogram.add(part.astype(np.float32).reshape(2, -1))
    everything = np.concatenate(stream).astype(np.float32)
    expected, _ = np.histogram(everything, BINS, (histogram.low, histogram.high))
    assert histogram.minimum == everything.min()
    assert histogram.maximum == everything.max()
    assert histogram.counts.sum() == everything.size
    # float32 rounding may put a value that lies on an edge one bin aside
    assert np.abs(np.cumsum(histogram.counts) - np.cumsum(expected)).max() <= 3


@pytest.mark.parametrize("stream", [STREAMS["growing"], STREAMS["one-sided"]])
def test_at_least_a_quarter_of_the_bins_is_used_by_the_range(stream):
    histogram = Histogram()
    for part in stream:
        histogram.add(part.astype(np.float32))
    bin_width = (histogram.high - histogram.low) / BINS
    assert (histogram.maximum - histogram.minimum) / bin_width >= BINS / 4


def test_zeros_only():
    histogram = Histogram()
    histogram.add(np.zeros((3, 4), np.float32))
    assert (histogram.minimum, histogram.maximum) == (0.0, 0.0)
    assert histogram.counts[0] == 12


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused_by_name(bad):
    with pytest.raises(DataError, match=r"encoder\.0\.dw"):
        Histogram("encoder.0.dw").add(np.array([1.0, bad], np.float32))
