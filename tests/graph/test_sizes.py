"""Sizes that a network can use, and those that it cannot."""

from __future__ import annotations

import msgspec
import pytest

from edgeseg.core.errors import RequestError
from edgeseg.graph import read_meta
from edgeseg.graph.sample import sample_model
from edgeseg.graph.sizes import check_network_size


@pytest.mark.parametrize("stride", [4, 8, 32])
def test_a_network_sees_one_stride_or_more(stride: int) -> None:
    meta = msgspec.structs.replace(read_meta(sample_model()), stride=stride)
    least = max(stride, 8)
    check_network_size((least, 16384), meta, fix="")
    for size in ((least - 1, 64), (64, least - 1), (64, 16385)):
        with pytest.raises(RequestError, match=rf"{size[0]}x{size[1]} at stride {stride}.*sides of {least} to.*try: X"):
            check_network_size(size, meta, fix="X")
