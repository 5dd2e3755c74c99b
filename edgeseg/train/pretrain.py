"""Learning from frames without labels: an auto-encoder that gives the frame back, whole or from what is left of it.

The encoder's weights are what a later `train --init RUN` starts from. The decoder has no skips: through them a frame
would reach the output without passing the encoder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeseg.core.errors import DataError, RequestError
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import Size
from edgeseg.data import SCHEMES, open_dataset
from edgeseg.quant.frames import DatasetPool, FramePool, open_pool
from edgeseg.train.augment import Augmenter, normalise
from edgeseg.train.checkpoint import checkpoint_file
from edgeseg.train.config import DataConfig, PretrainConfig, RunConfig
from edgeseg.train.corpus import Corpus, frame_tensor
from edgeseg.train.parts import Outputs, Parts, Pictures
from edgeseg.train.plan import Purpose, generator
from edgeseg.train.record import PICTURES, spread
from edgeseg.train.request import RGB, TrainRequest, read_recipe, resolve
from edgeseg.train.run import open_folder, pick_device, resumed_config, start_model, train_parts
from edgeseg.train.world import check_batch, join_world


def pretrain(request: TrainRequest, progress: Progress) -> Path:
    """Pretrain, or go on with a broken run; see `edgeseg.train.pretrain_model`."""
    with join_world(request.device) as world:
        display = progress if world.leads else Silent()
        device = pick_device(request.device, world)
        config = resumed_config(request) if request.resume else _new_config(request)
        if config.pretrain is None:
            fix = f"edgeseg train --out {request.out} --resume"
            raise RequestError("the run learns from labels", value=request.out, allowed="a pretraining", fix=fix)
        check_batch(world, config.train.batch)
        train, held_out = read_frames(config, device, display)
        model = start_model(config, device, display, fresh=not checkpoint_file(request.out).is_file())
        parts = pretraining_parts(config, train, held_out)
        world.wait()
        if world.leads:
            open_folder(request.out, config, ())
        world.wait()
        train_parts(request.out, config, model, parts, display, world=world)
    return request.out


def pretraining_parts(config: RunConfig, train: Corpus, held_out: Corpus) -> Parts:
    """Put together a run that reconstructs frames."""
    assert config.pretrain is not None
    return Parts(HiddenFrames(train, config), reconstruction_loss, Reconstruction(config, held_out))


class HiddenFrames:
    """The feed of a reconstruction: augmented frames, of which patches may be hidden.

    Args:
        corpus: Frames.
        config: `pretrain` is set.
    """

    repeats: NDArray[np.float64] | None = None

    def __init__(self, corpus: Corpus, config: RunConfig) -> None:
        assert config.pretrain is not None
        self._corpus = corpus
        self._config = config.pretrain
        self._seed = config.train.seed
        stride = config.model.stride
        self._augmenter = Augmenter(corpus, config.augment, config.input, seed=self._seed, stride=stride)

    def __len__(self) -> int:
        return len(self._corpus)

    def batch(
        self, epoch: int, positions: Sequence[int], frames: Sequence[int], step: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Inputs [N, 3, h, w] with hidden patches at 0, the mean; targets [N, 4, h, w]: the frame, and what counts.

        With nothing hidden every pixel counts, else the hidden ones do (He et al., "Masked autoencoders", 2022).
        """
        images, _ = self._augmenter.batch(epoch, positions, frames, step)
        size = (images.shape[2], images.shape[3])
        rngs = [generator(self._seed, Purpose.MASK, epoch, position) for position in positions]
        hidden = torch.stack([draw_mask(rng, size, self._config) for rng in rngs]).to(images.device)
        counted = hidden if self._config.mask else torch.ones_like(hidden)
        return images * ~hidden, torch.cat([images, counted.to(images.dtype)], dim=1)


def draw_mask(rng: np.random.Generator, size: Size, config: PretrainConfig) -> Tensor:
    """Hidden pixels, bool [1, h, w]: a random `mask` share of the cells of a grid of `patch` pixels."""
    rows, columns = (math.ceil(side / config.patch) for side in size)
    cells = np.zeros(rows * columns, dtype=bool)
    cells[rng.permutation(rows * columns)[: round(config.mask * rows * columns)]] = True
    grid = torch.from_numpy(cells.reshape(1, rows, columns))
    return grid.repeat_interleave(config.patch, 1).repeat_interleave(config.patch, 2)[:, : size[0], : size[1]]


