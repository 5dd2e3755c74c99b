"""A small model, pictures and labelled data for builds that take a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeseg.core.types import U8
from edgeseg.deploy import candidates
from edgeseg.graph import save_model
from edgeseg.graph.sample import CLASSES, sample_model
from edgeseg.measure import WarmUpRule

SIZE = (72, 96)
COLOURS_BGR = ((30, 30, 220), (30, 220, 30), (220, 30, 30), (128, 128, 128))


def labelled(seed: int) -> tuple[U8, U8]:
    """A picture of coloured patches and its labels: what the sample model can tell apart."""
    rng = np.random.default_rng(seed)
    label = np.full(SIZE, 3, np.uint8)
    for _ in range(7):
        top, left = rng.integers(0, SIZE[0] - 20), rng.integers(0, SIZE[1] - 20)
        label[top : top + rng.integers(16, 40), left : left + rng.integers(16, 40)] = rng.integers(0, 4)
    picture = np.array(COLOURS_BGR, np.float32)[label] + rng.normal(0, 6, (*SIZE, 3))
    return np.clip(picture, 0, 255).astype(np.uint8), label


@pytest.fixture(autouse=True, scope="session")
def quick_timing() -> Iterator[None]:
    """The order of candidates is not what these tests are about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_SECONDS", 0.02)
        patch.setattr(candidates, "_WARM_UP", WarmUpRule(windows=2, window_calls=1, window_s=0.001, tolerance=10.0))
        yield


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx, data/ (a `folder:` data set with train and val) beside each other."""
    root = tmp_path_factory.mktemp("deploy")
    save_model(root / "model.onnx", sample_model(norm="batch"))
    for split, count in {"train": 20, "val": 6}.items():
        for kind in ("images", "masks"):
            (root / "data" / split / kind).mkdir(parents=True)
        for index in range(count):
            picture, label = labelled(index + 100 * (split == "val"))
            Image.fromarray(np.ascontiguousarray(picture[..., ::-1])).save(
                root / "data" / split / "images" / f"{index:03d}.png"
            )
            Image.fromarray(label).save(root / "data" / split / "masks" / f"{index:03d}.png")
    names = ", ".join(f'"{name}"' for name in CLASSES.names)
    (root / "data" / "classes.toml").write_text(f"names = [{names}]\n")
    return root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path / "cache"))
    return tmp_path
