"""A step launched and a step replayed train alike. The graph here is simulated; a GPU's own has the marker gpu."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from edgeseg.core.config import convert
from edgeseg.core.errors import UnavailableError
from edgeseg.model import ModelConfig, build_model
from edgeseg.train.config import LossConfig, TrainConfig
from edgeseg.train.loss import SegmentationLoss
from edgeseg.train.optimiser import make_optimiser, set_rate
from edgeseg.train.step import LaunchedStep, RecordedStep

from .conftest import TINY

MODEL = msgspec.structs.replace(convert(TINY, ModelConfig, origin="test"), drop_path=0.0)
RATES = [0.0, 1e-3, 4e-3, 2e-3, 2e-3, 1e-3, 5e-4]


def make_step(device: str = "cpu", *, capturable: bool = False, **loss: Any) -> LaunchedStep:
    model = build_model(MODEL, 3, seed=3).to(device)
    judged = SegmentationLoss(LossConfig(**loss), 255, None)
    return LaunchedStep(
        parameters=list(model.parameters()),
        forward=model,
        objective=lambda _inputs, outputs, targets: judged(outputs, targets),
        optimiser=make_optimiser(model, TrainConfig(), capturable=capturable),
        autocast=torch.autocast(device, torch.bfloat16, enabled=False),
        clip_norm=1.0,
        loss_sum=torch.zeros((), dtype=torch.float64, device=device),
    )


def batches(device: str = "cpu", *sizes: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    found = []
    for index in range(len(RATES)):
        height, width = (sizes or ((16, 24),))[index % max(len(sizes), 1)]
        images = torch.randn(4, 3, height, width, generator=generator).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(0, 3, (4, height, width), generator=generator)
        labels[:, 0] = 255
        found.append((images.to(device), labels.to(device)))
    return found


def train(step: LaunchedStep, run: Any, given: list[tuple[Tensor, Tensor]]) -> list[float]:
    sums = []
    for rate, (inputs, targets) in zip(RATES, given, strict=True):
        set_rate(step.optimiser, rate)
        run(inputs, targets)
        sums.append(float(step.loss_sum))
    return sums


class SimulatedGraphs:
    """`torch.cuda` as far as `RecordedStep` touches it: recording leaves no trace, replaying runs the step again."""

    Stream = staticmethod(lambda: SimulatedGraphs._Stream())
    CUDAGraph = staticmethod(lambda: SimulatedGraphs._Graph())

    class _Stream:
        def wait_stream(self, _other: object) -> None: ...

    class _Graph:
        def __init__(self) -> None:
            self.replays = 0
            self.run: Any = None

        def replay(self) -> None:
            self.replays += 1
            self.run()

    def __init__(self, step: LaunchedStep) -> None:
        self.step = step
        self.recording = False
        self.recorded: RecordedStep | None = None
        self.graphs: list[SimulatedGraphs._Graph] = []

    def current_stream(self) -> SimulatedGraphs._Stream:
        return self._Stream()

    def stream(self, _stream: object) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def graph(self, graph: SimulatedGraphs._Graph, **_options: object) -> Iterator[None]:
        states = [self.step.forward.state_dict(), self.step.optimiser.state_dict()]  # type: ignore[attr-defined]
        kept, loss = copy.deepcopy(states), self.step.loss_sum.clone()
        self.recording = True
        yield
        self.recording = False
        self.step.forward.load_state_dict(kept[0])  # type: ignore[attr-defined]
        self.step.optimiser.load_state_dict(kept[1])
        self.step.loss_sum.copy_(loss)
        assert self.recorded is not None
        recording = next(found for found in self.recorded._shapes.values() if found.graph is None)
        graph.run = lambda: self.step(recording.inputs, recording.targets)
        self.graphs.append(graph)


@pytest.mark.parametrize("sizes", [((16, 24),), ((16, 24), (24, 32))])
def test_replays_train_like_launches(sizes: tuple[tuple[int, int], ...], monkeypatch: pytest.MonkeyPatch) -> None:
    given = batches("cpu", *sizes)
    launched, again = make_step(), make_step()
    simulated = SimulatedGraphs(again)
    for name in ("Stream", "CUDAGraph", "current_stream", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(simulated, name))
    recorded = simulated.recorded = RecordedStep(again)
    assert train(again, recorded, given) == train(launched, launched, given)
    for ours, theirs in zip(again.parameters, launched.parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    # three launches of a shape, and every later step a replay, the recorded one included
    assert sum(graph.replays for graph in simulated.graphs) == len(RATES) - 3 * len(sizes)


def test_a_step_that_cannot_be_recorded_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    step = make_step()
    simulated = SimulatedGraphs(step)
    for name in ("Stream", "CUDAGraph", "current_stream", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(simulated, name))

    def asks_the_device(_inputs: Tensor, outputs: Any, _targets: Tensor) -> Tensor:
        if simulated.recording:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")
        total: Tensor = outputs.sum()
        return total

    asking = LaunchedStep(**{**vars(step), "objective": asks_the_device})
    with pytest.raises(UnavailableError, match="cannot be recorded") as raised:
        train(asking, RecordedStep(asking), batches())
    assert "train.cuda_graph=false" in str(raised.value.fix)
    assert raised.value.value == "CUDA error: operation not permitted when stream is capturing"


def test_a_rate_in_a_tensor_is_changed_in_place() -> None:
    model = nn.Conv2d(2, 2, 3)
    rate = torch.tensor(1.0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate)
    set_rate(optimiser, 0.25)
    assert optimiser.param_groups[0]["lr"] is rate
    assert float(rate) == 0.25


@pytest.mark.gpu
@pytest.mark.parametrize(
    "loss", [{}, {"lovasz": 0.5, "dice": 0.5, "class_weights": "none"}, {"hard_share": 0.3}], ids=str
)
def test_a_gpu_replays_what_it_launches(loss: dict[str, Any]) -> None:
    given = batches("cuda", (64, 96), (96, 96))
    launched = make_step("cuda", **loss)
    again = make_step("cuda", capturable=True, **loss)
    torch.manual_seed(0)
    expected = train(launched, launched, given)
    torch.manual_seed(0)
    assert train(again, RecordedStep(again), given) == pytest.approx(expected, rel=1e-3)
