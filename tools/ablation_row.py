"""The process of one row of an ablation: train it, or what is left of it, then score it: `ablation_row.py TASK RESULT`.

TASK is a `RowTask` as JSON, RESULT the file that its `Result` is written to. Standard output is the row's log.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from ablation_scores import RowTask, score_run
from rich.console import Console

from edgeseg.cli.main import run as run_command
from edgeseg.cli.progress import LineProgress
from edgeseg.core.artefacts import write_bytes
from edgeseg.core.errors import EdgesegError


def main() -> int:
    task = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=RowTask)
    run = Path(task.run)
    if not (run / "done.json").is_file():
        code = run_command(task.words)
        if code:
            return code
    try:
        result = score_run(run, task, LineProgress(Console(highlight=False, width=140)))
    except EdgesegError as error:
        print(f"ablation_row: error: {error}", file=sys.stderr)
        return int(error.exit_code)
    write_bytes(Path(sys.argv[2]), msgspec.json.encode(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
