"""The trained run in torch, eager and compiled: frame in, mask out, on the same harness."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch

from edgeseg.bench.peers import Peer
from edgeseg.core.clock import now_ns
from edgeseg.core.types import U8, RunTimes
from edgeseg.measure.timing import Call
from edgeseg.model.network import SegModel
from edgeseg.model.run import load_run, predict


def torch_peers(run: Path) -> list[Peer]:
    """Eager and compiled; compiling takes minutes on two cores and needs a C++ compiler.

    Args:
        run: A RUN folder: a bundle holds no torch weights.
    """
    where = "cuda" if torch.cuda.is_available() else "cpu"
    settings = f"{where}, {torch.get_num_threads()} threads, channels_last, float32, inference_mode"
    name = f"torch {torch.__version__}"
    return [
        Peer(f"{name} eager", settings, lambda: _opened(run, where, compiled=False)),
        Peer(f"{name} compiled", f"{settings}, torch.compile", lambda: _opened(run, where, compiled=True)),
    ]


@contextmanager
def _opened(run: Path, where: str, *, compiled: bool) -> Iterator[Call]:
    loaded = load_run(run)
    model = loaded.model.to(where)
    network = cast(SegModel, torch.compile(model)) if compiled else model

    def call(batch: U8) -> RunTimes:
        begin_ns = now_ns()
        frames = torch.from_numpy(batch).to(where)
        predict(network, frames, loaded.input).argmax(1).to(torch.uint8).cpu()
        return RunTimes(0, now_ns() - begin_ns, 0)

    yield call
