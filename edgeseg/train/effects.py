"""Weather, lens and sensor: changes of a frame that are not affine in colour, each with a probability of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from edgeseg.train.config import AugmentConfig
from edgeseg.train.corpus import send

_FOG_RGB = (205.0, 208.0, 212.0)


@dataclass(frozen=True)
class Effects:
    """What was drawn for one frame; 0 leaves a thing out.

    Attributes:
        blur_sigma_px: Standard deviation of a Gaussian blur.
        gamma: Exponent of the tone curve; 1 changes nothing.
        noise: Standard deviation of the sensor's noise, in 0..255.
        noise_seed: Of that noise.
        fog: Share of fog at the top of the frame, where the distance is; it thins out towards the bottom.
        glare: Strength of a bright disc, in 0..1.
        glare_at: Its centre, as shares of height and width.
        rain: Share of the columns that carry a streak.
    """

    blur_sigma_px: float = 0.0
    gamma: float = 1.0
    noise: float = 0.0
    noise_seed: int = 0
    fog: float = 0.0
    glare: float = 0.0
    glare_at: tuple[float, float] = (0.0, 0.0)
    rain: float = 0.0


def draw_effects(rng: np.random.Generator, config: AugmentConfig) -> Effects:
    """Draw one frame's effects; the number of draws does not depend on the config, so that recipes stay comparable."""
    blur, noise, weather = (float(rng.random()) for _ in range(3))
    strengths = rng.random(6)
    drawn = int(rng.integers(3))
    kind = drawn if weather < config.weather else -1
    return Effects(
        blur_sigma_px=0.3 + 1.7 * strengths[0] if blur < config.blur else 0.0,
        gamma=float(np.exp((2 * strengths[1] - 1) * config.gamma)),
        noise=2 + 14 * strengths[2] if noise < config.noise else 0.0,
        noise_seed=int(rng.integers(2**31)),
        fog=0.2 + 0.5 * strengths[3] if kind == 0 else 0.0,
        glare=0.3 + 0.6 * strengths[3] if kind == 1 else 0.0,
        glare_at=(0.6 * float(strengths[4]), float(strengths[5])),
        rain=0.02 + 0.08 * strengths[3] if kind == 2 else 0.0,
    )


def apply_effects(images_nchw: Tensor, effects: Sequence[Effects]) -> Tensor:
    """Apply each frame's effects to a batch.

    Args:
        images_nchw: uint8 [N, 3, H, W] RGB, channels-last memory.
        effects: One per frame.

    Returns:
        uint8 of the same shape and memory; the argument itself where no frame has an effect.
    """
    wanted = [i for i, e in enumerate(effects) if e != Effects(noise_seed=e.noise_seed, glare_at=e.glare_at)]
    if not wanted:
        return images_nchw
    if images_nchw.device.type != "cpu":
        return _together(images_nchw, effects)
    changed = images_nchw.clone()
    for index in wanted:
        changed[index] = _one(images_nchw[index], effects[index])
    return changed


def _together(images_nchw: Tensor, effects: Sequence[Effects]) -> Tensor:
    """What `_one` gives for each frame, by a few operators for all: a GPU waits for the launches of many small ones."""
    device = images_nchw.device
    height, width = images_nchw.shape[2:]
    pixels = images_nchw.float()
    foggy = [i for i, e in enumerate(effects) if e.fog]
    if foggy:
        strength = send([effects[i].fog for i in foggy], device)[:, None, None, None]
        rows = strength * torch.linspace(1, 0.2, height, device=device)[:, None]
        at = send(foggy, device)
        pixels[at] = pixels[at] * (1 - rows) + send(_FOG_RGB, device)[:, None, None] * rows
    for index, effect in enumerate(effects):  # one frame in thirty each
        if effect.glare:
            pixels[index] += 255 * effect.glare * _disc(height, width, effect.glare_at, device)
        if effect.rain:
            pixels[index] += _streaks(height, width, effect, device)
    blurred = [i for i, e in enumerate(effects) if e.blur_sigma_px]
    if blurred:
        at = send(blurred, device)
        pixels[at] = _blur(pixels[at], [effects[i].blur_sigma_px for i in blurred])
    if any(effect.gamma != 1.0 for effect in effects):
        exponents = send([effect.gamma for effect in effects], device)[:, None, None, None]
        toned = 255 * (pixels.clamp(0, 255) / 255) ** exponents
        pixels = torch.where(exponents == 1.0, pixels, toned)
    for index, effect in enumerate(effects):
        if effect.noise:
            pixels[index] += _noise(effect, pixels[index])
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


