import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from .conftest import cheap_frames
from .support import null_target

TOOL = Path(__file__).parents[2] / "tools" / "stamp_check.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("stamp_check", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_stamp_survives_a_mask_and_a_jpeg(tool):
    rng = np.random.default_rng(0)
    for t_us in (0, 1, 0xABCDE12345, 2**40 - 1):
        picture = rng.integers(0, 255, (120, 480, 3), np.uint8)
        tool.write_stamp(picture, 40, t_us * 1000)
        colours = np.repeat(np.repeat(rng.integers(0, 255, (15, 30, 3), np.uint8), 8, 0), 16, 1)
        blended = cv2.addWeighted(picture, 0.5, colours, 0.5, 0)
        _, jpeg = cv2.imencode(".jpg", blended, [cv2.IMWRITE_JPEG_QUALITY, 85])
        assert tool.read_stamp(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), 40) == t_us


def test_a_picture_without_stamp_is_refused(tool):
    picture = np.random.default_rng(3).integers(0, 255, (120, 480, 3), np.uint8)
    with pytest.raises(tool.StampError):
        tool.read_stamp(picture, 40)


def test_the_picture_confirms_the_pipeline(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "street_frames", cheap_frames)
    target = null_target(latency_ms=8.0, size=(96, 480))
    found = tool.check(target, tmp_path, rate_hz=40, duration_s=0.8)
    assert found["frames"] >= 1
    read, told = found["read_from_picture_ms"]["mean"], found["told_by_pipeline_ms"]["mean"]
    assert read >= 8.0
    assert read >= told - 0.5, "a picture is published after its mask"
