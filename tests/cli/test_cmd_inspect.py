from __future__ import annotations

import msgspec
import pytest
from click.testing import CliRunner

from edgeseg.cli.cmd_inspect import command
from edgeseg.core.errors import RequestError, VerifyError


@pytest.fixture
def model(tmp_path):
    from edgeseg.graph import save_model
    from edgeseg.graph.sample import sample_model

    path = tmp_path / "m.onnx"
    save_model(path, sample_model())
    return path


def test_a_model_as_json(model):
    result = CliRunner().invoke(command, [str(model), "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    answer = msgspec.json.decode(result.stdout)
    assert answer["path"] == str(model)
    assert set(answer["layers"]) == {"int8", "fp16", "fp32"}
    assert answer["layers"]["fp32"] > 0
    assert answer["metadata"]["classes"]["names"] == ["red", "green", "blue", "grey"]


def test_a_model_for_people(model):
    result = CliRunner().invoke(command, [str(model)], catch_exceptions=False)
    assert result.stdout == ""
    for word in ("sample-batch", "frame", "uint8", "multiply-adds", "encoder.0.0.pw1", "red, green, blue, grey"):
        assert word in result.stderr


def test_a_missing_file_and_a_broken_one_are_errors(model):
    with pytest.raises(RequestError, match="does not exist"):
        CliRunner().invoke(command, ["no.onnx"], catch_exceptions=False)
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(VerifyError, match=r"m\.onnx"):
        CliRunner().invoke(command, [str(model)], catch_exceptions=False)


def test_of_a_bundle_the_pairs_that_did_not_become_int8_are_listed():
    from edgeseg.cli.cmd_inspect import _audit

    chosen = {"name": "b", "details": {"audit": {"qdq_not_int8": ["encoder.0.0.dw"]}}}
    report = {"chosen": "b", "candidates": [{"name": "a", "details": {}}, chosen]}
    assert _audit(report)["qdq_not_int8"] == ["encoder.0.0.dw"]
    assert _audit({"chosen": "a", "candidates": [{"name": "a", "details": {"audit": None}}]}) == {}
    assert _audit({}) == {}
