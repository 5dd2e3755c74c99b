"""Ablations: a table of trainings with equal budgets, one `edgeseg train` each, and the page of what they show.

    python tools/ablate.py --data camvid:PATH --runs RUNS [--threads 1]      train what is missing, write the page
    python tools/ablate.py --data camvid:PATH --runs RUNS --only augment     … of one group
    python tools/ablate.py --data camvid:PATH --latency                      time the rows of timed groups
    python tools/ablate.py --data camvid:PATH --page                         only write the page, from ablations.json

Rows are trained one after the other in the table's order; each is scored and written down before the next begins. A
finished row is never trained again and a broken one goes on (`--resume`), so the command may be stopped and given
again at any time, with another selection too. Rows that have not been run stand on the page as such.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import torch
from ablation_latency import time_jobs
from ablation_page import write_page
from ablation_scores import Results, read_results, score_job, write_results
from ablation_table import Job, Table, plan_jobs, read_table
from rich.console import Console

from edgeseg.cli.progress import LineProgress
from edgeseg.cli.ui import parse_size
from edgeseg.core.clock import now_ns
from edgeseg.core.config import unknown_name
from edgeseg.core.errors import EdgesegError, RequestError
from edgeseg.data import open_dataset

INTERRUPTED = 130


class Study:
    """A table on its way to a page.

    Args:
        table: What is asked.
        data: Labelled data.
        runs: Folder of the runs, each under its key.
        page: Markdown file; plots and `ablations.json` lie beside it.
        threads: Of each training.
    """

    def __init__(self, table: Table, data: str, runs: Path, page: Path, threads: int) -> None:
        self.table = table
        self.jobs = plan_jobs(table, data)
        self._data = data
        self._runs = runs
        self._page = page
        self._threads = threads
        self._progress = LineProgress(Console(stderr=True, highlight=False, width=140))
        self._file = page.with_suffix(".json")

    def results(self) -> Results:
        """What has been measured so far."""
        return read_results(self._file)

    def select(self, groups: list[str], rows: list[str]) -> list[Job]:
        """The jobs of some rows, in that order, then of some groups; all where none is named.

        What a job needs comes before it.

        Raises:
            RequestError: An unknown group or row.
        """
        known = [group.name for group in self.table.group]
        for name in groups:
            if name not in known:
                raise unknown_name("group", name, known)
        for name in rows:
            if name not in self.jobs:
                raise unknown_name("row", name, list(self.jobs))
        wanted = [self.jobs[name] for name in rows]
        wanted += [job for job in self.jobs.values() if job.group.name in groups]
        ordered: dict[str, Job] = {}
        for job in wanted if groups or rows else self.jobs.values():
            for one in [*job.needs.values(), job]:
                ordered.setdefault(one.key, one)
        return list(ordered.values())

    def train(self, jobs: list[Job]) -> list[str]:
        """Train and score what is missing; the rows that failed."""
        missing = [job for job in jobs if job.key not in self.results().rows]
        self._progress.say(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them measured")
        failed, begin_ns = [], now_ns()
        for number, job in enumerate(missing, 1):
            self._progress.say(f"{number}/{len(missing)} {job.id} (runs/{job.key})")
            if not self._train(job):
                failed.append(job.id)
                continue
            result = score_job(job, self._runs / job.key, self.table, self._data, self._progress)
            results = self.results()
            write_results(self._file, msgspec.structs.replace(results, rows={**results.rows, job.key: result}))
            self.write()
            spent_s = (now_ns() - begin_ns) / 1e9
            left_min = spent_s / number * (len(missing) - number) / 60
            score = result.scores.get(self.table.score[0])
            found = f"{self.table.score[0]} mIoU {score.miou:.4f}, " if score and score.miou is not None else ""
            self._progress.say(f"{job.id}: {found}about {left_min:.0f} min left")
        return failed

    def time(self, jobs: list[Job], size: tuple[int, int], duration_s: float, machine: str) -> None:
        """Time the rows of the groups that ask for it, trained or not; the first is what the others are held against.

        Raises:
            RequestError: No such group is selected.
        """
        timed = [job for job in self.jobs.values() if job.group.latency and job.key in {one.key for one in jobs}]
        if not timed:
            names = [group.name for group in self.table.group if group.latency]
            raise RequestError("no row of these groups is timed", allowed=", ".join(names) or "latency = true")
        classes = open_dataset(self._data, self.table.split).classes
        latency = time_jobs(timed, classes, size, duration_s, machine, self._progress)
        write_results(self._file, msgspec.structs.replace(self.results(), latency=latency))

    def write(self) -> list[Path]:
        """Write the page and its plots from what there is."""
        return write_page(self._page, self.table, self.jobs, self.results(), self._data)

    def _train(self, job: Job) -> bool:
        """Train one row, or what is left of it; whether it is finished."""
        run = self._runs / job.key
        if (run / "done.json").is_file():
            return True
        if run.exists() and not (run / "config.toml").is_file():
            shutil.rmtree(run)  # it broke before it had begun
        again = [job.row.kind, "--out", str(run), "--resume"]
        words = again if run.exists() else job.command(self._data, str(self._runs))
        words += ["--set", f"train.threads={self._threads}"]
        log = self._runs / f"{job.key}.log"
        self._runs.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            environment = {**os.environ, "OMP_NUM_THREADS": str(self._threads)}
            code = _wait([sys.executable, "-m", "edgeseg", *words], file, environment)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-5:])
            self._progress.say(f"{job.id} failed with exit code {code}; the end of {log}:\n{tail}")
        return code == 0


def _wait(command: list[str], log: object, environment: dict[str, str]) -> int:
    """Run a command; Ctrl-C reaches it too, and it writes a checkpoint before it ends."""
    with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment) as process:  # type: ignore[call-overload]
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    try:
        page = arguments.out or arguments.table.with_suffix(".md")
        table = read_table(arguments.table, arguments.epochs)
        study = Study(table, arguments.data, arguments.runs, page, arguments.threads)
        jobs = study.select(arguments.only, arguments.rows)
        failed: list[str] = []
        if arguments.latency:
            study.time(jobs, parse_size(arguments.size), arguments.duration, arguments.machine)
        elif not arguments.page:
            failed = study.train(jobs)
        for file in study.write():
            print(f"wrote {file}", file=sys.stderr)
    except EdgesegError as error:
        print(f"ablate: error: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("ablate: interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    if failed:
        print(f"ablate: error: {len(failed)} rows failed ({', '.join(failed)})", file=sys.stderr)
    return int(bool(failed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="labelled data: camvid:PATH, folder:PATH, street:OPTIONS")
    parser.add_argument("--table", type=Path, default=Path("docs/ablations.toml"))
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), help="folder of the runs")
    parser.add_argument("--out", type=Path, help="page; beside the table by default")
    parser.add_argument("--only", action="append", default=[], metavar="GROUP")
    parser.add_argument("--rows", action="append", default=[], metavar="GROUP/NAME")
    parser.add_argument("--epochs", type=int, help="another budget; its rows are other runs")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each training")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--latency", action="store_true", help="time the rows of timed groups, trained or not")
    parser.add_argument("--size", default="360x480", help="HEIGHTxWIDTH of --latency")
    parser.add_argument("--duration", type=float, default=8.0, help="seconds for each engine of --latency")
    parser.add_argument("--machine", default="", help="what else the machine does during --latency, in words")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
