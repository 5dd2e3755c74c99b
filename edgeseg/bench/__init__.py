"""The room `bench`: the engine alone and capture to mask, always together, and what stands behind the two numbers.

The door is light to import; its functions ask for their packages by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.core.deps import require
from edgeseg.core.progress import Progress, Silent

if TYPE_CHECKING:
    from edgeseg.bench.request import BenchRequest, BenchTarget
    from edgeseg.bench.result import BenchResult
    from edgeseg.bench.suite import SuiteResult

__all__ = ["check_bench", "open_bench_target", "run_bench", "run_suite"]


def open_bench_target(reference: str, *, progress: Progress | None = None) -> BenchTarget:
    """The engine that a person names: a bundle, or the default bundle of a model; see `edgeseg.bench.request`."""
    from edgeseg.bench import request

    return request.open_bench_target(reference, progress=progress or Silent())


def check_bench(request: BenchRequest) -> None:
    """Look up all that a request names, before an engine is built for it; `run_bench` does it again.

    Raises:
        EdgesegError: A file, source, data set, board or package that is not there or does not verify.
    """
    require("cv2", what="edgeseg bench")
    from edgeseg.bench import run

    run.check_request(request)


def run_bench(
    request: BenchRequest, target: BenchTarget, *, samples_file: Path | None = None, progress: Progress | None = None
) -> BenchResult:
    """Measure one engine: half of the time alone and back to back, half of it in the live pipeline.

    Args:
        request: What to measure.
        target: The engine; each half opens a fresh runner.
        samples_file: Where raw samples go (npz); None takes a new file in the cache folder.
        progress: Where to show it.

    Raises:
        UnavailableError: OpenCV is not installed.
        EdgesegError: Whatever the engine or the source fail with.
    """
    require("cv2", what="edgeseg bench")
    from edgeseg.bench import run
    from edgeseg.bench.samples import default_samples_file

    return run.run_bench(request, target, samples_file or default_samples_file(target.name), progress or Silent())


def run_suite(file: Path, *, command: str, progress: Progress | None = None) -> tuple[SuiteResult, list[Path]]:
    """Run a suite and write its page and plots; see `edgeseg.bench.suite`.

    Args:
        file: The suite, in TOML.
        command: The command line that makes it again, for the page.
        progress: Where to show it.

    Raises:
        RequestError: A suite that is not valid, or of which nothing can run here.
    """
    require("cv2", "onnx", "onnxruntime", what="edgeseg bench --suite")
    from edgeseg.bench import suite, suite_page
    from edgeseg.core.config import load_config

    result = suite.run_suite(load_config(file, suite.Suite), progress or Silent())
    return result, suite_page.write_suite(result, command)
