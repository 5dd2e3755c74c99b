"""The engine proves itself on the golden frames when it is entered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.bundle import open_bundle, open_runner, verify_bundle, write_bundle
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.core.types import Runner

from .conftest import DEVICE, SIZE, ContentsFactory


def test_a_sound_engine_runs_after_its_self_test(bundle_dir: Path) -> None:
    frames = np.arange(24 * 32 * 3, dtype=np.int64).astype(np.uint8).reshape(1, *SIZE, 3)
    runner = open_runner(open_bundle(bundle_dir, device=DEVICE))
    assert isinstance(runner, Runner)
    assert runner.spec.frame_size == SIZE
    with runner as entered:
        free = entered.free_outputs
        with entered.infer(frames) as output:
            np.testing.assert_array_equal(output.mask_nhw, frames[..., 0] % 3)
            assert entered.free_outputs == free - 1
        ticket = entered.submit(frames)
        entered.collect(ticket).release()
        assert entered.free_outputs == free


def test_an_engine_that_disagrees_with_its_golden_masks_is_refused_and_left(
    tmp_path: Path, make_contents: ContentsFactory
) -> None:
    contents = make_contents()
    for item in contents.golden:
        item.mask_hw[:1] = (item.mask_hw[:1] + 1) % 3  # one row of 24: agreement 0.958
    runner = open_runner(verify_bundle(write_bundle(tmp_path / "wrong", contents)))
    with pytest.raises(VerifyError, match=r"agreement: 0\.95833.*at least 0\.99.*edgeseg rebuild"):
        runner.__enter__()
    with pytest.raises(RequestError, match="not open"):
        runner.submit(np.zeros((1, *SIZE, 3), np.uint8))


def test_entering_again_nests_without_another_self_test(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    monkeypatch.setattr("edgeseg.bundle.selftest.golden_agreement", lambda runner, golden: runs.append(1) or 1.0)
    runner = open_runner(open_bundle(bundle_dir, device=DEVICE))
    with runner, runner as inner:
        inner.infer(np.zeros((1, *SIZE, 3), np.uint8)).release()
    with runner:
        pass
    assert len(runs) == 2
