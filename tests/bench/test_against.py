from pathlib import Path

import numpy as np
import pytest

from edgeseg.bench import run_bench
from edgeseg.bench.against import SavedResult, check_not_slower, open_saved, with_result, with_target
from edgeseg.bench.request import BenchRequest
from edgeseg.bench.result import save_result
from edgeseg.core.errors import GateError, RequestError, VerifyError
from edgeseg.core.progress import Silent
from edgeseg.measure import WarmUpRule, measure_runner

from .support import SIZE, null_target, recorded_target

FRAMES = list(np.random.default_rng(0).integers(0, 255, (4, *SIZE, 3), dtype=np.uint8))


def test_two_engines_in_turns():
    slow, fast = recorded_target("slow", 3.0), recorded_target("fast", 2.0)
    against = with_target(fast, slow, FRAMES, duration_s=0.05, progress=Silent())
    assert against.interleaved
    assert against.ratio_p50 == pytest.approx(1.5, rel=0.03)
    assert 1.4 < against.ci95[0] <= against.ci95[1] < 1.6
    with pytest.raises(GateError, match="slower than fast by more than 10 %"):
        check_not_slower(against, 10)
    check_not_slower(against, 80)


def test_an_earlier_result_is_not_called_interleaved():
    rule = WarmUpRule(window_s=0.0, limit_s=0.1)
    then, now = (
        measure_runner(recorded_target("", ms).make(), FRAMES, duration_s=0.05, rule=rule) for ms in (2.0, 4.0)
    )
    against = with_result(SavedResult("then", then.engine_ns), now)
    assert not against.interleaved
    assert against.name == "then"
    assert against.ratio_p50 == pytest.approx(2.0, rel=0.03)
    with pytest.raises(RequestError, match="too few"):
        with_result(SavedResult("then", then.engine_ns[:5]), now)


def test_a_saved_result_is_opened_with_its_samples(tmp_path):
    request = BenchRequest(duration_s=0.2, rate_hz=60)
    result = run_bench(request, null_target("then"), samples_file=tmp_path / "then.npz")
    save_result(tmp_path / "then.json", result)
    saved = open_saved(tmp_path / "then.json")
    assert (saved.name, len(saved.engine_ns)) == ("then", result.engine_ms.n)
    Path(result.samples_file).unlink()
    with pytest.raises(VerifyError, match="samples"):
        open_saved(tmp_path / "then.json")
