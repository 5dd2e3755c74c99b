"""A data set decoded once into memory as uint8, ready to be cropped, scaled and recoloured in batches."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from edgeseg.core.errors import DataError
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import U8, Classes, Dataset, Sample, Size

_READERS = 4  # decoding releases the interpreter lock; more readers than this wait for the disk


@dataclass(frozen=True)
class Corpus:
    """Labelled frames in memory, all on one device.

    Attributes:
        name: Split, as metrics name it: `train`, `dev`, `val`.
        classes: Vocabulary of the labels.
        images: Per frame uint8 [3, H, W], RGB, channels-last memory, at network size.
        labels: Per frame uint8 [H, W] at the size of the image; the ignore id where unlabelled.
        originals: Per frame the label at its own size (what validation is measured on).
        names: Per frame its name.
    """

    name: str
    classes: Classes
    images: Sequence[Tensor]
    labels: Sequence[Tensor]
    originals: Sequence[Tensor]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)

    @functools.cached_property
    def pixels(self) -> Tensor:
        """Labelled pixels of each class in each frame, int64 [frames, classes]."""
        rows = [torch.bincount(label.flatten(), minlength=256)[: len(self.classes)] for label in self.labels]
        return torch.stack(rows).cpu()

    def histogram(self) -> Tensor:
        """Labelled pixels of each class, int64 [classes]."""
        return self.pixels.sum(dim=0)


def read_corpus(
    dataset: Dataset,
    name: str,
    *,
    network_size: Size | None,
    share: float = 1.0,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Decode a data set.

    Args:
        dataset: Frames and labels.
        name: Name of the split in metrics.
        network_size: Size that the network sees; frames of another size are resized (antialiased), labels by nearest.
            None keeps each frame as it is.
        share: Share of the frames to use, evenly spaced.
        device: Where the tensors live.
        progress: Display.

    Raises:
        DataError: A frame cannot be read, or no frame is left.
    """
    images: list[Tensor] = []
    labels: list[Tensor] = []
    originals: list[Tensor] = []
    names: list[str] = []
    count = len(dataset)
    wanted = np.unique(np.linspace(0, count - 1, max(1, round(count * share)), dtype=int))
    with (
        ThreadPoolExecutor(_READERS) as readers,
        (progress or Silent()).task(f"read {name}", len(wanted)) as task,
    ):
        for sample in readers.map(lambda index: dataset[int(index)], wanted):
            task.advance()
            image, label, original = _tensors(sample, network_size, device)
            images.append(image)
            labels.append(label)
            originals.append(original)
            names.append(sample.name)
    if not images:
        raise DataError(f"no frames are left for the split {name}", value=dataset.name, allowed="at least one frame")
    return Corpus(name, dataset.classes, images, labels, originals, names)


def frame_tensor(image_hwc: U8, size: Size | None, device: torch.device | None) -> Tensor:
    """A frame uint8 [H, W, 3] BGR as uint8 [3, h, w] RGB in channels-last memory, antialiased where resized."""
    rgb = np.ascontiguousarray(image_hwc[:, :, ::-1])
    image = torch.from_numpy(rgb).to(device).permute(2, 0, 1)
    if size is None or tuple(image.shape[1:]) == tuple(size):
        return image
    image = tvf.resize(image, list(size), InterpolationMode.BILINEAR, antialias=True)
    packed: Tensor = image.permute(1, 2, 0).contiguous()
    return packed.permute(2, 0, 1)


def send(values: NDArray[np.generic] | Sequence[object], device: torch.device) -> Tensor:
    """A small tensor of a step on its device, floats as float32, without waiting for what is under way there."""
    tensor = torch.as_tensor(values)
    return tensor.to(device, torch.float32 if tensor.is_floating_point() else tensor.dtype, non_blocking=True)


def _tensors(sample: Sample, size: Size | None, device: torch.device | None) -> tuple[Tensor, Tensor, Tensor]:
    image = frame_tensor(sample.image_hwc, size, device)
    original = torch.from_numpy(np.ascontiguousarray(sample.label_hw)).to(device)
    if image.shape[1:] == original.shape:
        return image, original, original
    label = tvf.resize(original[None], list(image.shape[1:]), InterpolationMode.NEAREST_EXACT)[0]
    return image, label, original
