"""MLPerf LoadGen as an independent stopwatch over the same runner: SingleStream, MultiStream, Offline.

LoadGen issues the queries, takes the times and writes its own log files, which are kept. The harness times the same
queries itself, so that the two stopwatches can be compared. `min_duration` and `min_query_count` are set here, not
left to LoadGen's defaults (ten minutes); such a run is therefore no MLPerf submission.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlperf_loadgen
import numpy as np

from edgeseg.bench.loadgen_result import LoadGenResult, Scenario
from edgeseg.core.artefacts import disk_errors
from edgeseg.core.clock import now_ns
from edgeseg.core.errors import EdgesegError
from edgeseg.core.metrics import series_ms
from edgeseg.core.types import U8, Runner, Ticket
from edgeseg.measure import WarmUpRule
from edgeseg.measure.timing import call_of, stack_batches, warm_until_stable

MIN_QUERIES = 128
STREAMS = 8
"""Samples of one MultiStream query, as MLPerf's edge scenario has it."""

_P90 = re.compile(r"^90\.00 percentile latency \(ns\)\s*:\s*(?P<ns>\d+)", re.MULTILINE)
_SUMMARY = "mlperf_log_summary.txt"


class _Stopwatch:
    """The system under test: runs queries on the thread that LoadGen issues them from, and times each itself."""

    def __init__(self, runner: Runner, batches: Sequence[U8]) -> None:
        self._runner = runner
        self._batches = batches
        self.query_ns: list[int] = []
        self.samples = 0

    def issue(self, samples: Sequence[Any]) -> None:
        begin_ns = now_ns()
        flight: deque[Ticket] = deque()
        for sample in samples:  # one query at a time but for Offline, which has as many in flight as the runner takes
            if len(flight) == self._runner.spec.depth:
                self._runner.collect(flight.popleft()).release()
            flight.append(self._runner.submit(self._batches[sample.index % len(self._batches)]))
        while flight:
            self._runner.collect(flight.popleft()).release()
        self.query_ns.append(now_ns() - begin_ns)
        self.samples += len(samples)
        done = [mlperf_loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in samples]
        mlperf_loadgen.QuerySamplesComplete(done)


def run_loadgen(
    runner: Runner, frames: Sequence[U8], scenario: Scenario, logs: Path, *, min_duration_s: float
) -> LoadGenResult:
    """Run one scenario.

    Args:
        runner: Not entered yet.
        frames: uint8 [H, W, 3] at its frame size; sample `i` is frame `i` modulo their number.
        scenario: MLPerf's name.
        logs: Folder for LoadGen's log files; made here.
        min_duration_s: Shortest run; at least `MIN_QUERIES` queries too (frames for Offline).

    Raises:
        EdgesegError: LoadGen wrote no summary.
    """
    with disk_errors(logs):
        logs.mkdir(parents=True, exist_ok=True)
    with runner:
        batches = stack_batches(frames, runner.spec)
        watch = _Stopwatch(runner, batches)
        warm = warm_until_stable(call_of(runner), iter(batches * 10_000), WarmUpRule())
        expected_ns = int(warm.medians_ms[-1] * 1e6)
        settings = _settings(scenario, min_duration_s, expected_ns)
        sut = mlperf_loadgen.ConstructSUT(watch.issue, lambda: None)
        library = mlperf_loadgen.ConstructQSL(len(frames), len(frames), lambda _: None, lambda _: None)
        begin_ns = now_ns()
        try:
            mlperf_loadgen.StartTestWithLogSettings(sut, library, settings, _log_settings(logs))
        finally:
            mlperf_loadgen.DestroyQSL(library)
            mlperf_loadgen.DestroySUT(sut)
        total_s = (now_ns() - begin_ns) / 1e9
    return _result(scenario, watch, total_s, logs)


def _settings(scenario: Scenario, min_duration_s: float, expected_ns: int) -> Any:
    settings = mlperf_loadgen.TestSettings()
    settings.scenario = getattr(mlperf_loadgen.TestScenario, scenario)
    settings.mode = mlperf_loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = int(min_duration_s * 1000)
    settings.min_query_count = MIN_QUERIES
    settings.single_stream_expected_latency_ns = expected_ns
    settings.multi_stream_samples_per_query = STREAMS
    settings.multi_stream_expected_latency_ns = STREAMS * expected_ns
    settings.offline_expected_qps = 1e9 / expected_ns
    return settings


def _log_settings(logs: Path) -> Any:
    output = mlperf_loadgen.LogOutputSettings()
    output.outdir = str(logs)
    output.copy_summary_to_stdout = False
    settings = mlperf_loadgen.LogSettings()
    settings.log_output = output
    settings.enable_trace = False
    return settings


def _result(scenario: Scenario, watch: _Stopwatch, total_s: float, logs: Path) -> LoadGenResult:
    try:
        summary = (logs / _SUMMARY).read_text(encoding="utf-8")
    except OSError as error:
        raise EdgesegError("LoadGen wrote no summary", value=logs) from error
    p90 = _P90.search(summary) if scenario != "Offline" else None
    detail = (logs / "mlperf_log_detail.txt").read_text(encoding="utf-8")
    version = re.search(r'"loadgen_version", "value": "(?P<version>[^ "]+)', detail)
    return LoadGenResult(
        scenario=scenario,
        version=version["version"] if version else "unknown",
        queries=len(watch.query_ns),
        samples=watch.samples,
        loadgen_p90_ms=int(p90["ns"]) / 1e6 if p90 else None,
        own_p90_ms=series_ms(np.array(watch.query_ns)).p90 if p90 else None,
        fps=watch.samples / total_s,
        valid="Result is : VALID" in summary,
        logs=str(logs),
    )
