"""Windows: frame and label are cut out together, and alike one by one and in a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeseg.train.config import AugmentConfig
from edgeseg.train.corpus import Corpus
from edgeseg.train.stack import FrameStack
from edgeseg.train.window import Window, cut, draw_window

from .conftest import SIZE


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_whole_frame_is_itself(corpus: Corpus) -> None:
    image, label = cut(corpus.images[0], corpus.labels[0], Window(0, 0, *SIZE, mirrored=False), SIZE, 255)
    assert torch.equal(image, corpus.images[0])
    assert torch.equal(label, corpus.labels[0])


def test_a_mirrored_window(corpus: Corpus) -> None:
    image, label = cut(corpus.images[0], corpus.labels[0], Window(2, 3, 8, 10, mirrored=True), (8, 10), 255)
    assert torch.equal(image, corpus.images[0][:, 2:10, 3:13].flip(-1))
    assert torch.equal(label, corpus.labels[0][2:10, 3:13].flip(-1))


def test_a_smaller_label_lies_under_its_picture() -> None:
    """The label's pixel is the one at the centre of what the picture averages: a mirror image stays one."""
    label = torch.zeros(30, 30, dtype=torch.uint8)
    label[:, 10:20] = 1  # columns 3 1/3 to 6 2/3 of ten
    label[:, 4] = label[:, 25] = 2
    image = label.expand(3, 30, 30).contiguous()
    _, small = cut(image, label, Window(0, 0, 30, 30, mirrored=False), (10, 10), 255)
    assert torch.equal(small, small.flip(-1))
    assert small[0].tolist() == [0, 2, 0, 1, 1, 1, 1, 0, 2, 0]


def test_outside_the_frame_nothing_is_labelled(corpus: Corpus) -> None:
    window = Window(-4, -6, SIZE[0] + 8, SIZE[1] + 12, mirrored=False)
    image, label = cut(corpus.images[0], corpus.labels[0], window, (window.height, window.width), 255)
    assert torch.equal(label[4:-4, 6:-6], corpus.labels[0])
    assert (label[:4] == 255).all()
    assert (label[:, -6:] == 255).all()
    assert torch.equal(image[:, 4:-4, 6:-6], corpus.images[0])
    assert torch.equal(image[:, 0, 6:-6], corpus.images[0][:, 0])


def test_windows_keep_to_the_scale_and_inside_where_they_fit() -> None:
    config = AugmentConfig(scale=(0.5, 2.0), aspect=1.0)
    crop = (16, 24)
    for seed in range(200):
        window = draw_window(rng(seed), SIZE, crop, config)
        assert crop[0] / window.height * 1.05 >= 0.5
        assert crop[0] / window.height <= 2.1
        for offset, length, frame in ((window.top, window.height, SIZE[0]), (window.left, window.width, SIZE[1])):
            low, high = sorted((0, frame - length))
            assert low <= offset <= high


@pytest.mark.parametrize("crop", [(16, 24), (40, 20), SIZE])
def test_a_batch_of_windows_is_cut_as_each_by_itself(corpus: Corpus, crop: tuple[int, int]) -> None:
    """Smaller, larger, mirrored, over every edge of the frame: the same labels, and grey levels but for a rounding."""
    stack = FrameStack.of(corpus)
    assert stack is not None
    config = AugmentConfig(scale=(0.3, 3.0), aspect=1.5)
    windows = [draw_window(rng(seed), SIZE, crop, config) for seed in range(60)]
    assert any(window.top < 0 for window in windows)
    assert any(window.height * 2 < crop[0] for window in windows)
    frames = [index % len(corpus) for index in range(len(windows))]
    images, labels = stack.cut(frames, windows, crop)
    assert images.permute(0, 2, 3, 1).is_contiguous()
    for index, (frame, window) in enumerate(zip(frames, windows, strict=True)):
        image, label = cut(corpus.images[frame], corpus.labels[frame], window, crop, 255)
        assert torch.equal(labels[index], label)
        assert (images[index].int() - image.int()).abs().max() <= 1


def test_frames_of_several_sizes_are_no_stack(corpus: Corpus) -> None:
    odd = Corpus(
        "train", corpus.classes, corpus.images, [corpus.labels[0], corpus.labels[1][:-2]], corpus.originals, ["a", "b"]
    )
    assert FrameStack.of(odd) is None
