"""The layer audit from both of its sources: an engine inspector's JSON of either form, and RTX's log."""

from __future__ import annotations

import json

import pytest
from onnx import TensorProto, helper

from edgeseg.backend.nvidia.audit import audit, kernels_from_inspector, kernels_from_log, quantised_nodes
from edgeseg.core.errors import VerifyError


def tensor(kind: str, *, split: bool) -> dict[str, object]:
    if split:
        return {"Name": "t", "Dimensions": [1], "Format": "Row major linear", "DataType": kind}
    return {"Name": "t", "Dimensions": [1], "Format/Datatype": f"Row major linear {kind} format"}


def layers(*, split: bool) -> str:
    """Layers as 8.6 and 10 (one field for format and type) or 11 (two fields) describe them."""
    rows = [
        ("Reformatting CopyNode for Input Tensor 0", "Reformat", "UINT8", "FP32", ""),
        ("stem.conv", "CaskConvolution", "FP16", "FP16", "[ONNX Layer: stem.conv]"),
        ("pw1 + act", "CaskConvolution", "Int8", "Int8", "[ONNX Layer: pw1]\x1e[ONNX Layer: act]"),
        ("pw2", "CaskConvolution", "FP16", "FP16", "[ONNX Layer: pw2]"),
        ("__myl_MeanSubMul_myl0_3", "kgen", "FP16", "FP32", "[ONNX Layer: norm]"),
        ("mask", "kgen", "Int32", "UINT8", "[ONNX Layer: mask]"),
    ]
    return json.dumps(
        {
            "Layers": [
                {
                    "Name": name,
                    "LayerType": kind,
                    "Inputs": [tensor(taken, split=split)],
                    "Outputs": [tensor(given, split=split)],
                    "Metadata": metadata,
                }
                for name, kind, taken, given, metadata in rows
            ],
            ("I/O Tensors" if split else "Bindings"): ["frame", "mask"],
        }
    )


def quantised_model() -> object:
    """Two quantised convolutions, and one whose weights alone are."""
    nodes = []
    for name, data in (("pw1", "a/dq"), ("pw2", "b/dq"), ("half", "c")):
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.w", "s"], [f"{name}.w/dq"]))
        if data.endswith("/dq"):
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", "s"], [data]))
        nodes.append(helper.make_node("Conv", [data, f"{name}.w/dq"], [name], name=name))
    value = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1])
    return helper.make_model(helper.make_graph(nodes, "g", [value], [value]))


def float_model() -> object:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="stem.conv")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    return helper.make_model(helper.make_graph([node], "g", [value], [value]))


BARE = "\x1e"  # between the ONNX nodes of a kernel; JSON asks for \\u001e; 8.6 is said to write the character itself


def test_bare_control_characters_between_nodes_are_read() -> None:
    text = layers(split=False)
    bare = text.replace("\\u001e", BARE)
    assert bare != text
    assert kernels_from_inspector(bare) == kernels_from_inspector(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"Layers": [{"Name": nought}]}', "Expecting value at 21: .*nought"), ("[]", "cannot be read")],
    ids=["no JSON", "no object"],
)
def test_an_answer_that_cannot_be_read_is_shown_where_it_breaks(text: str, said: str) -> None:
    with pytest.raises(VerifyError, match=said):
        kernels_from_inspector(text)


@pytest.mark.parametrize("split", [False, True])
def test_the_inspector_of_every_version_gives_the_same_audit(split: bool) -> None:
    result = audit(kernels_from_inspector(layers(split=split)), quantised_model(), "int8")
    assert result.layers == {"fp32": 2, "fp16": 2, "int8": 1, "int32": 1}
    assert result.multiplying == {"fp16": 2, "int8": 1}
    assert result.int8_share == pytest.approx(1 / 3)
    assert result.reformats == ("Reformatting CopyNode for Input Tensor 0",)
    assert result.not_int8 == ("pw2", "half")
    assert result.unmapped == 1
    summary = json.loads(json.dumps(result.summary()))
    assert summary["qdq_not_int8"] == ["pw2", "half"]
    assert summary["fallbacks"] == [
        {"node": "pw2", "wanted": "int8", "runs_in": "fp16"},
        {"node": "half", "wanted": "int8", "runs_in": "unknown"},  # no kernel names it
    ]
    assert {"name": "pw2", "kind": "CaskConvolution", "precision": "fp16", "nodes": ["pw2"]} in summary["by_kernel"]
    assert len(summary["by_kernel"]) == summary["kernels"] == 6


def test_a_float_product_that_runs_wider_than_asked_for_is_a_fallback() -> None:
    text = layers(split=True).replace("FP16", "FP32")
    (stem,) = audit(kernels_from_inspector(text), float_model(), "fp16").fallbacks
    assert (stem.node, stem.wanted, stem.runs_in) == ("stem.conv", "fp16", "fp32")
    assert audit(kernels_from_inspector(text), float_model(), "fp32").fallbacks == ()


def test_data_or_weights_alone_are_a_quantised_product_too() -> None:
    """Either parses, builds and silently runs in float (tensorrt-facts 5): it must be listed, not overlooked."""
    assert quantised_nodes(quantised_model()) == ["pw1", "pw2", "half"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"Layers": ["name only"]}', "{}"])
def test_an_answer_without_details_is_refused(text: str) -> None:
    with pytest.raises(VerifyError):
        kernels_from_inspector(text)


def test_a_log_without_a_listing_has_no_kernels() -> None:
    assert kernels_from_log(["Engine generation completed", "Detected 1 inputs"]) == []
