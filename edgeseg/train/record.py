"""What a run leaves behind besides weights: metrics.jsonl, tensorboard/, frames/, done.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from edgeseg.core.artefacts import atomic_folder, disk_errors, write_bytes, write_text
from edgeseg.core.deps import probe_package
from edgeseg.core.log import get_logger
from edgeseg.core.types import Classes
from edgeseg.data.masks import write_index_png
from edgeseg.train.corpus import Corpus
from edgeseg.train.parts import Pictures

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_LOG = get_logger(__name__)

FRAMES = 8  # for export's parity check
PICTURES = 4  # rows of the picture grid


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices, evenly spaced over `count`."""
    return [int(index) for index in np.unique(np.linspace(0, count - 1, min(wanted, count), dtype=int))]


def write_frames(run: Path, corpus: Corpus) -> None:
    """Write `frames/`: evenly spaced frames `NAME.png` and their labels `NAME.label.png`, at network size."""
    with atomic_folder(run / "frames", replace=True) as folder:
        for index in spread(len(corpus), FRAMES):
            name = f"{index:05d}"
            rgb = corpus.images[index].permute(1, 2, 0).cpu().numpy()
            Image.fromarray(rgb).save(folder / f"{name}.png")
            write_index_png(folder / f"{name}.label.png", corpus.labels[index].cpu().numpy(), corpus.classes)


def write_done(run: Path, summary: Mapping[str, object]) -> None:
    """Write `done.json`, which makes the run complete."""
    write_bytes(run / "done.json", msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")


class Recorder:
    """Metrics of a run, one JSON line an epoch, mirrored to TensorBoard where it is installed.

    Args:
        run: The run folder.
        epoch: First epoch that will be recorded; later lines of an earlier, broken run are dropped.
    """

    def __init__(self, run: Path, *, epoch: int) -> None:
        self._file = run / "metrics.jsonl"
        kept = [line for line in read_metrics(run) if _epoch(line) <= epoch]
        write_text(self._file, "".join(_line(line) for line in kept))
        with disk_errors(self._file):
            self._board = _open_board(run / "tensorboard", purge_step=epoch + 1 if epoch else None)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()

    def epoch(self, metrics: Mapping[str, object]) -> None:
        """Record one epoch; `metrics["epoch"]` counts from 1."""
        with disk_errors(self._file), self._file.open("a", encoding="utf-8") as file:
            file.write(_line(metrics))
        if self._board is None:
            return
        step = _epoch(metrics)
        for name, value in metrics.items():
            if isinstance(value, (int, float)) and name != "epoch":
                self._board.add_scalar(name, value, step)
        self._board.flush()

    def pictures(self, found: Pictures, epoch: int) -> None:
        """Show a grid, its rows under each other."""
        if self._board is None:
            return
        height, width = (min(row.shape[axis] for row in found.rows) for axis in (1, 2))
        self._board.add_image(found.tag, torch.cat([row[:, :height, :width] for row in found.rows], dim=1), epoch)


def _open_board(folder: Path, *, purge_step: int | None) -> SummaryWriter | None:
    """TensorBoard's writer; None where it is not installed: a run is complete without its pictures."""
    found = probe_package("tensorboard")
    if not found.ok:
        _LOG.warning("TensorBoard is not installed: metrics.jsonl has the figures; try: %s", found.remedy)
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=purge_step)


def colour_ids(ids_hw: Tensor, classes: Classes) -> Tensor:
    """Class ids uint8 [H, W] as RGB uint8 [3, H, W] on the CPU; black where there is no class."""
    palette = torch.zeros(256, 3, dtype=torch.uint8)
    palette[: len(classes)] = torch.tensor(classes.palette_rgb, dtype=torch.uint8)
    return palette[ids_hw.cpu().long()].permute(2, 0, 1)


def read_metrics(run: Path) -> list[dict[str, object]]:
    """The lines of `metrics.jsonl`; none where there is no such file. A torn last line is left out."""
    file = run / "metrics.jsonl"
    if not file.is_file():
        return []
    lines: list[dict[str, object]] = []
    for text in file.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(msgspec.json.decode(text, type=dict[str, object]))
        except msgspec.DecodeError:
            break  # the process was killed while it wrote this line
    return lines


def _epoch(metrics: Mapping[str, object]) -> int:
    value = metrics["epoch"]
    assert isinstance(value, int)
    return value


def _line(metrics: Mapping[str, object]) -> str:
    return msgspec.json.encode(metrics).decode() + "\n"
