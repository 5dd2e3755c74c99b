"""A tiny labelled data set in memory and on disk, and a network that trains on it in a second."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from PIL import Image

from edgeseg.core.types import Classes, Sample
from edgeseg.train.corpus import Corpus, read_corpus

CLASSES = Classes(names=("ground", "box", "sky"), palette_rgb=((90, 60, 30), (200, 30, 30), (120, 160, 220)))
SIZE = (24, 32)

TINY: dict[str, object] = {
    "stem": "patch2",
    "widths": [4, 8],
    "depths": [1, 1],
    "decoder_widths": [4],
    "decoder_depths": [1],
    "decoder_blocks": ["convnext"],
    "kernel": 3,
    "drop_path": 0.2,
}


class Boxes:
    """Frames of ground, sky and a box at a place that follows from the index."""

    name = "boxes:"
    classes = CLASSES

    def __init__(self, split: str = "train", count: int = 10, size: tuple[int, int] = SIZE) -> None:
        self.split = split
        self._count = count
        self._size = size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([index, self.split == "train"])
        height, width = self._size
        label = np.zeros(self._size, np.uint8)
        label[: height // 3] = 2
        top, left = rng.integers(4, height // 2), rng.integers(0, width // 2)
        label[top : top + height // 3, left : left + width // 3] = 1
        palette = np.array(CLASSES.palette_rgb, np.int64)[:, ::-1]
        image = np.clip(palette[label] + rng.integers(-20, 20, (*self._size, 3)), 0, 255).astype(np.uint8)
        label[-2:] = 255
        return Sample(name=f"{index:03d}", image_hwc=image, label_hw=label)


@pytest.fixture
def corpus() -> Corpus:
    """The boxes in memory."""
    return read_corpus(Boxes(), "train", network_size=None)


@pytest.fixture(scope="session")
def folder_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A `folder:` data set of boxes with the splits train and val; not to be written to."""
    root = tmp_path_factory.mktemp("boxes")
    for split, count in (("train", 10), ("val", 4)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            sample = Boxes(split)[index]
            Image.fromarray(sample.image_hwc[:, :, ::-1]).save(root / split / "images" / f"{sample.name}.png")
            Image.fromarray(sample.label_hw).save(root / split / "masks" / f"{sample.name}.png")
    (root / "classes.toml").write_text('names = ["ground", "box", "sky"]\n', encoding="utf-8")
    return f"folder:{root}"


def tiny_overrides(data: str, **train: object) -> Mapping[str, Mapping[str, object]]:
    """Overrides of a run that takes a second."""
    return {
        "data": {"train": data},
        "model": TINY,
        "train": {
            "epochs": 3,
            "batch": 4,
            "warmup_epochs": 1.0,
            "threads": 1,
            "precision": "fp32",
            "checkpoint_minutes": 0.0,
            **train,
        },
        "augment": {"crop": [16, 24]},
        "loss": {"dice": 0.5, "lovasz": 0.5, "region_pixels": 200, "class_weights": "sqrt"},
    }


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors are slower on many threads."""
    torch.set_num_threads(1)
