"""The live loop: frames from cameras or files, masks of known age to sinks.

    with edgeseg.open_live("engines/street", "street:seed=1,frames=200") as results:
        for result in results:
            print(result.frame_id, result.state, result.age_ns / 1e6)

This door imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeseg.core.types import Sink
    from edgeseg.live.api import LiveResults
    from edgeseg.live.config import LiveConfig
    from edgeseg.live.request import LiveRequest
    from edgeseg.live.summary import LiveSummary

__all__ = ["open_live", "run_live"]


def run_live(request: LiveRequest) -> LiveSummary:
    """Run the loop until the sources end, `request.stop` is set, or SIGINT or SIGTERM arrives.

    Args:
        request: Engine, sources, sinks and settings.

    Returns:
        What happened: frames, drops by reason, states, latencies.

    Raises:
        EdgesegError: The first failure of any thread; every thread has ended by then.
    """
    from edgeseg.core.deps import require

    require("cv2", what="edgeseg live")
    from edgeseg.live.run import run_live as run

    return run(request)


def open_live(
    engine: str | Path,
    source: str | Path | int | Sequence[str | Path | int],
    *,
    sinks: Sequence[Sink] = (),
    config: LiveConfig | None = None,
    realtime: bool = False,
) -> LiveResults:
    """The loop as an iterator of results; leaving the `with` block, however, stops every thread.

    Args:
        engine: A bundle, `zoo:NAME` or an ONNX file.
        source: One source or several; see `edgeseg.open_source`.
        sinks: Sinks that run beside the iteration.
        config: Settings; the defaults suit a camera on a vehicle.
        realtime: Play files at their own rate, like cameras.

    Raises:
        EdgesegError: On entering, whatever keeps the loop from starting; while iterating, the first failure of any
            thread.
    """
    from edgeseg.core.deps import require

    require("cv2", what="edgeseg.open_live")
    from edgeseg.live.api import open_results

    return open_results(engine, source, sinks=sinks, config=config, realtime=realtime)
