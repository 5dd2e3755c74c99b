"""Training speed against a bare loop: how much of a step is the network, and how much is everything around it.

The loops run the same model, batch, crop, precision and optimiser, in turns, in one process:

    ours        the step of `edgeseg train`: augmentation from frames in memory, the recipe's loss, clipping, averaging
    bare        random tensors made beforehand, torch's cross-entropy of the main head, AdamW; nothing else
    same loss   the bare loop with the recipe's own loss on every head: what is left is the loop, not the loss

    python tools/train_speed.py --data camvid:PATH --model edge-m [--device cuda] [--set TABLE.FIELD=VALUE]

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from edgeseg.core import clock
from edgeseg.core.progress import Silent
from edgeseg.train.config import RunConfig
from edgeseg.train.loop import Trainer
from edgeseg.train.optimiser import make_optimiser
from edgeseg.train.overrides import parse_overrides
from edgeseg.train.parts import Objective, Outputs
from edgeseg.train.plan import plan_epoch
from edgeseg.train.request import TrainRequest
from edgeseg.train.run import new_config, pick_device, read_corpora, start_model, uses_bf16
from edgeseg.train.supervised import supervised_parts


def main() -> None:
    arguments = _arguments()
    device = pick_device(arguments.device)
    named = {"data.train": arguments.data, "data.val_splits": [], "data.limit": arguments.limit}
    overrides = parse_overrides(arguments.set, named)
    with tempfile.TemporaryDirectory() as folder:
        request = TrainRequest(out=Path(folder) / "run", model=arguments.model, overrides=overrides)
        config = new_config(request)
        corpus = read_corpora(config, device, Silent())[0]
        model = start_model(config, device, Silent(), fresh=True)
        parts = supervised_parts(config, corpus, (), device)
        trainer = Trainer(request.out, config.train, model, parts, bf16=uses_bf16(config, device))
        plan = plan_epoch(len(corpus), config.train.batch, seed=config.train.seed, epoch=0)
        steps = iter(range(10**9))
        ours = _step_time(device, lambda: trainer.take_step(plan, 0, next(steps) % plan.steps))
        loops = (
            ours,
            _step_time(device, _bare_step(config, device, _main_head)),
            _step_time(device, _bare_step(config, device, parts.objective)),
        )
        for loop in loops:
            loop(arguments.warm_up)
        rounds = [[loop(arguments.steps) for loop in loops] for _ in range(arguments.rounds)]
    _report(config, device, rounds)


def _step_time(device: torch.device, step: Callable[[], None]) -> Callable[[int], float]:
    """Seconds a step, over a number of them."""

    def measure(count: int) -> float:
        _wait(device)
        started_ns = clock.now_ns()
        for _ in range(count):
            step()
        _wait(device)
        return (clock.now_ns() - started_ns) / 1e9 / max(count, 1)

    return measure


def _main_head(_inputs: torch.Tensor, outputs: Outputs, labels: torch.Tensor) -> torch.Tensor:
    heads = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    return cross_entropy(heads[0].float(), labels)


def _bare_step(config: RunConfig, device: torch.device, objective: Objective) -> Callable[[], None]:
    model = start_model(config, device, Silent(), fresh=True).train()
    forward = torch.compile(model) if config.train.compile else model
    optimiser = make_optimiser(model, config.train)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(config, device))
    assert config.augment.crop is not None
    shape = (config.train.batch, 3, *config.augment.crop)
    images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(len(config.classes), (shape[0], *shape[2:]), device=device)

    def step() -> None:
        with autocast:
            outputs = forward(images)
        loss = objective(images, outputs, labels)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()

    return step


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _report(config: RunConfig, device: torch.device, rounds: list[list[float]]) -> None:
    batch = config.train.batch
    ours, bare, _ = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratios = [bare / ours for ours, bare, _ in rounds]
    answer = {
        "model": config.model.name,
        "device": str(device),
        "bf16": uses_bf16(config, device),
        "threads": torch.get_num_threads(),
        "batch": batch,
        "crop": config.augment.crop,
        "images_per_s": batch / ours,
        "bare_images_per_s": batch / bare,
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "ratio_same_loss": statistics.median(same / ours for ours, _, same in rounds),
        "rounds": len(rounds),
    }
    print(json.dumps(answer))
    share, same = (f"{answer[name]:.1%}" for name in ("ratio", "ratio_same_loss"))
    print(f"{share} of the bare loop, {same} of one with the same loss", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="edge-m")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--limit", type=float, default=1.0, help="share of the frames that is read")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of each loop in a round")
    parser.add_argument("--warm-up", type=int, default=5, help="steps before; on a GPU the fourth is recorded")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.FIELD=VALUE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
