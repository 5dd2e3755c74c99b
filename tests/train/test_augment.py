"""Augmentation: geometry keeps frame and label together; colour is what torchvision's functions say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

from edgeseg.model import InputConfig
from edgeseg.train.augment import Augmenter, apply_colour, draw_colour, normalise
from edgeseg.train.config import AugmentConfig
from edgeseg.train.corpus import Corpus, read_corpus

from .conftest import CLASSES, SIZE, Boxes

PLAIN = InputConfig(mean_rgb=(0.0, 0.0, 0.0), std_rgb=(1.0, 1.0, 1.0), network_size=SIZE)
STILL = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_normalise_is_mean_and_std(corpus: Corpus) -> None:
    config = InputConfig(mean_rgb=(10.0, 20.0, 30.0), std_rgb=(2.0, 4.0, 8.0), network_size=SIZE)
    batch = torch.stack(list(corpus.images[:2]))
    mean, std = torch.tensor(config.mean_rgb)[:, None, None], torch.tensor(config.std_rgb)[:, None, None]
    result = normalise(batch.contiguous(memory_format=torch.channels_last), config)
    torch.testing.assert_close(result, (batch.float() - mean) / std)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_no_strength_is_no_change() -> None:
    found = draw_colour(rng(), AugmentConfig(**STILL), (120.0, 115.0, 105.0))
    np.testing.assert_allclose(found, np.column_stack([np.eye(3), np.zeros(3)]), atol=1e-12)


@pytest.mark.parametrize("name", ["brightness", "saturation"])
def test_colour_agrees_with_torchvision(corpus: Corpus, name: str) -> None:
    """One strength at a time, on floats away from the clamp that torchvision has and the affine map has not."""
    config = AugmentConfig(**{**STILL, name: 0.2})
    image = (corpus.images[0].float() / 255 * 0.5 + 0.2).double()
    factor = 1 + np.random.default_rng(4).uniform(-0.2, 0.2, 3)[["brightness", "contrast", "saturation"].index(name)]
    adjust = {"brightness": tvf.adjust_brightness, "saturation": tvf.adjust_saturation}[name]
    found = draw_colour(rng(4), config, (120.0, 115.0, 105.0))
    ours = torch.from_numpy(found[:, :3]) @ image.flatten(1) + torch.from_numpy(found[:, 3:])
    # torchvision rounds its luma weights to four digits
    torch.testing.assert_close(ours.reshape(image.shape), adjust(image, float(factor)), atol=2e-4, rtol=0)


def test_hue_turns_colours_and_keeps_grey_and_luma() -> None:
    found = draw_colour(rng(1), AugmentConfig(**{**STILL, "hue": 0.2}), (120.0, 115.0, 105.0))
    grey, red = np.array([90.0, 90.0, 90.0, 1.0]), np.array([200.0, 40.0, 40.0, 1.0])
    np.testing.assert_allclose(found @ grey, grey[:3], atol=1e-9)
    luma = np.array([0.299, 0.587, 0.114])
    assert luma @ (found @ red) == pytest.approx(luma @ red[:3])
    assert np.abs(found @ red - red[:3]).max() > 5


def test_a_batch_is_the_same_however_it_is_shared_out(corpus: Corpus) -> None:
    augmenter = Augmenter(corpus, AugmentConfig(crop=(16, 24)), PLAIN, seed=3)
    images, labels = augmenter.batch(2, [4, 5, 6, 7], [1, 2, 3, 0])
    odd_images, odd_labels = augmenter.batch(2, [5, 7], [2, 0])
    assert torch.equal(images[1::2], odd_images)
    assert torch.equal(labels[1::2], odd_labels)
    assert images.shape == (4, 3, 16, 24)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.dtype == torch.int64
    other, _ = augmenter.batch(3, [4, 5, 6, 7], [1, 2, 3, 0])
    assert not torch.equal(images, other)


def test_colour_maps_apply_to_their_own_frame(corpus: Corpus) -> None:
    same = np.column_stack([np.eye(3), np.zeros(3)])
    darker = same * 0.5
    batch = torch.stack(list(corpus.images[:2])).contiguous(memory_format=torch.channels_last)
    result = apply_colour(batch, [same, darker], PLAIN)
    torch.testing.assert_close(result[0], batch[0].float())
    torch.testing.assert_close(result[1], batch[1].float() / 2)


def test_frames_of_another_size_come_to_network_size() -> None:
    corpus = read_corpus(Boxes(size=(48, 64)), "train", network_size=SIZE)
    assert corpus.images[0].shape == (3, *SIZE)
    assert corpus.labels[0].shape == SIZE
    assert corpus.originals[0].shape == (48, 64)
    assert set(corpus.labels[0].unique().tolist()) <= {0, 1, 2, 255}
    assert corpus.images[0].permute(1, 2, 0).is_contiguous()


def test_a_share_of_the_frames_is_spread_evenly() -> None:
    corpus = read_corpus(Boxes(count=10), "train", network_size=None, share=0.3)
    assert list(corpus.names) == ["000", "004", "009"]
    assert corpus.histogram().shape == (len(CLASSES),)
    assert int(corpus.histogram().sum()) == 3 * (SIZE[0] - 2) * SIZE[1]
