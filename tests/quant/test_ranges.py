"""A range file that is not exactly what was written is refused, and the refusal says what is wrong."""

import json

import numpy as np
import pytest

from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.quant.histogram import Histogram
from edgeseg.quant.ranges import (
    FrameReport,
    LearntScale,
    Ranges,
    load_ranges,
    pack_floats,
    save_ranges,
    tensor_range,
)
from edgeseg.quant.thresholds import Method


def make_ranges(weights="a" * 64) -> Ranges:
    rng = np.random.default_rng(0)
    tensors = {}
    for name in ("encoder.0.0.dw", "encoder.0.0.act"):
        histogram = Histogram(name)
        histogram.add(rng.normal(size=1000).astype(np.float32))
        tensors[name] = tensor_range(histogram, np.array([0.5, -1.0]))
    return Ranges(
        model="m",
        weights_sha256=weights,
        layers_size=(64, 96),
        method=Method(name="percentile"),
        frames=FrameReport(source="s", sha256="f" * 64, count=20, offered=30),
        tensors=tensors,
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "r.json"
    save_ranges(path, make_ranges())
    return path


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_round_trip_and_same_content_same_bytes(file, tmp_path):
    ranges = load_ranges(file, weights_sha256="a" * 64)
    assert ranges == make_ranges()
    again = tmp_path / "again.json"
    save_ranges(again, ranges)
    assert again.read_bytes() == file.read_bytes()
    assert ranges.tensors["encoder.0.0.dw"].distribution().counts.sum() == 1000


@pytest.mark.parametrize(
    ("field", "value"),
    [("weights_sha256", "b" * 64), ("layers_size", (64, 97)), ("method", Method(name="minmax")), ("model", "other")],
)
def test_the_id_covers_every_field(field, value):
    import msgspec

    assert msgspec.structs.replace(make_ranges(), **{field: value}).id != make_ranges().id


def set_in(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("tensors", "encoder.0.0.dw", "maximum", value=3.0), "altered"),
        (set_in("tensors", "encoder.0.0.dw", "maximum", value=float("nan")), "not finite (.*encoder.0.0.dw"),
        (set_in("tensors", "encoder.0.0.dw", "low", value=float("-inf")), "not finite"),
        (set_in("tensors", "encoder.0.0.dw", "minimum", value=None), "not finite"),
        (set_in("tensors", "encoder.0.0.dw", "histogram", value="AAAA"), "altered"),
        (set_in("tensors", "encoder.0.0.dw", "means", value=""), "altered"),
        (set_in("frames", "count", value=500), "altered"),
        (set_in("extra", value=1), "altered"),
        (set_in("tensors", value={}), "altered"),
        (set_in("weights_sha256", value=7), "damaged"),
        (set_in("version", value=3), "newer format"),
        (set_in("format", value="tensorrt-cache"), "not a range file"),
        (lambda content: content.pop("id"), "altered"),
        (lambda content: content["tensors"].pop("encoder.0.0.dw"), "altered"),
    ],
)
def test_an_edited_file_is_refused(file, change, message):
    edit(file, change)
    with pytest.raises(VerifyError, match=message.replace("(", r"\(")):
        load_ranges(file)


@pytest.mark.parametrize("keep", [0, 1, 100, -3])
def test_a_truncated_file_is_refused(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(VerifyError, match="truncated or not JSON"):
        load_ranges(file)


@pytest.mark.parametrize("content", [b"[]", b"7", b"\xff\xfe", b"TRT-8601-EntropyCalibration2\ninput: 3c010a14"])
def test_a_foreign_file_is_refused(file, content):
    file.write_bytes(content)
    with pytest.raises(VerifyError):
        load_ranges(file)


def test_other_weights_are_stale(file):
    with pytest.raises(VerifyError, match=r"stale.*aaaaaaaaaaaa.*bbbbbbbbbbbb"):
        load_ranges(file, weights_sha256="b" * 64)


def test_no_such_file(tmp_path):
    with pytest.raises(RequestError, match="does not exist"):
        load_ranges(tmp_path / "none.json")


def test_a_missing_tensor_is_named():
    with pytest.raises(VerifyError, match=r"encoder\.9\.0\.dw"):
        make_ranges().require(["encoder.0.0.dw", "encoder.9.0.dw"])


def richer() -> Ranges:
    """Ranges with everything that format 2 has."""
    import msgspec

    plain = make_ranges()
    learnt = LearntScale(dtype="uint8", scale=0.01, zero_point=3)
    tensors = {name: msgspec.structs.replace(item, learnt=learnt) for name, item in plain.tensors.items()}
    equalisation = {"encoder.0.0.dw": pack_floats(np.array([0.5, 1.0]))}
    return msgspec.structs.replace(
        plain, tensors=tensors, equalisation=equalisation, in_float={"uint8": ("encoder.0.0.dw",)}
    )


def test_files_of_the_first_format_stay_what_they_were(file, tmp_path):
    # written by edgeseg before format 2, id and all
    content = json.loads(file.read_text())
    assert content["version"] == 1
    assert "equalisation" not in content
    assert "learnt" not in content["tensors"]["encoder.0.0.dw"]
    assert content["id"] == "d3d36efcadef15f168fd4dc34bf9771234b0429d2e17d7a0880381d482051ce0"
    save_ranges(tmp_path / "rich.json", richer())
    assert json.loads((tmp_path / "rich.json").read_text())["version"] == 2
    assert load_ranges(tmp_path / "rich.json") == richer()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("tensors", "encoder.0.0.dw", "learnt", "scale", value=0.02), "altered"),
        (set_in("tensors", "encoder.0.0.dw", "learnt", "scale", value=float("nan")), "not finite (.*encoder.0.0.dw"),
        (set_in("tensors", "encoder.0.0.dw", "learnt", "scale", value=-1.0), "damaged"),
        (set_in("equalisation", value={}), "altered"),
        (set_in("in_float", value={}), "altered"),
        (lambda content: content.pop("in_float"), "altered"),
    ],
)
def test_an_edited_file_of_the_second_format_is_refused(tmp_path, change, message):
    path = tmp_path / "rich.json"
    save_ranges(path, richer())
    edit(path, change)
    with pytest.raises(VerifyError, match=message.replace("(", r"\(")):
        load_ranges(path)


@pytest.mark.parametrize("factor", [[0.5, 0.0], [np.nan, 1.0], [-1.0, 1.0], []])
def test_factors_that_cannot_be_are_refused(tmp_path, factor):
    import msgspec

    path = tmp_path / "bad.json"
    bad = msgspec.structs.replace(richer(), equalisation={"encoder.0.0.dw": pack_floats(np.array(factor))})
    save_ranges(path, bad)
    with pytest.raises(VerifyError, match="damaged factors"):
        load_ranges(path)
