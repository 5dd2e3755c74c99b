"""Several processes: their norm is that of the whole batch, their run is that of one process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from edgeseg.core.errors import RequestError
from edgeseg.train import pretrain_model, train_model
from edgeseg.train.record import read_metrics
from edgeseg.train.request import TrainRequest
from edgeseg.train.run import pick_device
from edgeseg.train.world import SyncBatchNorm, World, join_world, share_out

from .conftest import tiny_overrides

NOISE = 0.02
"""Largest relative distance of two loss curves. What differs between one process and two with half the batch each: the
cross-entropy is a mean of two means (the halves differ in labelled pixels), Dice, Lovász and stochastic depth see
halves, and sums are rounded in another order."""


def _norm_worker(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    x = torch.load(f"{folder}/x.pt")[rank::2].requires_grad_()
    norm = SyncBatchNorm(3)
    y = norm(x)
    (y * torch.arange(y.numel()).view_as(y) * (rank + 1)).sum().backward()
    torch.save({"y": y.detach(), "grad": x.grad, "var": norm.running_var}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_the_norm_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    x = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0)) * 2 + 1
    torch.save(x, tmp_path / "x.pt")
    mp.spawn(_norm_worker, args=(str(tmp_path),), nprocs=2)
    whole = nn.BatchNorm2d(3)
    x.requires_grad_()
    y = whole(x)
    halves = [torch.arange(y[rank::2].numel()).view_as(y[rank::2]) * (rank + 1) for rank in range(2)]
    sum((y[rank::2] * halves[rank]).sum() for rank in range(2)).backward()
    assert x.grad is not None
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found["y"], y[rank::2].detach())
        torch.testing.assert_close(found["grad"], x.grad[rank::2], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found["var"], whole.running_var)


def torchrun(processes: int, *args: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", "edgeseg", "train", *args, "--quiet"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr


def losses(run: Path) -> list[float]:
    return [float(str(line["loss"])) for line in read_metrics(run)]


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one(tmp_path: Path, folder_data: str) -> None:
    # a rate that does not hang on the run's length: a run that is lengthened is then the same run
    tables = tiny_overrides(folder_data, epochs=6, schedule="trapezoid", cooldown=0.0)
    tables = {**tables, "model": {**tables["model"], "drop_path": 0.0}, "loss": {"label_smoothing": 0.05}}
    one = train_model(TrainRequest(out=tmp_path / "one", model="edge-s", overrides=tables, device="cpu"))
    fields = [
        f"--set={name}.{field}={_toml(value)}" for name, table in tables.items() for field, value in table.items()
    ]
    torchrun(2, "--model", "edge-s", "--out", str(tmp_path / "two"), "--device", "cpu", *fields)
    assert losses(tmp_path / "two") == pytest.approx(losses(one), rel=NOISE)

    # and on another number of processes it goes on where it stood
    torchrun(
        2, "--model", "edge-s", "--out", str(tmp_path / "moved"), "--device", "cpu", *fields, "--set=train.epochs=3"
    )
    longer = {"train": {"epochs": 6}}
    train_model(TrainRequest(out=tmp_path / "moved", resume=True, device="cpu", overrides=longer))
    assert losses(tmp_path / "moved") == pytest.approx(losses(one), rel=NOISE)


def test_a_batch_that_does_not_divide() -> None:
    with pytest.raises(RequestError, match="multiple of the 3 processes"):
        share_out(nn.Conv2d(1, 1, 1), World(0, 3), batch=8)


@pytest.mark.parametrize("start", [train_model, pretrain_model])
def test_a_batch_that_does_not_divide_leaves_no_folder(
    start: Callable[[TrainRequest], Path], tmp_path: Path, folder_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going on with it could not change the batch."""
    for room in ("run", "pretrain"):
        monkeypatch.setattr(f"edgeseg.train.{room}.join_world", lambda _device: contextlib.nullcontext(World(0, 3)))
        monkeypatch.setattr(World, "wait", lambda _world: None)
    overrides = {name: table for name, table in tiny_overrides(folder_data).items() if name != "loss"}
    with pytest.raises(RequestError, match="multiple of the 3 processes"):
        start(TrainRequest(out=tmp_path / "run", model="edge-s", overrides=overrides, device="cpu"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("auto", "nccl"), ("cuda", "nccl")])
def test_processes_on_the_cpu_of_a_machine_with_gpus_meet_over_gloo(
    device: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("torch.distributed.init_process_group", met.append)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    with join_world(device) as world:
        assert (world.rank, world.size) == (1, 2)
    assert met == [backend]


def test_fine_tuning_with_integers_is_refused_to_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="one process"):
        train_model(TrainRequest(out=tmp_path / "qat", qat="run", ranges="r.json"))


def test_the_gpu_that_is_named_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are the current GPU's: the steps of another would run while they are recorded, and never again."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda _name: None)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device("cuda", World(3, 4, 2)) == torch.device("cuda", 2)
    assert chosen == [torch.device("cuda", 1), torch.device("cuda", 2)]
    for name in ("cuda:", "cuda:x", "cpu:0", "gpu"):
        with pytest.raises(RequestError, match="unknown device"):
            pick_device(name)


def _toml(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