def reconstruction_loss(_inputs: Tensor, outputs: Outputs, targets: Tensor) -> Tensor:
    """Mean squared error of the normalised colours over the pixels that count."""
    found = outputs if isinstance(outputs, Tensor) else outputs[0]
    counted = targets[:, 3:]
    squares = (found.float() - targets[:, :3]).square() * counted
    return squares.sum() / (3 * counted.sum().clamp(min=1))


@dataclass(frozen=True)
class Reconstruction:
    """The judge of a reconstruction: whole frames that were not learned from.

    Attributes:
        config: Resolved.
        corpus: The frames.
    """

    config: RunConfig
    corpus: Corpus

    @torch.no_grad()
    def metrics(self, model: nn.Module) -> dict[str, object]:
        """Mean squared error of the normalised colours, and the peak signal-to-noise ratio in grey levels."""
        errors, levels, count = 0.0, 0.0, 0
        std = torch.tensor(self.config.input.std_rgb)[:, None, None]
        for image in self.corpus.images:
            difference = self._difference(model, image).cpu().double()
            errors += float(difference.square().sum())
            levels += float((difference * std).square().sum())
            count += difference.numel()
        psnr_db = 10 * math.log10(255**2 / max(levels / count, 1e-12))
        return {"val/mse": errors / count, "val/psnr_db": psnr_db}

    @torch.no_grad()
    def pictures(self, model: nn.Module) -> list[Pictures]:
        """Frame and reconstruction side by side."""
        rows = []
        std = torch.tensor(self.config.input.std_rgb)[:, None, None]
        for index in spread(len(self.corpus), PICTURES):
            image = self.corpus.images[index]
            again = image.cpu().float() + self._difference(model, image).cpu() * std
            rows.append(torch.cat([image.cpu(), again.round().clamp(0, 255).to(torch.uint8)], dim=2))
        return [Pictures("reconstruction", rows)]

    def _difference(self, model: nn.Module, image_chw: Tensor) -> Tensor:
        """Reconstruction minus frame, normalised, [3, H, W]."""
        height, width = image_chw.shape[1:]
        stride = self.config.model.stride
        padded = nnf.pad(image_chw[None].float(), (0, -width % stride, 0, -height % stride), mode="replicate")
        inputs = normalise(padded.contiguous(memory_format=torch.channels_last), self.config.input)
        difference: Tensor = (model(inputs) - inputs)[0, :, :height, :width]
        return difference


def read_frames(config: RunConfig, device: torch.device, progress: Progress) -> tuple[Corpus, Corpus]:
    """Frames to learn from and frames to judge on: the end of the drive, or all where `holdout` is 0.

    Raises:
        DataError: The source has too few frames to hold any out.
    """
    assert config.pretrain is not None
    pool = _open_pool(config.data)
    indices = [
        int(i) for i in np.unique(np.linspace(0, len(pool) - 1, min(len(pool), config.pretrain.frames), dtype=int))
    ]
    images: list[Tensor] = []
    with progress.task("read frames", len(indices)) as task:
        for frame in pool.read(indices):
            images.append(frame_tensor(frame.image_hwc, config.input.network_size, device))
            task.advance()
    held = round(len(images) * config.pretrain.holdout)
    if len(images) - held < 1 or (config.pretrain.holdout and not held):
        raise DataError("too few frames to pretrain on", value=f"{pool.name}: {len(images)}", allowed="at least 10")
    if not held:
        return _unlabelled("train", images), _unlabelled("val", images)
    # not every tenth frame: its neighbours would be in training
    return _unlabelled("train", images[:-held]), _unlabelled("val", images[-held:])


def _open_pool(data: DataConfig) -> FramePool:
    if data.train.partition(":")[0] in SCHEMES:
        return DatasetPool(open_dataset(data.train, data.split))
    return open_pool(data.train)


def _unlabelled(name: str, images: list[Tensor]) -> Corpus:
    nothing = torch.full((1, 1), RGB.ignore_id, dtype=torch.uint8, device=images[0].device)
    labels = [nothing.expand(image.shape[1], image.shape[2]) for image in images]
    return Corpus(name, RGB, images, labels, labels, [f"{index:06d}" for index in range(len(images))])


def _new_config(request: TrainRequest) -> RunConfig:
    recipe = read_recipe(request)
    pool = _open_pool(recipe.data)
    first = next(pool.read([0])).image_hwc
    return resolve(
        recipe,
        request,
        classes=RGB,
        frame_size=(first.shape[0], first.shape[1]),
        model_fields={"skip": "none", "aux_heads": 0},
        pretrain=PretrainConfig() if recipe.pretrain is None else recipe.pretrain,
    )
