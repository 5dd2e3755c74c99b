"""Ablations: a table of trainings with equal budgets, one `edgeseg train` each, and the page of what they show.

    python tools/ablate.py --data camvid:PATH --runs RUNS [--jobs 5]   train what is missing, write the page
    python tools/ablate.py --data camvid:PATH --runs RUNS --only augment             … of one group
    python tools/ablate.py --data camvid:PATH --latency                              time the rows of timed groups
    python tools/ablate.py --data camvid:PATH --runs RUNS --page                     only the page, from what there is

Each row is trained and scored in a process of its own, `--jobs` of them side by side, in the table's order (with
several, those that others start from or are taught by go first), and written down when it ends. A finished row is never
trained again and a broken one goes on (`--resume`), so the command may be stopped (Ctrl-C or SIGTERM) and given again
at any time, with another selection too. Rows that have not been run stand on the page as such. Data may be packed
(`packed:FILE`) where the rows are trained and a folder where the page is written: a row's key does not hang on that.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
from ablation_pool import Pool
from ablation_scores import Result, Results, RowTask, read_results, write_results
from ablation_table import Job, Table, plan_jobs, read_table
from rich.console import Console

from edgeseg.cli.progress import LineProgress
from edgeseg.cli.ui import parse_size
from edgeseg.core.artefacts import write_bytes
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
        device: Of each training and its scores.
    """

    def __init__(
        self, table: Table, data: str, runs: Path, page: Path, *, threads: int = 1, device: str = "auto"
    ) -> None:
        self.table = table
        self.jobs = plan_jobs(table, data)
        self._data = data
        self._runs = runs
        self._page = page
        self._threads = threads
        self._device = device
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

    def train(self, jobs: list[Job], width: int) -> list[str]:
        """Train and score what is missing, several rows side by side; the rows that failed or lack one that did.

        Raises:
            KeyboardInterrupt: By Ctrl-C or SIGTERM; what is finished has been written down.
        """
        self.take_over(jobs)
        missing = self._missing(jobs)
        self._progress.say(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them measured")
        self._runs.mkdir(parents=True, exist_ok=True)
        failed: list[str] = []
        ended = 0

        def end(job: Job, code: int | None, seconds: float) -> None:
            nonlocal ended
            ended += 1
            if code != 0:
                failed.append(job.id)
            told = self._score(job) if code == 0 else self._failure(job, code)
            left = f"; about {pool.left_s() / 60:.1f} min left" if ended < len(missing) else ""
            self._progress.say(f"{ended}/{len(missing)} {job.id}: {told}, {seconds:.0f} s{left}")

        pool = Pool(self._begin, end, width)
        pool.run(missing)
        return failed

    def take_over(self, jobs: list[Job]) -> None:
        """Write down what finished rows left in their folders unnoticed: on another machine, or after a kill."""
        left = [job for job in jobs if job.key not in self.results().rows]
        for job in left:
            if self._result_file(job).is_file() and (self._runs / job.key / "done.json").is_file():
                self._score(job)

    def _missing(self, jobs: list[Job]) -> list[Job]:
        """What is to be trained: rows that were not measured, and those that they need whose weights are not here."""
        measured = self.results().rows
        needed = {need.key for job in jobs if job.key not in measured for need in job.needs.values()}
        absent = {key for key in needed if not (self._runs / key / "done.json").is_file()}
        return [job for job in jobs if job.key not in measured or job.key in absent]

    def time(self, jobs: list[Job], size: tuple[int, int], duration_s: float, machine: str) -> None:
        """Time the rows of the groups that ask for it, trained or not; the first is what the others are held against.

        Raises:
            RequestError: No such group is selected.
        """
        timed = [job for job in self.jobs.values() if job.group.latency and job.key in {one.key for one in jobs}]
        if not timed:
            names = [group.name for group in self.table.group if group.latency]
            raise RequestError("no row of these groups is timed", allowed=", ".join(names) or "latency = true")
        from ablation_latency import time_jobs  # brings onnx and a runtime along, which a training needs not have

        classes = open_dataset(self._data, self.table.split).classes
        latency = time_jobs(timed, classes, size, duration_s, machine, self._progress)
        write_results(self._file, msgspec.structs.replace(self.results(), latency=latency))

    def write(self) -> list[Path]:
        """Write the page and its plots from what there is."""
        from ablation_page import write_page  # brings onnx along, which a training needs not have

        return write_page(self._page, self.table, self.jobs, self.results(), self._data)

    def _begin(self, job: Job) -> subprocess.Popen[bytes]:
        """Start the process that trains one row, or what is left of it, and scores it."""
        run = self._runs / job.key
        if run.exists() and not (run / "config.toml").is_file():
            shutil.rmtree(run)  # it broke before it had begun
        again = [job.row.kind, "--out", str(run), "--resume"]
        words = again if run.exists() else job.command(self._data, str(self._runs))
        task = RowTask(
            words=[*words, "--device", self._device, "--set", f"train.threads={self._threads}"],
            run=str(run),
            data=self._data,
            splits=list(self.table.score) if job.row.kind == "train" else [],
            network_size=self.table.budget.network_size,
            device=self._device,
            command=job.text(self._data),
            seed=self.table.seed if job.row.seed is None else job.row.seed,
        )
        file = self._runs / f"{job.key}.task.json"
        write_bytes(file, msgspec.json.encode(task))
        command = [sys.executable, str(Path(__file__).with_name("ablation_row.py")), str(file)]
        command.append(str(self._result_file(job)))
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._threads)}
        with self._log(job).open("a", encoding="utf-8") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def _score(self, job: Job) -> str:
        """Write down what a row's process found; its score in words."""
        found = msgspec.json.decode(self._result_file(job).read_bytes(), type=Result)
        results = self.results()
        write_results(self._file, msgspec.structs.replace(results, rows={**results.rows, job.key: found}))
        scores = [f"{split} {score.miou:.4f}" for split, score in found.scores.items() if score.miou is not None]
        return f"mIoU {', '.join(scores)}" if scores else "done"

    def _failure(self, job: Job, code: int | None) -> str:
        if code is None:
            return "not begun, a row that it needs has failed"
        if code in (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM):
            return "stopped"
        log = self._log(job)
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-5:])
        return f"failed with exit code {code}; the end of {log}:\n{tail}\n{job.id}"

    def _log(self, job: Job) -> Path:
        return self._runs / f"{job.key}.log"

    def _result_file(self, job: Job) -> Path:
        return self._runs / f"{job.key}.result.json"


