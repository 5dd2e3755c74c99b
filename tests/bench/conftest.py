import numpy as np
import pytest

from edgeseg.bench import run, suite


def cheap_frames(size, progress, *, count=30, seed=7):
    """In place of rendered street scenes, which cost seconds: blocks of colour that differ from frame to frame."""
    del progress
    cells = np.random.default_rng(seed).integers(0, 255, (count, size[0] // 8 + 1, size[1] // 8 + 1, 3), dtype=np.uint8)
    return list(cells.repeat(8, 1).repeat(8, 2)[:, : size[0], : size[1]])


@pytest.fixture(autouse=True, scope="session")
def no_rendering():
    patch = pytest.MonkeyPatch()
    patch.setattr(run, "street_frames", cheap_frames)
    patch.setattr(suite, "street_frames", cheap_frames)
    yield
    patch.undo()
