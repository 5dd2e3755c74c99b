from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.graph import (
    apply_forms,
    camera_input,
    fix_frame_size,
    insert_qdq,
    load_model,
    make_variant,
    read_meta,
    save_model,
    write_meta,
)
from edgeseg.graph import load as load_file
from edgeseg.graph.forms import Forms
from edgeseg.graph.qdq import ActivationQ, QdqPlan
from edgeseg.graph.sample import CLASSES, sample_model


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "m.onnx"
    save_model(file, sample_model())
    return file


def test_what_was_saved_is_loaded(path):
    model = load_model(path)
    meta = read_meta(model)
    assert meta.classes == CLASSES
    assert meta.stride == 8
    assert [value.name for value in model.graph.output] == ["mask"]
    assert model.opset_import[0].version == 17
    assert model.ir_version == 8, "TensorRT 8.6 refuses newer containers"


def test_a_missing_file_is_a_request_error(tmp_path):
    with pytest.raises(RequestError, match=r"no\.onnx.*edgeseg export"):
        load_model(tmp_path / "no.onnx")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.97, 0.999])
def test_a_truncated_file_does_not_verify(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(VerifyError):
        load_model(path)


def test_no_truncation_whatever_is_taken_for_whole(tmp_path):
    # a protobuf may end at any field: a prefix can be well-formed, so the content itself must be checked
    data = sample_model(width=2).SerializeToString()
    file = tmp_path / "m.onnx"
    for length in [*range(0, len(data), 997), *range(len(data) - 200, len(data))]:
        file.write_bytes(data[:length])
        with pytest.raises(VerifyError):
            load_model(file)


def test_bytes_that_are_not_onnx_do_not_verify(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    with pytest.raises(VerifyError, match="truncated or not ONNX"):
        load_model(path)


def test_a_foreign_model_does_not_verify(tmp_path):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
    file = tmp_path / "foreign.onnx"
    onnx.save(helper.make_model(graph), file)
    with pytest.raises(VerifyError, match="not written by edgeseg"):
        load_model(file)


def test_an_altered_weight_does_not_verify(path):
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "encoder.0.0.pw1.weight")
    values = np.frombuffer(tensor.raw_data, np.float32).copy()
    values[3] += 1e-3
    tensor.raw_data = values.tobytes()
    onnx.save(model, path)
    with pytest.raises(VerifyError, match="altered after it was written"):
        load_model(path)


def test_external_data_is_refused_and_never_read(tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(4 * 32 * 8))
    model = sample_model()
    tensor = next(t for t in model.graph.initializer if t.name == "encoder.0.0.pw1.weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    file = tmp_path / "m.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(VerifyError, match=r"outside itself.*pw1\.weight"):
        load_model(file)


def test_too_large_a_file_is_refused_unread(path, monkeypatch):
    monkeypatch.setattr(load_file, "MAX_BYTES", 100)
    with pytest.raises(VerifyError, match="too large"):
        load_model(path)


def test_a_newer_format_does_not_verify(path):
    model = onnx.load(path)
    for prop in model.metadata_props:
        if prop.key == "edgeseg.format":
            prop.value = "2"
    onnx.save(model, path)
    with pytest.raises(VerifyError, match="another format"):
        load_model(path)


def test_edited_metadata_do_not_verify(path):
    model = onnx.load(path)
    for prop in model.metadata_props:
        if prop.key == "edgeseg.stride":
            prop.value = '"eight"'
    onnx.save(model, path)
    with pytest.raises(VerifyError, match="metadata"):
        load_model(path)


@pytest.mark.parametrize("what", ["geometry", "attribute", "metadata"])
def test_nothing_can_be_altered_unnoticed(tmp_path, what):
    path = tmp_path / "m.onnx"
    save_model(path, fix_frame_size(sample_model(), (37, 53)))
    model = onnx.load(path)
    if what == "geometry":
        tensor = next(t for t in model.graph.initializer if t.name == "geometry/pads")
        pads = np.frombuffer(tensor.raw_data, np.int64).copy()
        pads[[2, 6]] = [3, 0]  # at the top instead of the bottom
        tensor.raw_data = pads.tobytes()
    elif what == "attribute":
        node = next(node for node in model.graph.node if node.op_type == "Pad")
        node.attribute[0].s = b"reflect"
    else:
        next(
            p for p in model.metadata_props if p.key == "edgeseg.classes"
        ).value = (
            '{"names":["grey","green","blue","red"],"palette_rgb":[[0,0,0],[0,0,0],[0,0,0],[0,0,0]],"ignore_id":255}'
        )
    onnx.save(model, path)
    with pytest.raises(VerifyError, match="altered after it was written"):
        load_model(path)


def test_flipped_bytes_never_raise_anything_else(tmp_path):
    path = tmp_path / "m.onnx"
    model = sample_model(width=2, norm="layer")
    save_model(path, model)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    unnoticed = 0
    for position in rng.integers(0, len(data), 300):
        damaged = bytearray(data)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            unnoticed += load_model(path) is not None
        except VerifyError:
            continue
    assert unnoticed < 20, "only what nothing reads: the producer's name, the graph's"


def test_a_model_that_was_read_carries_no_seal_on(path):
    model = load_model(path)
    changed = fix_frame_size(model, (64, 96))
    for each in (model, changed):
        assert not any("seal" in prop.key for prop in each.metadata_props)
        onnx.save(each, path)
        load_model(path)


def test_meta_survive_a_round_trip_and_leave_other_properties():
    model = sample_model()
    model.metadata_props.add(key="other", value="kept")
    meta = read_meta(model)
    write_meta(model, meta)
    assert read_meta(model) == meta
    assert {p.key: p.value for p in model.metadata_props}["other"] == "kept"


@pytest.mark.parametrize("kind", ["rewritten", "quantised", "camera", "typed-fp16"])
def test_what_was_made_of_a_model_can_be_saved_and_loaded(tmp_path, kind):
    model = fix_frame_size(sample_model(), (64, 96))
    made = {
        "rewritten": lambda: apply_forms(model, Forms(transposed="shuffle")),
        "quantised": lambda: insert_qdq(
            model, QdqPlan(activations=(ActivationQ(tensor="pixels", scale=1.0, zero_point=0, dtype="uint8"),))
        ),
        "camera": lambda: camera_input(model, "nv12"),
        "typed-fp16": lambda: make_variant(model, "typed", "fp16"),
    }[kind]()
    save_model(tmp_path / "m.onnx", made)
    loaded = load_model(tmp_path / "m.onnx")
    assert loaded == made
    assert read_meta(loaded).variant in (kind, "rewritten")
    assert read_meta(loaded).weights_sha256 == read_meta(model).weights_sha256
