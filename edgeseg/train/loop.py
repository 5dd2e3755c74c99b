"""The training loop: epochs, steps, validation, checkpoints; it goes on bit for bit where it was killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from edgeseg.core import clock
from edgeseg.core.errors import EdgesegError
from edgeseg.core.progress import Progress, Task
from edgeseg.train import checkpoint
from edgeseg.train.augment import Augmenter
from edgeseg.train.checkpoint import Position
from edgeseg.train.config import RunConfig
from edgeseg.train.corpus import Corpus
from edgeseg.train.loss import SegmentationLoss, class_weights
from edgeseg.train.optimiser import AveragedModel, learning_rate, make_optimiser
from edgeseg.train.plan import EpochPlan, Purpose, plan_epoch, seed_torch, steps_per_epoch
from edgeseg.train.record import PICTURES, Recorder, spread
from edgeseg.train.validate import Score, predict, score

_CHECK_EVERY = 20  # steps between two looks at the loss on a GPU, each of which waits for it


class Trainer:
    """One run in progress.

    Args:
        run: Run folder; exists, with `config.toml`.
        config: Resolved.
        model: On its device, in its memory format.
        train: Frames to learn from.
        splits: Frames to score, the deciding split first.
        bf16: Whether the step autocasts to bfloat16.

    Attributes:
        epoch: Finished epochs.
        step: Finished steps of the epoch under way.
    """

    def __init__(
        self, run: Path, config: RunConfig, model: nn.Module, train: Corpus, splits: list[Corpus], *, bf16: bool
    ) -> None:
        self._run = run
        self._config = config
        self._model = model
        self._train = train
        self._splits = splits
        self._device = next(model.parameters()).device
        self._autocast = torch.autocast(self._device.type, torch.bfloat16, enabled=bf16)
        self._forward = torch.compile(model) if config.train.compile else model
        self._averaged = AveragedModel(model, config.train.ema_decay)
        self._optimiser = make_optimiser(model, config.train)
        self._augmenter = Augmenter(train, config.augment, config.input, seed=config.train.seed)
        weights = class_weights(train.histogram(), config.loss.class_weights)
        self._loss = SegmentationLoss(
            config.loss, train.classes.ignore_id, None if weights is None else weights.to(self._device)
        )
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        self._steps = steps_per_epoch(len(train), config.train.batch)
        self._saved_ns = clock.now_ns()
        self.epoch = 0
        self.step = 0

    @property
    def averaged(self) -> nn.Module:
        """The averaged model, in eval mode: what the run gives."""
        return self._averaged.module

    def resume(self) -> None:
        """Go back to the run's checkpoint.

        Raises:
            RequestError: There is none.
            VerifyError: It is truncated or of another model.
        """
        position = checkpoint.load(self._run, self._state())
        self.epoch, self.step = position.epoch, position.step
        self._loss_sum.fill_(position.loss_sum)

    def run(self, progress: Progress) -> dict[str, Score]:
        """Train to the last epoch and return its scores by split.

        Raises:
            EdgesegError: The loss is no longer a number.
            DataError: The disk is full.
            KeyboardInterrupt: Stopped by SIGINT or SIGTERM; the checkpoint holds the last finished step.
        """
        epochs = self._config.train.epochs
        left = (epochs - self.epoch) * self._steps - self.step
        scores: dict[str, Score] = {}
        with (
            _deferred_interrupt() as interrupt,
            Recorder(self._run, self._train.classes, epoch=self.epoch) as recorder,
            progress.task("train", left) as task,
        ):
            while self.epoch < epochs:
                started_ns = clock.now_ns()
                first = self.step
                self._epoch(task, interrupt)
                seconds = (clock.now_ns() - started_ns) / 1e9
                scores = self._finish_epoch(recorder, task, (self._steps - first) / seconds)
        return scores or self._score()

    def _epoch(self, task: Task, interrupt: _Interrupt) -> None:
        epoch, config = self.epoch, self._config.train
        plan = plan_epoch(len(self._train), config.batch, seed=config.seed, epoch=epoch)
        for step in range(self.step, plan.steps):
            self._step(plan, epoch, step)
            if self._device.type == "cpu" or step % _CHECK_EVERY == 0 or step == plan.steps - 1:
                self._check_loss(epoch, step)
                mean = float(self._loss_sum) / (step + 1)
                task.advance(0, f"epoch {epoch + 1}/{config.epochs}  loss {mean:.3f}")
            task.advance()
            self.step = step + 1
            overdue = clock.now_ns() - self._saved_ns > config.checkpoint_minutes * 60e9
            if interrupt.asked or (overdue and step + 1 < plan.steps):
                self._check_loss(epoch, step)
                self._save()
            if interrupt.asked:
                raise KeyboardInterrupt

    def _step(self, plan: EpochPlan, epoch: int, step: int) -> None:
        config = self._config.train
        positions = plan.positions(step)
        images, labels = self._augmenter.batch(epoch, positions, [int(plan.order[i]) for i in positions])
        number = epoch * self._steps + step
        rate = learning_rate(config, number, self._steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        seed_torch(config.seed, Purpose.STEP, epoch, step)
        self._model.train()
        with self._autocast:
            outputs = self._forward(images)
        loss = self._loss(outputs, labels)
        self._optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if config.clip_norm:
            nn.utils.clip_grad_norm_(self._model.parameters(), config.clip_norm)
        self._optimiser.step()
        self._averaged.update(self._model, number)
        self._loss_sum += loss.detach()

    def _check_loss(self, epoch: int, step: int) -> None:
        if not bool(torch.isfinite(self._loss_sum)):
            lr = self._config.train.lr / 2
            raise EdgesegError(
                "the training diverged: the loss is not a number any more",
                value=f"epoch {epoch + 1}, step {step + 1}",
                allowed="the last checkpoint is kept",
                fix=f"edgeseg train … --lr {lr:g} in a new run, or --set train.precision=fp32",
            )

    def _finish_epoch(self, recorder: Recorder, task: Task, steps_hz: float) -> dict[str, Score]:
        config = self._config.train
        epoch = self.epoch + 1
        metrics: dict[str, object] = {
            "epoch": epoch,
            "loss": float(self._loss_sum) / self._steps,
            "lr": self._optimiser.param_groups[0]["lr"],
            "images_per_s": steps_hz * config.batch,
        }
        scores: dict[str, Score] = {}
        if epoch % config.validate_every == 0 or epoch == config.epochs:
            scores = self._score()
            for name, result in scores.items():
                metrics[f"{name}/miou"] = result.miou
                metrics[f"{name}/pixel_accuracy"] = result.pixel_accuracy
                metrics[f"{name}/iou"] = result.iou
            self._show(recorder, epoch)
        recorder.epoch(metrics)
        task.advance(0, _note(metrics, config.epochs))
        self._loss_sum.zero_()
        self.epoch, self.step = epoch, 0
        checkpoint.write_tensors(self._run / "weights.safetensors", self.averaged.state_dict())
        self._save()
        return scores

    def _score(self) -> dict[str, Score]:
        stride = self._config.model.stride
        return {corpus.name: score(self.averaged, corpus, self._config.input, stride=stride) for corpus in self._splits}

    def _show(self, recorder: Recorder, epoch: int) -> None:
        for corpus in self._splits[:1]:
            picks = spread(len(corpus), PICTURES)
            images = [corpus.images[index] for index in picks]
            masks = [self._predict(image) for image in images]
            recorder.pictures(corpus.name, images, [corpus.labels[index] for index in picks], masks, epoch)

    @torch.no_grad()
    def _predict(self, image: Tensor) -> Tensor:
        return predict(self.averaged, image, self._config.model.stride, self._config.input)

    def _save(self) -> None:
        position = Position(
            seed=self._config.train.seed,
            epoch=self.epoch,
            step=self.step,
            loss_sum=float(self._loss_sum),
            threads=torch.get_num_threads(),
        )
        checkpoint.save(self._run, self._state(), position)
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


def _note(metrics: dict[str, object], epochs: int) -> str:
    scores = "  ".join(
        f"{name.removesuffix('/miou')} mIoU {value:.3f}" for name, value in metrics.items() if name.endswith("/miou")
    )
    return f"epoch {metrics['epoch']}/{epochs}  loss {metrics['loss']:.3f}  {scores}".rstrip()
