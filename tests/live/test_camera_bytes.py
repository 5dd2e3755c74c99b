"""A camera's own bytes on their way to an engine that takes them, and as BGR to whoever looks at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from edgeseg.core.packing import packed, packed_shape, picture_size, unpack
from edgeseg.core.types import U8, Colour, InputFormat, State
from edgeseg.live.buffers import BufferPool
from edgeseg.live.detect.black import BlackDetector
from edgeseg.live.pictures import CameraPicture
from edgeseg.live.request import LiveRequest, LoadedEngine

FORMS: tuple[InputFormat, ...] = ("nv12", "yuyv")


def raw(size: tuple[int, int], form: InputFormat, seed: int = 0) -> U8:
    rng = np.random.default_rng(seed)
    return rng.integers(60, 200, packed_shape(size, form), np.uint8)


def flat(size: tuple[int, int], form: InputFormat, luma: int, chroma: int = 128) -> U8:
    data = np.full(packed_shape(size, form), chroma, np.uint8)
    if form == "nv12":
        data[: size[0]] = luma
    else:
        data[..., 0] = luma
    return data


@pytest.mark.parametrize("form", FORMS)
def test_shapes_and_sizes_go_both_ways(form: InputFormat) -> None:
    data = raw((24, 32), form)
    assert picture_size(data, form) == (24, 32)
    grey = unpack(flat((24, 32), form, 126), form, np.zeros((24, 32, 3), np.uint8))
    assert set(np.unique(grey)) <= {127, 128, 129}


@pytest.mark.parametrize("colour", [Colour(), Colour(matrix="bt709"), Colour(matrix="bt709", range="full")])
@pytest.mark.parametrize("form", FORMS)
def test_packing_and_unpacking_agree(form: InputFormat, colour: Colour) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(30, 220, (12, 16, 3), np.uint8).repeat(2, 0).repeat(2, 1)  # chroma is one for two pixels
    back = unpack(packed(image, form, colour), form, np.empty_like(image), colour)
    assert np.abs(back.astype(int) - image).max() <= 4


@pytest.mark.parametrize("form", FORMS)
def test_the_engine_gets_the_bytes_and_the_sinks_a_picture(
    kit: Any, null: Callable[..., Any], form: InputFormat
) -> None:
    pictures = [raw(kit.SIZE, form, seed) for seed in range(4)]
    source = kit.ScriptedSource([kit.Shot(one) for one in pictures], live=False, form=form)
    sink = kit.KeepSink()
    summary = kit.play(LiveRequest(engine=LoadedEngine(null(form=form)), sources=[source], sinks=[sink]))
    assert source.asked == (form, kit.SIZE)
    assert [result.state for result in sink.results] == [State.OK] * 4
    height, width = kit.SIZE
    for result, data in zip(sink.results, pictures, strict=True):
        luma = data[:height] if form == "nv12" else data[..., 0]
        assert (result.mask_hw == luma % 3).all(), "the null engine's mask is the first byte of a pixel"
        assert (result.image_hwc == unpack(data, form, np.empty((height, width, 3), np.uint8))).all()
        assert result.size == kit.SIZE
    assert summary.stages_ms["resize_in"].n == 0, "nothing was converted for the engine"
    assert summary.stages_ms["copy_in"].n == 4


@pytest.mark.parametrize(("gives", "takes"), [("nv12", "bgr"), ("yuyv", "nv12"), ("bgr", "yuyv")])
def test_another_format_is_converted_on_the_host_and_said(
    kit: Any, null: Callable[..., Any], caplog: pytest.LogCaptureFixture, gives: InputFormat, takes: InputFormat
) -> None:
    source = kit.ScriptedSource([kit.Shot(raw(kit.SIZE, gives))], live=False, form=gives)
    sink = kit.KeepSink()
    request = LiveRequest(engine=LoadedEngine(null(form=takes)), sources=[source], sinks=[sink])
    assert kit.play(request).stages_ms["resize_in"].n == 1
    assert sink.results[0].mask_hw.shape == kit.SIZE
    assert ("converted on the host" in caplog.text) == (takes != "bgr")


def test_another_size_is_resized_on_the_host(kit: Any, null: Callable[..., Any]) -> None:
    source = kit.ScriptedSource([kit.Shot(raw(kit.SIZE, "nv12"))], live=False, form="nv12")
    sink = kit.KeepSink()
    engine = LoadedEngine(null((12, 16), form="nv12"))
    summary = kit.play(LiveRequest(engine=engine, sources=[source], sinks=[sink]))
    assert summary.stages_ms["resize_in"].n == 1
    assert sink.results[0].mask_hw.shape == kit.SIZE


def test_a_picture_is_converted_once_and_only_where_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def count(data: U8, form: InputFormat, out: U8, colour: Colour) -> U8:
        calls.append(form)
        return unpack(data, form, out, colour)

    monkeypatch.setattr("edgeseg.live.pictures.unpack", count)
    pool = BufferPool((24, 32, 3), 1)
    one, other = (CameraPicture(raw((24, 32), "nv12", seed), "nv12", Colour(), pool) for seed in (1, 2))
    other.release()
    assert calls == []
    assert one.bgr() is one.bgr()
    assert (calls, pool.free) == (["nv12"], 0)
    assert other.bgr().shape == (24, 32, 3), "with no buffer free, one of its own"
    one.release()
    one.release()
    assert pool.free == 1


@pytest.mark.parametrize("form", FORMS)
def test_black_is_seen_in_luma_and_one_colour_in_both(form: InputFormat) -> None:
    detector, size = BlackDetector(16), (128, 128)
    for data in (flat(size, form, 16), flat(size, form, 28, 90), flat(size, form, 150, 150)):
        verdict = detector.check(data, form)
        assert verdict is not None
        assert verdict.state is State.BLACK
    night = flat(size, form, 18)
    luma = night[: size[0]] if form == "nv12" else night[..., 0]
    luma[:16, :64] = 200
    assert detector.check(night, form) is None
    assert detector.check(raw(size, form), form) is None
    bright = cv2.cvtColor(np.full((8, 8, 3), 16, np.uint8), cv2.COLOR_BGR2YUV_I420)[0, 0]
    assert round((int(bright) - 16) * 255 / 219) == 16, "the level means the same brightness as in BGR"
