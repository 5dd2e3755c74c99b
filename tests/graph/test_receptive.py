from __future__ import annotations

import numpy as np

from edgeseg.graph import fix_frame_size
from edgeseg.graph.geometry import PIXELS, SCORES
from edgeseg.graph.ir import FLOAT, Graph, Value, from_model
from edgeseg.graph.receptive import receptive_field
from edgeseg.graph.sample import sample_model


def _chain(*layers: tuple[str, int, int]) -> Graph:
    graph = Graph(
        inputs=[Value(PIXELS, FLOAT, ("n", 3, "h", "w"))],
        outputs=[Value(SCORES, FLOAT, ("n", 3, "h", "w"))],
    )
    x = PIXELS
    for index, (op, kernel, stride) in enumerate(layers):
        name = SCORES if index == len(layers) - 1 else f"layer{index}"
        x = graph.add(op, [x], name, kernel_shape=[kernel] * 2, strides=[stride] * 2)
    return graph


def test_known_stacks():
    assert receptive_field(_chain(("Conv", 3, 1))) == (3, 3)
    assert receptive_field(_chain(("Conv", 3, 1), ("Conv", 3, 1))) == (5, 5)
    assert receptive_field(_chain(("Conv", 4, 4), ("Conv", 7, 1))) == (28, 28)
    assert receptive_field(_chain(("Conv", 2, 2), ("MaxPool", 2, 2), ("Conv", 3, 1))) == (12, 12)
    assert receptive_field(_chain(("Conv", 4, 4), ("ConvTranspose", 2, 2), ("Conv", 3, 1))) == (8, 8)


def test_no_pixel_outside_the_field_changes_the_logits(run):
    model = fix_frame_size(sample_model(), (144, 144))
    height, width = receptive_field(from_model(model))
    assert height == width
    black = np.zeros((1, 144, 144, 3), np.uint8)
    before = run(model, black, "scores")["scores"][0, :, 72, 72]
    outside, inside = black.copy(), black.copy()
    outside[:, : 72 - height // 2 - 8] = outside[:, :, 72 + width // 2 + 8 :] = 255
    inside[:, 72 - height // 2 + 8 : 72 + height // 2 - 8] = 255
    np.testing.assert_array_equal(run(model, outside, "scores")["scores"][0, :, 72, 72], before)
    assert np.abs(run(model, inside, "scores")["scores"][0, :, 72, 72] - before).max() > 1e-3
