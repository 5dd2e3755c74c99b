"""Weather, lens and sensor: each effect does what it says, and a recipe without them changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeseg.train.config import AugmentConfig
from edgeseg.train.effects import Effects, _together, apply_effects, draw_effects


@pytest.fixture
def batch() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    flat = torch.randint(40, 200, (2, 24, 32, 3), generator=generator, dtype=torch.uint8)
    return flat.permute(0, 3, 1, 2)


def test_nothing_drawn_is_nothing_done(batch: torch.Tensor) -> None:
    drawn = [draw_effects(np.random.default_rng(seed), AugmentConfig()) for seed in range(2)]
    assert apply_effects(batch, drawn) is batch


def test_draws_do_not_shift_with_the_recipe() -> None:
    """The draw that follows is the same whether effects are on or off."""
    nexts = []
    for config in (AugmentConfig(), AugmentConfig(blur=1.0, noise=1.0, weather=1.0, gamma=0.3)):
        rng = np.random.default_rng(7)
        draw_effects(rng, config)
        nexts.append(rng.random())
    assert nexts[0] == nexts[1]


@pytest.mark.parametrize(
    ("effect", "check"),
    [
        (Effects(blur_sigma_px=1.5), lambda old, new: new.std() < 0.6 * old.std()),
        (Effects(gamma=1.5), lambda old, new: new.mean() < old.mean() - 10),
        (Effects(noise=10.0), lambda old, new: 8 < (new - old).std() < 12),
        (
            Effects(fog=0.6),
            lambda old, new: (new[:, 0].std() < new[:, -1].std()) and new[:, 0].mean() > old[:, 0].mean(),
        ),
        (Effects(glare=0.9, glare_at=(0.0, 0.5)), lambda old, new: (new[:, 0, 16] - old[:, 0, 16]).min() > 30),
        (Effects(rain=0.2), lambda old, new: ((new - old) >= 0).all() and 0 < (new != old).float().mean() < 0.5),
    ],
)
def test_each_effect(batch: torch.Tensor, effect: Effects, check: object) -> None:
    before = batch.clone()
    after = apply_effects(batch, [effect, Effects()])
    assert torch.equal(batch, before)
    assert torch.equal(after[1], batch[1])
    assert after.dtype == torch.uint8
    assert after.stride() == batch.stride()
    assert callable(check)
    assert check(batch[0].float(), after[0].float())


def test_noise_is_the_same_for_the_same_draw(batch: torch.Tensor) -> None:
    effects = [Effects(noise=5.0, noise_seed=3)] * 2
    assert torch.equal(apply_effects(batch, effects), apply_effects(batch, effects))


def test_a_batch_on_a_gpu_is_changed_as_each_frame_by_itself() -> None:
    """The operators of the GPU's path, on a CPU: a grey level apart at most, where a rounding falls the other way."""
    config = AugmentConfig(blur=0.5, noise=0.4, weather=0.6, gamma=0.3)
    drawn = [draw_effects(np.random.default_rng(seed), config) for seed in range(24)]
    drawn += [Effects(), Effects(blur_sigma_px=0.4), Effects(blur_sigma_px=2.0, fog=0.3, gamma=0.8)]
    assert any(e.rain for e in drawn)
    assert any(e.glare for e in drawn)
    flat = torch.randint(0, 256, (len(drawn), 24, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = flat.permute(0, 3, 1, 2)
    together = _together(images, drawn)
    one_by_one = apply_effects(images, drawn)
    assert together.stride() == images.stride()
    assert (together.int() - one_by_one.int()).abs().max() <= 1
    assert (together != one_by_one).float().mean() < 0.01
    assert torch.equal(images, flat.permute(0, 3, 1, 2))
