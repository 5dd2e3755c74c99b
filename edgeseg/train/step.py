"""One optimiser step: launched operator by operator, or recorded once as a CUDA graph and replayed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from edgeseg.core.errors import UnavailableError
from edgeseg.train.parts import Objective, Outputs

_LAUNCHED = 3  # steps before one is recorded: allocations, the choice of algorithms and compilation happen in them


class StepFunction(Protocol):
    """What takes a batch and leaves the model one step further."""

    def __call__(self, inputs: Tensor, targets: Tensor) -> None:
        """One step on a batch: float [N, 3, h, w] inputs and their targets, on the model's device."""


@dataclass(frozen=True)
class LaunchedStep:
    """Forward, loss, backward, clipping and update, each operator launched from Python.

    Attributes:
        parameters: Of the model, in one order.
        forward: The model, or what runs in its place; shares the parameters.
        objective: What is minimised.
        optimiser: Of the parameters.
        autocast: Context of the forward pass, entered anew in each step.
        clip_norm: Largest norm of the gradient; 0 does not clip.
        loss_sum: float64 scalar on the model's device, to which each step adds its loss.
    """

    parameters: list[nn.Parameter]
    forward: Callable[[Tensor], Outputs]
    objective: Objective
    optimiser: torch.optim.Optimizer
    autocast: AbstractContextManager[object]
    clip_norm: float
    loss_sum: Tensor

    def __call__(self, inputs: Tensor, targets: Tensor) -> None:
        """One step on a batch."""
        with self.autocast:
            outputs = self.forward(inputs)
        loss = self.objective(inputs, outputs, targets)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimiser.step()
        self.loss_sum.add_(loss.detach())


class RecordedStep:
    """A step that a GPU replays as one CUDA graph: the host launches one thing where it launched a thousand.

    A small network keeps a large GPU waiting for launches most of the time. The first steps of each shape of batch are
    launched as usual, and count; the next one is recorded, which runs nothing, and from then on replayed. Random
    numbers follow from the generator's seed in a replay as they do otherwise.

    Args:
        step: What is recorded. It must not ask the device for a value, and its optimiser must be `capturable`, with the
            rate in a tensor: numbers of the host would be recorded as they are.
    """

    def __init__(self, step: LaunchedStep) -> None:
        self._step = step
        # all launched steps and the recording on one stream: gradients are added up on the stream that first made them
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._shapes: dict[tuple[int, ...], _Recording] = {}

    def __call__(self, inputs: Tensor, targets: Tensor) -> None:
        """One step on a batch.

        Raises:
            UnavailableError: The step cannot be recorded.
        """
        found = self._shapes.setdefault(tuple(inputs.shape), _Recording())
        if found.launched < _LAUNCHED:
            found.launched += 1
            self._launch(inputs, targets)
            return
        if found.graph is None:
            self._record(found, inputs, targets)
        else:
            found.inputs.copy_(inputs)
            found.targets.copy_(targets)
        assert found.graph is not None
        found.graph.replay()

    def _launch(self, inputs: Tensor, targets: Tensor) -> None:
        present = torch.cuda.current_stream()
        self._stream.wait_stream(present)
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*capturable=True.*")  # the recording comes
            self._step(inputs, targets)
        present.wait_stream(self._stream)

    def _record(self, found: _Recording, inputs: Tensor, targets: Tensor) -> None:
        found.inputs, found.targets = inputs.clone(), targets.clone()
        graph = torch.cuda.CUDAGraph()
        self._step.optimiser.zero_grad(set_to_none=True)  # the graph's gradients are its own
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._step(found.inputs, found.targets)
        except RuntimeError as error:
            raise UnavailableError(
                "the training step cannot be recorded as a CUDA graph",
                value=str(error).partition("\n")[0],
                fix="--set train.cuda_graph=false launches it operator by operator",
            ) from error
        found.graph = graph


class _Recording:
    """A step of one shape of batch: how often it was launched, then its graph and where that reads."""

    def __init__(self) -> None:
        self.launched = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs = self.targets = torch.empty(0)
