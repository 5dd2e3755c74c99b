import pytest

from edgeseg.bench.request import BenchRequest, parse_duration_s
from edgeseg.core.errors import RequestError


@pytest.mark.parametrize(("text", "seconds"), [("20", 20), ("20s", 20), ("500ms", 0.5), ("30m", 1800), ("1.5 h", 5400)])
def test_durations(text, seconds):
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-3s", "3 weeks"])
def test_what_is_no_duration(text):
    with pytest.raises(RequestError, match="duration"):
        parse_duration_s(text)


def test_limits():
    with pytest.raises(ValueError, match="rate_hz"):
        BenchRequest(rate_hz=0)
    with pytest.raises(ValueError, match="duration_s"):
        BenchRequest(duration_s=0)
