"""AdamW with decay groups, the learning-rate schedule and the averaged weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from edgeseg.train.config import TrainConfig


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Filters decay; vectors (norms, biases, layer scales) do not.

    A parameter counts as a vector where it has one axis longer than 1: layer scales may be stored as [C, 1, 1].
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            axes = sum(size > 1 for size in parameter.shape)
            (decayed if axes > 1 else free).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def make_optimiser(model: nn.Module, config: TrainConfig, *, capturable: bool = False) -> torch.optim.AdamW:
    """AdamW over the decay groups, in its fused form.

    Args:
        model: Whose parameters learn.
        config: Rate and decay.
        capturable: Whether a CUDA graph may record its step; the rate is then a tensor on the model's device.
    """
    device = next(model.parameters()).device
    return torch.optim.AdamW(
        decay_groups(model, config.weight_decay),
        lr=torch.tensor(config.lr, device=device) if capturable else config.lr,
        betas=(0.9, 0.999),
        fused=True,
        capturable=capturable,
    )


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give all groups a learning rate, in place where it is a tensor."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of one step: linear warm-up, then the schedule.

    Args:
        config: Peak, shape and length.
        step: Optimiser step from 0.
        steps_per_epoch: Steps of an epoch.
    """
    total = config.epochs * steps_per_epoch
    warmup = min(config.warmup_epochs * steps_per_epoch, total / 2)
    if step < warmup:
        return config.lr * (step + 1) / max(warmup, 1)
    done = (step - warmup) / max(total - warmup, 1)
    if config.schedule == "cosine":
        share = (1 + math.cos(math.pi * done)) / 2
    else:
        share = min(1.0, (total - step) / max(config.cooldown * total, 1))
    return config.lr * (config.final_lr + (1 - config.final_lr) * share)


class AveragedModel:
    """The exponential moving average of a model (Polyak averaging), batch statistics included: what a run gives.

    Args:
        model: What is averaged; its present state is the first average.
        decay: Decay once warm; after `t` steps at most (1 + t) / (10 + t).

    Attributes:
        module: A model of its own, in eval mode, with the averaged state.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay
        self._follows(model)

    def _follows(self, model: nn.Module) -> None:
        # looked up once: a state_dict makes a new tensor object for every entry, which at every step takes longer than
        # the average itself; training and loading a checkpoint both write into the tensors that are there
        average, present = self.module.state_dict(), model.state_dict()
        floats = [name for name, tensor in average.items() if tensor.is_floating_point()]
        counters = [name for name in average if name not in set(floats)]
        self._floats = [average[name] for name in floats], [present[name] for name in floats]
        self._counters = [average[name] for name in counters], [present[name] for name in counters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the model after optimiser step `step` (from 0)."""
        keep = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(*self._floats, 1 - keep)
        if self._counters[0]:
            torch._foreach_copy_(*self._counters)