def main() -> int:
    arguments = _arguments()
    failed: list[str] = []
    try:
        page = arguments.out or arguments.table.with_suffix(".md")
        table = read_table(arguments.table, arguments.epochs)
        study = Study(table, arguments.data, arguments.runs, page, threads=arguments.threads, device=arguments.device)
        jobs = study.select(arguments.only, arguments.rows)
        if arguments.latency:
            study.time(jobs, parse_size(arguments.size), arguments.duration, arguments.machine)
        elif arguments.page:
            study.take_over(jobs)
        else:
            failed = study.train(jobs, arguments.jobs)
        for file in [] if arguments.no_page else study.write():
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
    parser.add_argument("--data", required=True, help="labelled data: camvid:PATH, packed:FILE, street:OPTIONS")
    parser.add_argument("--table", type=Path, default=Path("docs/ablations.toml"))
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), help="folder of the runs")
    parser.add_argument("--out", type=Path, help="page; beside the table by default")
    parser.add_argument("--only", action="append", default=[], metavar="GROUP")
    parser.add_argument("--rows", action="append", default=[], metavar="GROUP/NAME")
    parser.add_argument("--epochs", type=int, help="another budget; its rows are other runs")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each training")
    parser.add_argument("--device", default="auto", help="of each training and its scores: cpu, cuda, cuda:N")
    parser.add_argument("--jobs", type=_at_least_one, default=1, help="rows side by side, each in its own process")
    parser.add_argument("--no-page", action="store_true", help="leave the page to another call; needs torch alone")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--latency", action="store_true", help="time the rows of timed groups, trained or not")
    parser.add_argument("--size", default="360x480", help="HEIGHTxWIDTH of --latency")
    parser.add_argument("--duration", type=float, default=8.0, help="seconds for each engine of --latency")
    parser.add_argument("--machine", default="", help="what else the machine does during --latency, in words")
    return parser.parse_args()


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}; allowed: 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
