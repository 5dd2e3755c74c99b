import dataclasses

import numpy as np
import pytest

from edgeseg.bench.frames import engine_frames, source_frames, street_frames
from edgeseg.core.errors import DataError
from edgeseg.core.progress import Silent
from edgeseg.sources.memory import MemorySource

from .support import null_target


def test_street_frames_are_a_drive():
    frames = street_frames((64, 96), Silent(), count=3)
    assert {frame.shape for frame in frames} == {(64, 96, 3)}
    assert not (frames[0] == frames[1]).all()


def test_frames_of_a_source_are_copies_and_are_fitted_to_the_engine():
    pictures = [np.full((20, 30, 3), i, np.uint8) for i in range(3)]
    frames = source_frames(MemorySource(pictures), count=2)
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 1]
    spec = null_target(size=(10, 16)).spec
    assert engine_frames(frames, spec)[0].shape == (10, 16, 3)
    spec = null_target(size=(20, 30)).spec
    assert all(ours is given for ours, given in zip(engine_frames(frames, spec), frames, strict=True))


def test_frames_are_in_the_engines_format():
    spec = dataclasses.replace(null_target(size=(10, 16)).spec, input_format="nv12")
    assert engine_frames([np.zeros((8, 8, 3), np.uint8)], spec)[0].shape == (15, 16)


def test_an_empty_source_is_refused():
    with pytest.raises(DataError, match="no frame"):
        source_frames(MemorySource([np.zeros((8, 8, 3), np.uint8)], count=0))
