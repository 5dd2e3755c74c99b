"""What a request is resolved to."""

from __future__ import annotations

import pytest

from edgeseg.core.errors import RequestError
from edgeseg.train.request import resolve_model


@pytest.mark.parametrize(
    ("fields", "heads"),
    [
        ({}, 2),
        ({"aux_heads": 1}, 1),
        # a decoder too short for the preset's heads takes as many as it has room for
        ({"decoder_widths": [16, 24], "decoder_depths": [1, 1], "decoder_blocks": ["plain"]}, 1),
        ({"decoder_widths": [], "decoder_depths": [], "decoder_blocks": ["plain"]}, 0),
    ],
)
def test_auxiliary_heads_follow_the_decoder(fields: dict[str, object], heads: int) -> None:
    assert resolve_model("edge-s", fields).aux_heads == heads


def test_heads_that_were_asked_for_are_not_taken_away() -> None:
    shape = {"decoder_widths": [16], "decoder_depths": [1], "decoder_blocks": ["plain"], "aux_heads": 2}
    with pytest.raises(RequestError, match="aux_heads is 2; allowed: 0 to 0"):
        resolve_model("edge-s", shape)
