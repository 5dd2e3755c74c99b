"""The training loop: epochs, steps, validation, checkpoints; it goes on bit for bit where it was killed."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import msgspec
import torch
from torch import nn

from edgeseg.core import clock
from edgeseg.core.errors import EdgesegError
from edgeseg.core.progress import Progress, Silent, Task
from edgeseg.train import checkpoint
from edgeseg.train.budget import UNKNOWN, TimeBudget
from edgeseg.train.checkpoint import Position
from edgeseg.train.config import TrainConfig
from edgeseg.train.optimiser import AveragedModel, learning_rate, make_optimiser, set_rate
from edgeseg.train.parts import Parts, headline
from edgeseg.train.plan import EpochPlan, Purpose, plan_epoch, seed_torch, steps_per_epoch
from edgeseg.train.record import Recorder
from edgeseg.train.step import LaunchedStep, RecordedStep, StepFunction
from edgeseg.train.world import World, share_out, synchronise_norms

_WRITE_EVERY_S = 10  # seconds between two files of the averaged weights; the last epoch writes one in any case
_CHECK_EVERY = 20  # steps between two looks at the loss on a GPU, each of which waits for it


class Trainer:
    """One run in progress.

    Args:
        run: Run folder; exists.
        config: Loop and optimiser.
        model: On its device, in its memory format.
        parts: Batches, objective, judge.
        bf16: Whether the step autocasts to bfloat16.
        world: This process among all of the run's.
        fitted: Told the config once a run of given minutes has found its number of epochs.

    Attributes:
        epoch: Finished epochs.
        step: Finished steps of the epoch under way.
    """

    def __init__(
        self,
        run: Path,
        config: TrainConfig,
        model: nn.Module,
        parts: Parts,
        *,
        bf16: bool,
        world: World | None = None,
        fitted: Callable[[TrainConfig], None] = lambda _: None,
    ) -> None:
        self._run = run
        self._budget = TimeBudget(config) if config.minutes else None
        self._config = msgspec.structs.replace(config, epochs=UNKNOWN) if config.minutes else config
        self._fitted = fitted
        self._model = model
        self._parts = parts
        self._world = world or World()
        self._device = next(model.parameters()).device
        self._averaged = AveragedModel(model, config.ema_decay)
        recorded = config.cuda_graph and self._device.type == "cuda" and self._world.size == 1
        self._optimiser = make_optimiser(model, config, capturable=recorded)
        synchronise_norms(model, self._world)
        shared = share_out(parts.wrap(model), self._world, config.batch)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        step = LaunchedStep(
            parameters=list(model.parameters()),
            forward=torch.compile(shared) if config.compile else shared,
            # not compiled: torch 2.11 fails on the running sums of Lovasz, and a recorded step waits for no launches
            objective=parts.objective,
            optimiser=self._optimiser,
            autocast=torch.autocast(self._device.type, torch.bfloat16, enabled=bf16),
            clip_norm=config.clip_norm,
            loss_sum=self._loss_sum,
        )
        self._step_on: StepFunction = RecordedStep(step) if recorded else step
        self._steps = steps_per_epoch(len(parts.feed), config.batch)
        self._saved_ns = self._start_ns = clock.now_ns()
        self._written_ns = 0
        self.epoch = 0
        self.step = 0

    @property
    def averaged(self) -> nn.Module:
        """The averaged model, in eval mode: what the run gives."""
        return self._averaged.module

    def resume(self) -> Position:
        """Go back to the run's checkpoint; where it stands.

        Raises:
            RequestError: There is none.
            VerifyError: It is truncated or of another model.
        """
        position = checkpoint.load(self._run, self._state())
        self.epoch, self.step = position.epoch, position.step
        self._loss_sum.fill_(position.loss_sum)
        return position

    def run(self, progress: Progress) -> dict[str, object]:
        """Train to the last epoch and return its figures.

        Raises:
            EdgesegError: The loss is no longer a number.
            DataError: The disk is full.
            KeyboardInterrupt: Stopped by SIGINT or SIGTERM; the checkpoint holds the last finished step.
        """
        left = None if self._budget else (self._config.epochs - self.epoch) * self._steps - self.step
        self._start_ns = clock.now_ns()
        figures: dict[str, object] = {}
        with (
            _deferred_interrupt() as interrupt,
            self._recorder() as recorder,
            (progress if self._world.leads else Silent()).task("train", left) as task,
        ):
            while self.epoch < self._config.epochs:
                started_ns = clock.now_ns()
                first = self.step
                self._run_epoch(task, interrupt)
                seconds = (clock.now_ns() - started_ns) / 1e9
                figures = self._finish_epoch(recorder, task, (self._steps - first) / seconds)
                self._fit(progress, self._elapsed_s())
        if self._world.leads and not figures:  # nothing was left to do: the weights are those of the checkpoint
            self._write_weights(now=True)
        return figures or self._parts.judge.metrics(self.averaged)

    def _recorder(self) -> contextlib.AbstractContextManager[Recorder | None]:
        return Recorder(self._run, epoch=self.epoch) if self._world.leads else contextlib.nullcontext()

    def _run_epoch(self, task: Task, interrupt: _Interrupt) -> None:
        epoch, config = self.epoch, self._config
        plan = plan_epoch(
            len(self._parts.feed), config.batch, seed=config.seed, epoch=epoch, repeats=self._parts.feed.repeats
        )
        for step in range(self.step, plan.steps):
            self.take_step(plan, epoch, step)
            self.step = step + 1
            if self._device.type == "cpu" or step % _CHECK_EVERY == 0 or self.step == plan.steps:
                mean = self._check_loss()
                task.advance(0, f"epoch {epoch + 1}{self._of()}  loss {mean:.3f}")
            task.advance()
            overdue = clock.now_ns() - self._saved_ns > config.checkpoint_minutes * 60e9
            asked, overdue = self._agree(interrupt.asked, overdue)
            if asked or overdue:
                self._check_loss()
                self._check_weights()
                self._save()
            if asked:
                raise KeyboardInterrupt

    def _of(self) -> str:
        if self._budget is None:
            return f"/{self._config.epochs}"
        return f" ({self._elapsed_s() / 60:.1f} of {self._config.minutes:g} min)"

    def _elapsed_s(self) -> float:
        return (clock.now_ns() - self._start_ns) / 1e9

    def take_step(self, plan: EpochPlan, epoch: int, step: int) -> None:
        """One optimiser step: batch, forward, backward, update, average."""
        config, world = self._config, self._world
        positions = plan.positions(step, world.rank, world.size)
        inputs, targets = self._parts.feed.batch(epoch, positions, [int(plan.order[i]) for i in positions], step)
        number = epoch * self._steps + step
        set_rate(self._optimiser, learning_rate(config, number, self._steps))
        seed_torch(config.seed, Purpose.STEP, epoch, step, world.rank)
        self._model.train()
        self._step_on(inputs, targets)
        self._averaged.update(number)

    def _fit(self, progress: Progress, elapsed_s: float) -> None:
        """Where the run has a time and the rate must begin to fall: find its number of epochs."""
        if self._budget is None:
            return
        elapsed_s = float(self._world.mean(torch.tensor(elapsed_s, device=self._device)))  # all decide alike
        found = self._budget.finish_epoch(self._config, self.epoch, elapsed_s)
        if found is None:
            return
        self._budget, self._config = None, found
        if self._world.leads:
            self._fitted(found)
            left = found.epochs - self.epoch
            progress.say(f"the rate falls from here: {found.epochs} epochs fit into the time, {left} are left")

    def _agree(self, *flags: bool) -> list[bool]:
        """What any process wants, all do: a process that stopped alone would leave the others waiting."""
        if self._world.size == 1:
            return list(flags)
        return (self._world.mean(torch.tensor(flags, dtype=torch.float32, device=self._device)) > 0).tolist()

    def _check_loss(self) -> float:
        """The mean loss of the epoch so far, over this process's share of the batches."""
        total = float(self._loss_sum)
        if not math.isfinite(total):
            raise self._diverged("the loss is not a number any more")
        return total / self.step

    def _check_weights(self) -> None:
        """The last step's gradient may have been none, which its loss does not show: such weights are not kept."""
        if not math.isfinite(float(nn.utils.get_total_norm(self._model.parameters()))):
            raise self._diverged("the weights are no numbers any more")

    def _diverged(self, how: str) -> EdgesegError:
        return EdgesegError(
            f"the training diverged: {how}",
            value=f"epoch {self.epoch + 1}, step {self.step}",
            allowed="the last checkpoint is kept",
            fix=f"edgeseg train … --lr {self._config.lr / 2:g} in a new run, or --set train.precision=fp32",
        )

    def _finish_epoch(self, recorder: Recorder | None, task: Task, steps_hz: float) -> dict[str, object]:
        self._check_weights()
        config = self._config
        epoch = self.epoch + 1
        metrics: dict[str, object] = {
            "epoch": epoch,
            "loss": float(self._world.mean(self._loss_sum)) / self._steps,
            "lr": float(self._optimiser.param_groups[0]["lr"]),
            "images_per_s": steps_hz * config.batch,
        }
        figures: dict[str, object] = {}
        self._loss_sum.zero_()
        self.epoch, self.step = epoch, 0
        if recorder is not None:
            if epoch % config.validate_every == 0 or epoch == config.epochs:
                figures = self._parts.judge.metrics(self.averaged)
                for found in self._parts.judge.pictures(self.averaged):
                    recorder.pictures(found, epoch)
            recorder.epoch({**metrics, **figures})
            task.advance(0, f"epoch {epoch}{self._of()}  loss {metrics['loss']:.3f}  {headline(figures)}".rstrip())
            self._write_weights(now=bool(figures) or epoch == config.epochs)
        if epoch == config.epochs:
            self._save()
        return figures

    def _write_weights(self, *, now: bool) -> None:
        """Write the averaged weights; not every epoch where several fit into a second."""
        if now or clock.now_ns() - self._written_ns > _WRITE_EVERY_S * 1e9:
            checkpoint.write_tensors(self._run / "weights.safetensors", self.averaged.state_dict())
            self._written_ns = clock.now_ns()

    def _save(self) -> None:
        loss_sum = float(self._world.mean(self._loss_sum))
        if self._world.leads:
            position = Position(
                seed=self._config.seed,
                epoch=self.epoch,
                step=self.step,
                loss_sum=loss_sum,
                threads=torch.get_num_threads(),
            )
            checkpoint.save(self._run, self._state(), position)
        self._world.wait()
        self._saved_ns = clock.now_ns()

    def _state(self) -> checkpoint.State:
        return checkpoint.State(self._model.state_dict(), self.averaged.state_dict(), self._optimiser)


class _Interrupt:
    """Whether someone asked to stop; the first signal sets it, a second one ends the process as usual."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def _deferred_interrupt() -> Iterator[_Interrupt]:
    """Let a step end before SIGINT or SIGTERM stops the run, so that the checkpoint is whole."""
    interrupt = _Interrupt()
    previous = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            previous[number] = signal.signal(number, interrupt)
        except ValueError:
            break  # not the main thread: signals go elsewhere, and the run has nothing to defer
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
