"""Several processes as one run: who this process is, sums over all, and normalisation over the whole batch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgeseg.core.errors import RequestError


@dataclass(frozen=True)
class World:
    """This process among all of a run's.

    Attributes:
        rank: From 0; 0 writes, measures and shows.
        size: Number of processes.
        local_rank: Among those on this machine: its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a value over all processes, on each of them."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.size

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


def world_size() -> int:
    """How many processes torchrun started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def join_world(device: str = "auto") -> Iterator[World]:
    """The world that torchrun started this process in (RANK, WORLD_SIZE, LOCAL_RANK), or a world of its own.

    Processes meet over NCCL where they train on GPUs, else over gloo.

    Args:
        device: Where the run was asked for.
    """
    size = world_size()
    if size == 1 or dist.is_initialized():
        yield World()
        return
    dist.init_process_group("nccl" if device != "cpu" and torch.cuda.is_available() else "gloo")
    try:
        yield World(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()


def check_batch(world: World, batch: int) -> None:
    """Raise RequestError where a batch cannot be shared out evenly."""
    if batch % world.size:
        raise RequestError(
            "the batch cannot be shared out", value=batch, allowed=f"a multiple of the {world.size} processes"
        )


def share_out(model: nn.Module, world: World, batch: int) -> nn.Module:
    """The module to train with: gradients averaged over all processes, batch norms over the whole batch.

    Raises:
        RequestError: The batch cannot be shared out evenly.
    """
    check_batch(world, batch)
    if world.size == 1:
        return model
    device = next(model.parameters()).device
    with warnings.catch_warnings():
        # its successor is not in every torch from 2.8 on
        warnings.filterwarnings("ignore", message=".*broadcast_buffers.* is deprecated", category=FutureWarning)
        return nn.parallel.DistributedDataParallel(
            model, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
        )


def synchronise_norms(model: nn.Module, world: World) -> None:
    """Let every batch norm of `model` see the batch of all processes; names in the state stay as they are.

    torch's own SyncBatchNorm runs on GPUs alone, so the same sums are written out here.
    """
    if world.size == 1:
        return
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = SyncBatchNorm


class _SumOverAll(torch.autograd.Function):
    """The sum over all processes, on each of them; so is its gradient."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        """Any shape to the same."""
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        """What every process asks of the sum."""
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the batch of all processes (Ioffe and Szegedy, 2015), each with equally many pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape and dtype."""
        if not self.training:
            plain: Tensor = super().forward(x)
            return plain
        pixels = x.float()
        sums = torch.stack([pixels.mean(dim=(0, 2, 3)), pixels.square().mean(dim=(0, 2, 3))])
        total: Tensor = _SumOverAll.apply(sums)
        mean, square = total / dist.get_world_size()
        variance = (square - mean.square()).clamp(min=0)
        self._follow(mean.detach(), variance.detach(), x.numel() // x.shape[1] * dist.get_world_size())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        y: Tensor = (pixels * scale[:, None, None] + shift[:, None, None]).to(x.dtype)
        return y

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), momentum)
        self.num_batches_tracked += 1