def _blur(pixels: Tensor, sigmas_px: Sequence[float]) -> Tensor:
    """A Gaussian blur of its own for each frame, cut off at two sigmas, edges mirrored: float32 [N, 3, H, W]."""
    count, colours, height, width = pixels.shape
    sigma = send(sigmas_px, pixels.device)[:, None]
    reach = int(np.ceil(2 * max(sigmas_px)))
    offset = torch.arange(-reach, reach + 1, device=pixels.device)
    taps = torch.exp(-0.5 * (offset / sigma) ** 2) * (offset.abs() <= (2 * sigma).ceil())
    taps = (taps / taps.sum(dim=1, keepdim=True)).repeat_interleave(colours, dim=0)[:, None]  # [N * 3, 1, taps]
    planes = pixels.reshape(1, count * colours, height, width)
    planes = nnf.pad(planes, (reach, reach, reach, reach), mode="reflect")
    planes = nnf.conv2d(planes, taps[..., None, :], groups=count * colours)
    return nnf.conv2d(planes, taps[..., None], groups=count * colours).reshape(pixels.shape)


def _noise(effect: Effects, like: Tensor) -> Tensor:
    generator = torch.Generator(like.device).manual_seed(effect.noise_seed)
    return effect.noise * torch.randn(like.shape, generator=generator, device=like.device)


def _one(image_chw: Tensor, effect: Effects) -> Tensor:
    pixels = image_chw.float()
    height, width = pixels.shape[1:]
    if effect.fog:
        rows = torch.linspace(effect.fog, effect.fog * 0.2, height, device=pixels.device)[:, None]
        pixels = pixels * (1 - rows) + pixels.new_tensor(_FOG_RGB)[:, None, None] * rows
    if effect.glare:
        pixels = pixels + 255 * effect.glare * _disc(height, width, effect.glare_at, pixels.device)
    if effect.rain:
        pixels = pixels + _streaks(height, width, effect, pixels.device)
    if effect.blur_sigma_px:
        side = 2 * int(np.ceil(2 * effect.blur_sigma_px)) + 1
        pixels = tvf.gaussian_blur(pixels, [side, side], [effect.blur_sigma_px, effect.blur_sigma_px])
    if effect.gamma != 1.0:
        pixels = 255 * (pixels.clamp(0, 255) / 255) ** effect.gamma
    if effect.noise:
        pixels = pixels + _noise(effect, pixels)
    return pixels.round().clamp(0, 255).to(torch.uint8)


def _disc(height: int, width: int, at: tuple[float, float], device: torch.device) -> Tensor:
    y = torch.arange(height, device=device)[:, None] / height - at[0]
    x = torch.arange(width, device=device)[None] / width - at[1]
    return torch.exp(-(y**2 + x**2) / (2 * 0.15**2))


def _streaks(height: int, width: int, effect: Effects, device: torch.device) -> Tensor:
    """Slanted bright lines: columns of random phase, shifted row by row."""
    generator = torch.Generator(device).manual_seed(effect.noise_seed)
    on = torch.rand(width + height // 4, generator=generator, device=device) < effect.rain
    length = torch.rand(width + height // 4, generator=generator, device=device)
    y = torch.arange(height, device=device)[:, None]
    column = torch.arange(width, device=device)[None] + y // 4
    drop = ((y / height * 3 + length[column] * 7) % 1.0) < 0.35
    return (on[column] & drop).float() * 60
