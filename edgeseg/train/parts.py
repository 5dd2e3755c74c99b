"""What a run is put together from: batches, something to minimise, someone to judge. The loop knows no more of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Outputs = Tensor | Sequence[Tensor]
"""What a `SegModel` gives: logits, or in training a list of the main head's and the auxiliary heads'."""


class Feed(Protocol):
    """Batches, each a function of its place in the run alone."""

    def __len__(self) -> int: ...

    @property
    def repeats(self) -> NDArray[np.float64] | None:
        """Expected appearances of each frame relative to the others', or None for equal ones."""

    def batch(
        self, epoch: int, positions: Sequence[int], frames: Sequence[int], step: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Inputs [N, 3, h, w] and targets of the frames at some positions of an epoch."""


Objective = Callable[[Tensor, Outputs, Tensor], Tensor]
"""From inputs, outputs and targets to the scalar loss."""


@dataclass(frozen=True)
class Pictures:
    """A grid for TensorBoard: each row uint8 [3, H, W] RGB."""

    tag: str
    rows: Sequence[Tensor]


class Judge(Protocol):
    """Measures the averaged weights."""

    def metrics(self, model: nn.Module) -> dict[str, object]:
        """Figures of a model in eval mode, by name (`val/miou`)."""

    def pictures(self, model: nn.Module) -> Sequence[Pictures]:
        """What a person would look at."""


@dataclass(frozen=True)
class Parts:
    """All that tells one kind of run from another.

    Attributes:
        feed: Batches.
        objective: What is minimised.
        judge: Figures and pictures.
        wrap: Gives the module that is run in a training step in place of the bare model; it shares the model's
            parameters. Quantisation-aware training puts its rounding here.
    """

    feed: Feed
    objective: Objective
    judge: Judge
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model


def headline(metrics: Mapping[str, object]) -> str:
    """The figures that a progress line shows."""
    shown = [
        f"{name.replace('/', ' ')} {value:.3f}"
        for name, value in metrics.items()
        if isinstance(value, float) and name.endswith(("/miou", "/psnr_db"))
    ]
    return "  ".join(shown).replace("miou", "mIoU").replace("psnr_db", "PSNR dB")
