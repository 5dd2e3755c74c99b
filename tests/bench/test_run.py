import msgspec
import numpy as np
import pytest

from edgeseg.bench import run_bench
from edgeseg.bench.paced import PacedFile
from edgeseg.bench.request import BenchRequest
from edgeseg.bench.result import answer, load_result, missing_percentiles, save_result
from edgeseg.bench.table import latency_table, stage_table, summary_lines
from edgeseg.core.errors import VerifyError
from edgeseg.core.metrics import series_ms
from edgeseg.sources.memory import MemorySource

from .support import null_target

SERIES = {"p50", "p90", "p95", "p99", "p999", "max", "mean", "jitter", "n"}
STAGES = ["queue", "capture", "resize_in", "copy_in", "engine", "copy_out", "resize_out", "sink"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """One bench of a null engine of 2 ms: 0.6 s back to back and as long at 50/s."""
    samples = tmp_path_factory.mktemp("bench") / "samples.npz"
    target = null_target(latency_ms=2.0, sigma_ms=0.05)
    return run_bench(BenchRequest(duration_s=1.2, rate_hz=50), target, samples_file=samples)


def test_the_answer_is_the_contract(bench):
    found = msgspec.json.decode(msgspec.json.encode(answer(bench)))
    assert set(found) == {
        *("engine_ms", "capture_to_mask_ms", "stages_ms", "fps", "drops", "deadline_misses", "stable", "device"),
        *("power_w", "joules_per_frame", "against", "samples_file"),
    }
    assert set(found["engine_ms"]) == SERIES
    assert set(found["capture_to_mask_ms"]) == SERIES | {"rate_hz", "source", "clock"}
    assert list(found["stages_ms"]) == STAGES
    assert all(set(series) == SERIES for series in found["stages_ms"].values())
    assert found["against"] is None
    assert found["device"]["cores"] > 0


def test_both_numbers_are_measured(bench):
    assert bench.engine_ms.mean >= 1.9
    assert bench.capture_to_mask_ms.mean >= 1.9
    assert bench.capture_to_mask_ms.rate_hz == 50
    assert bench.capture_to_mask_ms.clock == "host"
    assert bench.engine_fps <= 530


def test_every_raw_sample_is_kept(bench):
    arrays = np.load(bench.samples_file, allow_pickle=False)
    assert len(arrays["engine_ns"]) == bench.engine_ms.n
    assert series_ms(arrays["engine_ns"]) == bench.engine_ms
    assert len(arrays["paced_age_ns"]) == bench.capture_to_mask_ms.n
    assert series_ms(arrays["paced_stage_engine_ns"]) == bench.stages_ms["engine"]


def test_a_short_run_says_what_it_cannot_tell(bench):
    assert any("p99.9" in note and "--duration" in note for note in bench.notes)
    assert any("null" in note for note in bench.notes)
    assert missing_percentiles("engine", series_ms(np.arange(10_000)), 100.0) == []


def test_the_terminal_always_shows_both(bench):
    columns, rows = latency_table(bench)
    assert columns[1:] == ["engine only", "capture to mask"]
    assert {row[0]: row[1] for row in rows}["p99.9"] == "–"
    assert stage_table(bench)[1][0][0] == "queue"
    assert any("deadline misses" in line for line in summary_lines(bench))


def test_a_result_is_saved_and_read_again(bench, tmp_path):
    save_result(tmp_path / "r.json", bench)
    assert load_result(tmp_path / "r.json") == bench
    (tmp_path / "x.json").write_text('{"engine_ms": 3}')
    with pytest.raises(VerifyError, match="not a saved bench result"):
        load_result(tmp_path / "x.json")


def test_an_engine_slower_than_its_source_misses_deadlines(tmp_path):
    target = null_target(latency_ms=25.0)
    result = run_bench(BenchRequest(duration_s=1.0, rate_hz=60), target, samples_file=tmp_path / "s.npz")
    assert result.deadline_misses >= 1
    assert sum(result.drops.values()) >= 1
    assert any("frames must drop" in note for note in result.notes)


def test_a_source_of_files_plays_at_the_rate(tmp_path):
    target = null_target(latency_ms=1.0, size=(72, 96))
    request = BenchRequest(duration_s=1.0, rate_hz=20, source="street:seed=1,frames=60,size=64x96")
    result = run_bench(request, target, samples_file=tmp_path / "s.npz")
    assert result.capture_to_mask_ms.n >= 1
    assert result.capture_to_mask_ms.rate_hz == 20
    assert result.capture_to_mask_ms.clock == "pts"
    assert result.stages_ms["resize_in"].n > 0


def test_a_file_starts_again_at_its_end_and_ids_go_on():
    frames = [np.full((4, 4, 3), i, np.uint8) for i in range(3)]
    source = PacedFile(MemorySource(frames), 500.0)
    assert source.open().live
    ids, values, times = [], [], []
    for _ in range(8):
        assert source.grab()
        frame = source.retrieve()
        ids.append(frame.id)
        values.append(int(frame.image_hwc[0, 0, 0]))
        times.append(frame.t_capture_ns)
    assert ids == sorted(set(ids))
    assert set(values) == {0, 1, 2}
    assert (np.diff(times) >= 1_000_000).all()
    assert PacedFile(_Empty(), 500.0).grab() is False


class _Empty:
    def open(self):
        return None

    def grab(self):
        return False

    def close(self):
        return None
