"""tools/ablation_pool.py: order, failure and the end of rows that run side by side."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ablation_pool import Pool
from ablation_table import Job, plan_jobs, read_table

TABLE = """
title = "Tiny"
model = "edge-s"
split = "train"
score = ["val"]
noise = "rows"
[budget]
epochs = 1
batch = 2
crop = [32, 64]
network_size = [64, 96]
[[group]]
name = "rows"
title = "Rows"
rows = [
  { name = "a" },
  { name = "b", seed = 2 },
  { name = "taught", teacher = "rows/large" },
  { name = "large", model = "edge-m" },
  { name = "c", seed = 3 },
]
"""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    file = tmp_path_factory.mktemp("pool") / "table.toml"
    file.write_text(TABLE, encoding="utf-8")
    planned = plan_jobs(read_table(file), "street:seed=6,frames=8,size=64x96")
    return [planned[f"rows/{name}"] for name in ("a", "b", "large", "taught", "c")]


class Rows:
    """Rows that are one line of shell each, and what the pool said of them."""

    def __init__(self, width: int, commands: dict[str, str] | None = None) -> None:
        self.begun: list[str] = []
        self.ended: dict[str, int | None] = {}
        self.most = 0
        self._commands = commands or {}
        self.pool = Pool(self._start, self._end, width)

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        self.begun.append(job.row.name)
        self.most = max(self.most, len(self.begun) - sum(code is not None for code in self.ended.values()))
        return subprocess.Popen(["sh", "-c", self._commands.get(job.row.name, "true")])

    def _end(self, job: Job, code: int | None, seconds: float) -> None:
        assert seconds >= 0
        self.ended[job.row.name] = code
        assert self.pool.left_s() >= 0


def test_one_at_a_time_keeps_the_order(jobs: list[Job]) -> None:
    rows = Rows(1)
    rows.pool.run(jobs)
    assert rows.begun == list(rows.ended) == ["a", "b", "large", "taught", "c"]
    assert rows.most == 1


def test_side_by_side_what_others_need_goes_first_and_is_waited_for(jobs: list[Job], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    # the teacher ends only when the last of the others has: its student must not have begun by then
    rows = Rows(2, {"large": f"cat {gate}", "c": f"echo > {gate}"})
    rows.pool.run(jobs)
    assert rows.begun == ["large", "a", "b", "c", "taught"]
    assert rows.most == 2
    assert set(rows.ended.values()) == {0}


@pytest.mark.parametrize("width", [1, 3])
def test_a_failed_row_stops_only_those_that_need_it(jobs: list[Job], width: int) -> None:
    rows = Rows(width, {"large": "exit 3", "a": "exit 4"})
    rows.pool.run(jobs)
    assert rows.ended == {"a": 4, "b": 0, "large": 3, "taught": None, "c": 0}
    assert "taught" not in rows.begun


def test_sigterm_ends_the_rows_and_what_had_ended_is_told(jobs: list[Job], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    both_ways = os.open(gate, os.O_RDWR)  # opened so, it waits for no reader
    rows = Rows(2, {"b": f"read _ < {gate}; kill -TERM {os.getpid()}; exec sleep 60"})

    def end(job: Job, code: int | None, seconds: float) -> None:
        rows.ended[job.row.name] = code
        if set(rows.ended) == {"large", "a"}:
            os.write(both_ways, b"both have ended\n")  # not before: the signal would end them too

    rows.pool = Pool(rows._start, end, 2)
    try:
        with pytest.raises(KeyboardInterrupt):
            rows.pool.run(jobs)
    finally:
        os.close(both_ways)
    assert rows.ended["large"] == rows.ended["a"] == 0
    assert rows.ended["b"] == -15
    assert all(rows.ended[name] is not None for name in rows.begun)  # none is left running
