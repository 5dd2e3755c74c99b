from __future__ import annotations

import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("layers", "field"),
    [
        ([("Conv", 3, 1)], 3),
        ([("Conv", 3, 1), ("Conv", 3, 1)], 5),
        ([("Conv", 4, 4), ("Conv", 7, 1)], 28),
        ([("Conv", 2, 2), ("MaxPool", 2, 2), ("Conv", 3, 1)], 12),
        # three pixels at stride 2 lie in two cells of stride 4
        ([("Conv", 4, 4), ("ConvTranspose", 2, 2), ("Conv", 3, 1)], 8),
    ],
)
def test_known_stacks(layers, field):
    graph = _chain(*layers)
    assert receptive_field(graph, 8) == (field, field)


def test_no_pixel_outside_the_field_changes_the_logits(run):
    model = fix_frame_size(sample_model(), (144, 144))
    height, width = receptive_field(from_model(model), 8)
    assert height == width == 96
    frames = np.zeros((1, 144, 144, 3), np.uint8)
    before = run(model, frames, "scores")["scores"][0]
    # a line of light at one column: the farthest logits that it changes are the field's ends, cell by cell
    reach = 0
    for column in range(64, 72):
        frames[:] = 0
        frames[:, :, column] = 255
        changed = np.abs(run(model, frames, "scores")["scores"][0] - before).max(axis=(0, 1)) > 0
        reach = max(reach, column - int(changed.nonzero()[0][0]), int(changed.nonzero()[0][-1]) - column)
    assert width // 2 - 8 <= reach <= width // 2 + 8
