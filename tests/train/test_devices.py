"""Every tensor of a training step and of a validation lives on the run's device, seen without a GPU.

torch's fake tensors know shapes, types and devices and hold no data: an operation between two devices raises, as it
would on a GPU, and so does anything that would look at a value. The figures are not computed, so nothing here says
that a step is right; the other tests do, on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from edgeseg.core.types import Classes
from edgeseg.model import InputConfig, build_model, preset
from edgeseg.model.network import SegModel
from edgeseg.train.augment import Augmenter
from edgeseg.train.config import AugmentConfig, LossConfig, TrainConfig
from edgeseg.train.corpus import Corpus, frame_tensor
from edgeseg.train.distill import attention_distance, divergence
from edgeseg.train.effects import Effects, apply_effects
from edgeseg.train.loss import SegmentationLoss, dice_loss, lovasz_softmax
from edgeseg.train.optimiser import AveragedModel, make_optimiser
from edgeseg.train.validate import predict

GPU = torch.device("cuda", 0)
CLASSES = Classes(names=("road", "car", "person"), palette_rgb=((1, 2, 3), (4, 5, 6), (7, 8, 9)))
INPUT = InputConfig(network_size=(64, 96))


@pytest.fixture
def on_gpu() -> Iterator[Any]:
    """A function that puts a module's parameters on a GPU that is not there; inside it every new tensor is fake."""
    with FakeTensorMode() as mode:

        def move(model: nn.Module) -> nn.Module:
            for module in model.modules():
                for table in (module._parameters, module._buffers):
                    for name, tensor in table.items():
                        if tensor is None:
                            continue
                        empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=GPU)
                        table[name] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
            return model

        yield move
        del mode


def corpus() -> Corpus:
    images = [torch.empty(64, 96, 3, dtype=torch.uint8, device=GPU).permute(2, 0, 1) for _ in range(2)]
    labels = [torch.empty(64, 96, dtype=torch.uint8, device=GPU) for _ in range(2)]
    return Corpus("train", CLASSES, images, labels, labels, ["a", "b"])


def augmented(**changes: Any) -> tuple[Tensor, Tensor]:
    config = msgspec.structs.replace(AugmentConfig(crop=(64, 64), class_mix=0.0), **changes)
    return Augmenter(corpus(), config, INPUT, seed=0).batch(0, [0, 1], [0, 1])


@pytest.mark.parametrize("name", ["edge-s", "edge-m"])
def test_a_step_stays_on_its_device(on_gpu: Any, name: str) -> None:
    model = preset(name)
    built = build(on_gpu, msgspec.structs.replace(model, aux_heads=1, drop_path=0.1))
    inputs, labels = augmented()
    assert (inputs.device, labels.device) == (GPU, GPU)
    weights = torch.ones(len(CLASSES), device=GPU)
    config = LossConfig(dice=0.5, lovasz=0.5, hard_share=1.0, label_smoothing=0.1)  # hard pixels look at values
    outputs = built.train()(inputs)
    loss = SegmentationLoss(config, 255, weights)(outputs, labels)
    assert loss.device == GPU
    for parameter in built.parameters():  # torch's own backward asks for a real device
        parameter.grad = torch.empty_like(parameter)
    nn.utils.clip_grad_norm_(built.parameters(), 1.0)
    optimiser = make_optimiser(built, TrainConfig())
    optimiser.step()
    for state in optimiser.state.values():
        assert {value.device for value in state.values()} == {GPU}  # the fused step takes no number from the host


def build(on_gpu: Any, config: Any) -> nn.Module:
    moved: nn.Module = on_gpu(SegModel(config, len(CLASSES)))
    return moved


def test_the_average_and_a_validation_stay_on_their_device(on_gpu: Any) -> None:
    model = build(on_gpu, preset("edge-s"))
    average = AveragedModel.__new__(AveragedModel)
    average.module, average._decay = build(on_gpu, preset("edge-s")).eval().requires_grad_(False), 0.99
    average._follows(model)
    average.update(3)
    with torch.no_grad():
        mask = predict(average.module, corpus().images[0], 4, INPUT)
    assert (mask.device, mask.dtype) == (GPU, torch.uint8)


@pytest.mark.parametrize(
    "effect",
    [
        Effects(fog=0.5),
        Effects(glare=0.5, glare_at=(0.2, 0.3)),
        Effects(blur_sigma_px=1.2),
        Effects(gamma=1.4),
        Effects(fog=0.2, glare=0.3, gamma=0.8),
    ],
)
def test_weather_is_drawn_on_the_frames_own_device(on_gpu: Any, effect: Effects) -> None:
    images = torch.empty(2, 64, 96, 3, dtype=torch.uint8, device=GPU).permute(0, 3, 1, 2)
    assert apply_effects(images, [effect, effect]).device == GPU


def test_terms_of_the_loss_stay_on_their_device(on_gpu: Any) -> None:
    p = torch.empty(50, 3, device=GPU)
    labels = torch.zeros(50, dtype=torch.int64, device=GPU)
    assert dice_loss(p, labels).device == GPU
    assert lovasz_softmax(p, labels).device == GPU
    features = torch.empty(2, 8, 4, 6, device=GPU)
    assert attention_distance(features, features).device == GPU
    assert divergence(p, p, 2.0).device == GPU


def test_a_frame_is_resized_where_it_lives(on_gpu: Any) -> None:
    image = frame_tensor(np.zeros((72, 104, 3), np.uint8), (64, 96), GPU)
    assert (image.device, tuple(image.shape)) == (GPU, (3, 64, 96))


def test_two_devices_are_seen() -> None:
    """The test of the tests: a host tensor among the device's raises."""
    with FakeTensorMode(), pytest.raises(RuntimeError, match="device"):
        _ = torch.zeros(3, device=GPU) + torch.zeros(3)


def test_no_step_of_ours_names_the_host() -> None:
    """`.cpu()`, `.numpy()`, `.item()` and `.tolist()` wait for the GPU: each place that has one is known."""
    folder = Path(build_model.__code__.co_filename).parents[1] / "train"
    allowed = {
        *("checkpoint.py", "record.py", "supervised.py", "validate.py"),  # files, pictures, scores: once an epoch
        *("corpus.py", "pretrain.py", "augment.py", "loop.py"),  # once a run, once an epoch, or between processes
        *("fine_tune.py", "qat.py"),  # graphs in and out
    }
    waiting = (".cpu()", ".numpy()", ".item()", ".tolist()")
    found = {file.name for file in folder.glob("*.py") if any(word in file.read_text() for word in waiting)}
    assert found <= allowed
