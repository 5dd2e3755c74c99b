"""The manifest survives the way to disk and back, and refuses what it does not know."""

from __future__ import annotations

import msgspec
import pytest

from edgeseg.core.errors import VerifyError
from edgeseg.core.manifest import (
    FORMAT,
    Agreement,
    EngineRecord,
    Geometry,
    Manifest,
    ModelRecord,
    TensorRecord,
    decode_manifest,
    encode_manifest,
    minimum_agreement,
)
from edgeseg.core.types import Classes, DeviceInfo, EngineSpec


def manifest() -> Manifest:
    classes = Classes(names=("road",), palette_rgb=((1, 2, 3),))
    return Manifest(
        name="m",
        edgeseg="0.1.0",
        created="2026-01-01T00:00:00Z",
        target="cpu",
        model=ModelRecord(name="edge-s", sha256="ab"),
        spec=EngineSpec(frame_size=(8, 8), classes=classes, options={"streams": 1, "exact": True}),
        inputs=(TensorRecord(name="frame", dtype="uint8", shape=(1, 8, 8, 3)),),
        outputs=(TensorRecord(name="mask", dtype="uint8", shape=(1, 8, 8)),),
        geometry=Geometry(network_size=(8, 8), mask_to_frame=(2.0, 0.0, 0.5, 0.0, 2.0, 0.5)),
        engine=EngineRecord(
            file="engine.onnx", kind="onnx", backend="onnxruntime", backend_version="1", precision="fp32"
        ),
        device=DeviceInfo(machine="x86_64", cpu_features=("avx2",)),
        agreement=Agreement(minimum=0.999, executor="onnxruntime 1"),
    )


def changed(**fields: object) -> bytes:
    plain = msgspec.json.decode(encode_manifest(manifest()))
    plain.update(fields)
    return msgspec.json.encode(plain)


def test_it_is_the_same_after_a_round_trip_and_ends_with_a_newline() -> None:
    data = encode_manifest(manifest())
    assert data.endswith(b"}\n")
    assert decode_manifest(data, origin="test") == manifest()


def test_a_newer_format_is_refused_with_both_numbers_before_its_fields_are_read() -> None:
    data = msgspec.json.encode({"format": FORMAT + 1, "something": "new"})
    with pytest.raises(VerifyError, match=rf"format {FORMAT + 1}.*reads format {FORMAT}.*pip install --upgrade"):
        decode_manifest(data, origin="test")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"{}", "format"),
        (changed(surprise=1), "surprise"),
        (changed(name=3), r"\$\.name"),
        (changed(geometry={"network_size": [8, 8], "mask_to_frame": [1.0]}), "mask_to_frame"),
        (changed(agreement={"minimum": 0.0, "executor": "x"}), "agreement minimum"),
    ],
)
def test_what_is_not_a_manifest_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        decode_manifest(data, origin="test")


def test_a_truncated_manifest_is_refused_at_every_length() -> None:
    data = encode_manifest(manifest()).rstrip()
    for length in range(0, len(data), 7):
        with pytest.raises(VerifyError):
            decode_manifest(data[:length], origin="test")


def test_lower_precisions_may_disagree_more() -> None:
    assert minimum_agreement("fp32") > minimum_agreement("fp16") > minimum_agreement("int8") == 0.985
