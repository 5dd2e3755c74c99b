import numpy as np
import pytest

pytest.importorskip("mlperf_loadgen", reason="pip install 'edgeseg[bench]'")
from edgeseg.bench.loadgen import STREAMS, run_loadgen
from edgeseg.bench.loadgen_result import LoadGenResult

from .support import SIZE, null_target

FRAMES = list(np.random.default_rng(0).integers(0, 255, (4, *SIZE, 3), dtype=np.uint8))


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Offline"])
def test_loadgen_drives_the_runner_and_keeps_its_logs(tmp_path, scenario):
    latency_ms = 1.0 if scenario == "SingleStream" else 0.1
    target = null_target(latency_ms=latency_ms)
    result = run_loadgen(target.make(), FRAMES, scenario, tmp_path / "logs", min_duration_s=0.05)
    assert (tmp_path / "logs" / "mlperf_log_summary.txt").exists()
    assert result.version[0].isdigit()
    if scenario == "Offline":
        assert result.loadgen_p90_ms is None
        assert result.samples > 100
    else:
        streams = STREAMS if scenario == "MultiStream" else 1
        assert result.queries >= 100
        assert result.samples == result.queries * streams
        assert result.loadgen_p90_ms >= 0.9 * streams * latency_ms
        assert result.own_p90_ms >= streams * latency_ms


def test_agreement_is_three_percent_and_a_tenth_of_a_millisecond():
    def result(own):
        fields = {"version": "6", "queries": 1, "samples": 1, "fps": 1.0, "valid": True, "logs": ""}
        return LoadGenResult(scenario="SingleStream", loadgen_p90_ms=10.0, own_p90_ms=own, **fields)

    assert result(10.39).agrees
    assert not result(10.41).agrees
    assert result(None).agrees is None
