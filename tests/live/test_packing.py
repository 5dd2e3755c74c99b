"""BGR into camera formats: back through OpenCV's own decoder, the colours are those that went in."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgeseg.backend.null import Latency, runner_of
from edgeseg.core.errors import RequestError
from edgeseg.core.types import EngineSpec, InputFormat
from edgeseg.live.packing import check_packable, pack
from edgeseg.live.request import LiveRequest, LoadedEngine

BACK = {"nv12": cv2.COLOR_YUV2BGR_NV12, "yuyv": cv2.COLOR_YUV2BGR_YUY2}


def smooth(size: tuple[int, int]) -> np.ndarray:
    rows, cols = np.indices(size)
    return np.stack([60 + rows * 2, 200 - cols, 90 + rows + cols], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("form", ["nv12", "yuyv"])
def test_there_and_back(form: InputFormat) -> None:
    image = smooth((24, 32))
    out = np.zeros((36, 32) if form == "nv12" else (24, 32, 2), np.uint8)
    back = cv2.cvtColor(pack(image, form, out), BACK[form])
    assert np.abs(back.astype(int) - image).max() <= 8, "chroma is at half the resolution"


def test_bgr_is_copied() -> None:
    image = smooth((5, 7))
    assert np.array_equal(pack(image, "bgr", np.zeros_like(image)), image)


def test_odd_sizes_are_refused() -> None:
    check_packable((5, 7), "bgr")
    check_packable((5, 8), "yuyv")
    for size, form in (((5, 8), "nv12"), ((6, 7), "yuyv")):
        with pytest.raises(RequestError, match="odd"):
            check_packable(size, form)  # type: ignore[arg-type]


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
