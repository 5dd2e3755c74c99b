"""Engines for camera formats behind sources that give only BGR."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edgeseg.backend.null import Latency, runner_of
from edgeseg.core.packing import pack
from edgeseg.core.types import EngineSpec, InputFormat
from edgeseg.live.request import LiveRequest, LoadedEngine


@pytest.mark.parametrize("form", ["nv12", "yuyv"])
@pytest.mark.parametrize("camera", [(24, 32), (48, 64)])
def test_an_engine_for_a_camera_format_runs_on_bgr_sources(
    kit: SimpleNamespace, form: InputFormat, camera: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """The null engine's mask is the brightness plane modulo the classes, so it shows that the plane arrived."""
    spec = EngineSpec(frame_size=(24, 32), classes=kit.CLASSES, input_format=form)
    image = np.full((*camera, 3), 120, np.uint8)
    image[:, : camera[1] // 2] = 200
    sink = kit.KeepSink()
    source = kit.ScriptedSource([kit.Shot(image)], live=False, opens=[camera])
    request = LiveRequest(engine=LoadedEngine(runner_of(spec, Latency(), outputs=8)), sources=[source], sinks=[sink])
    kit.play(request)
    mask = sink.results[0].mask_hw
    assert mask.shape == camera
    luma = pack(image, "nv12", np.zeros((camera[0] * 3 // 2, camera[1]), np.uint8))[: camera[0]]
    assert (mask[:, 0] == luma[0, 0] % 3).all()
    assert (mask[:, -1] == luma[0, -1] % 3).all()
    assert form in caplog.text
