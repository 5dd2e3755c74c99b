"""Fixtures that several rooms share: real data where it is present, and small data sets that need none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def log_as_at_import() -> None:
    """Commands that ran in this process before (`--quiet`) must not decide what a test's log holds."""
    logger = logging.getLogger("edgeseg")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def camvid_dir() -> Path:
    folder = SHARED / "camvid"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/camvid")
    return folder


@pytest.fixture(scope="session")
def dashcam_file() -> Path:
    file = SHARED / "video" / "dashcam_highway_960x540.mp4"
    if not file.is_file():
        pytest.skip("needs ../shared/data/video/dashcam_highway_960x540.mp4")
    return file


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a valid `folder:` data set of three classes, for a test to damage."""

    def make(frames: int = 3, size: tuple[int, int] = (24, 32), split: str = "train", name: str = "set") -> Path:
        root = tmp_path / name
        rng = np.random.default_rng(frames)
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        (root / "classes.toml").write_text('names = ["road", "person", "tree"]\n')
        for index in range(frames):
            image = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
            mask = rng.integers(0, 3, size, dtype=np.uint8)
            mask[0, 0] = 255
            Image.fromarray(image).save(root / split / "images" / f"{index:03d}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{index:03d}.png")
        return root

    return make


@pytest.fixture(scope="session")
def street_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small rendered data set on disk, splits train and val of 8 frames; not to be written into."""
    from edgeseg.data import open_dataset, write_folder

    out = tmp_path_factory.mktemp("street") / "folder"
    spec = "street:seed=6,frames=8,size=72x96,step_m=23"
    write_folder(out, {split: open_dataset(spec, split) for split in ("train", "val")})
    return out
