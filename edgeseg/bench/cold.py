"""Cold start: from the start of a process to its first mask, in processes of their own.

Run as a module it is the child: it opens a bundle, makes one mask and prints three monotonic times. The clock is the
system's, so the parent subtracts the time at which it started the child. The bundle's files may be in the system's
file cache; emptying that needs root and is not done.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from edgeseg.core.clock import now_ns
from edgeseg.core.errors import EdgesegError
from edgeseg.core.progress import Progress

RUNS = 3


class ColdStart(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds since the start of the process; one number a run.

    Attributes:
        imported_ms: Interpreter and packages are loaded.
        opened_ms: The bundle is verified, the engine loaded, its self-test passed.
        first_mask_ms: The first frame has a mask.
    """

    imported_ms: list[float]
    opened_ms: list[float]
    first_mask_ms: list[float]


def measure_cold(bundle: Path, progress: Progress, *, runs: int = RUNS) -> ColdStart:
    """Start `runs` processes, one after the other.

    Raises:
        EdgesegError: A child failed; says its last line.
    """
    rows = []
    with progress.task("cold start", runs) as task:
        for _ in range(runs):
            start_ns = now_ns()
            child = subprocess.run(
                [sys.executable, "-m", "edgeseg.bench.cold", str(bundle)], capture_output=True, text=True, check=False
            )
            if child.returncode:
                last = (child.stderr.strip().splitlines() or ["no message"])[-1]
                raise EdgesegError("the cold start failed", value=last)
            times = msgspec.json.decode(child.stdout, type=list[int])
            rows.append([(t_ns - start_ns) / 1e6 for t_ns in times])
            task.advance()
    imported, opened, first = (list(column) for column in zip(*rows, strict=True))
    return ColdStart(imported_ms=imported, opened_ms=opened, first_mask_ms=first)


def _child(bundle: Path) -> list[int]:
    import numpy as np

    from edgeseg.bundle import open_bundle, open_runner

    imported_ns = now_ns()
    with open_runner(open_bundle(bundle)) as runner:
        opened_ns = now_ns()
        frame = np.full(runner.input_view().shape, 127, np.uint8)
        with runner.infer(frame):
            return [imported_ns, opened_ns, now_ns()]


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(_child(Path(sys.argv[1]))).decode())
