"""What lies in calibration/ can be used as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg.data.spec import parse_street
from edgeseg.quant.frames import choose_frames, open_pool
from edgeseg.quant.recipe import load_recipe

FOLDER = Path(__file__).resolve().parents[2] / "calibration"


@pytest.mark.parametrize("recipe", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_is_valid(recipe: Path) -> None:
    loaded = load_recipe(str(recipe))
    scheme, _, rest = loaded.frames.partition(":")
    assert loaded.description
    assert scheme in ("street", "camvid")
    if scheme == "street":
        assert parse_street(rest).frames >= loaded.count


def test_the_small_frame_set_is_small_and_enough() -> None:
    frames = FOLDER / "frames-street"
    files = sorted(frames.iterdir())
    assert 8 <= len(files) <= 12
    assert sum(file.stat().st_size for file in files) < 1_500_000
    choice = choose_frames(open_pool(str(frames)), count=len(files))
    assert len(choice.indices) == len(files), "every frame is distinct and shows something"
