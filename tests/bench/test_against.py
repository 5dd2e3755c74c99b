from pathlib import Path

import numpy as np
import pytest

from edgeseg.bench import run_bench
from edgeseg.bench.against import check_not_slower, open_saved, with_result, with_target
from edgeseg.bench.request import BenchRequest
from edgeseg.bench.result import save_result
from edgeseg.core.errors import GateError, VerifyError
from edgeseg.core.progress import Silent
from edgeseg.measure import WarmUpRule, measure_runner

from .support import SIZE, null_target

FRAMES = list(np.random.default_rng(0).integers(0, 255, (4, *SIZE, 3), dtype=np.uint8))


def test_two_engines_in_turns():
    slow, fast = null_target("slow", latency_ms=3.0), null_target("fast", latency_ms=2.0)
    against = with_target(fast, slow, FRAMES, duration_s=0.5, progress=Silent())
    assert against.interleaved
    assert against.ratio_p50 == pytest.approx(1.5, rel=0.1)
    assert against.ci95[0] <= against.ratio_p50 <= against.ci95[1]
    with pytest.raises(GateError, match="slower than fast by more than 10 %"):
        check_not_slower(against, 10)
    check_not_slower(against, 80)


def test_an_earlier_result_is_not_called_interleaved(tmp_path):
    target = null_target("then", latency_ms=2.0)
    request = BenchRequest(duration_s=0.4, rate_hz=60)
    result = run_bench(request, target, samples_file=tmp_path / "then.npz")
    save_result(tmp_path / "then.json", result)
    rule = WarmUpRule(window_s=0.01, limit_s=0.5)
    now = measure_runner(null_target(latency_ms=4.0).make(), FRAMES, duration_s=0.3, rule=rule)
    against = with_result(open_saved(tmp_path / "then.json"), now)
    assert not against.interleaved
    assert against.name == "then"
    assert against.ratio_p50 == pytest.approx(2.0, rel=0.15)
    Path(result.samples_file).unlink()
    with pytest.raises(VerifyError, match="samples"):
        open_saved(tmp_path / "then.json")
