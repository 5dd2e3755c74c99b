"""The trtexec line for JetPack 5."""

from __future__ import annotations

import shlex

import pytest

from edgeseg.backend.nvidia.trtexec import TRTEXEC, trtexec_line
from edgeseg.core.errors import CapabilityError


def test_int8_brings_fp16_along_and_names_with_spaces_survive() -> None:
    words = shlex.split(trtexec_line("my model.onnx", "engine.plan", "int8", workspace_mb=512))
    assert words[0] == TRTEXEC
    assert {"--onnx=my model.onnx", "--saveEngine=engine.plan", "--fp16", "--int8"} <= set(words)
    assert "--memPoolSize=workspace:512" in words
    assert "--timingCacheFile=engine.timing" in words
    assert not [word for word in words if word.startswith("--calib")]


def test_a_calibration_cache_is_passed_on() -> None:
    assert "--calib=x.cache" in trtexec_line("m.onnx", "e.plan", "int8", cache="x.cache")


def test_fp32_has_no_precision_flag_and_bf16_is_refused() -> None:
    assert "--fp16" not in trtexec_line("m.onnx", "e.plan", "fp32")
    with pytest.raises(CapabilityError, match="bf16"):
        trtexec_line("m.onnx", "e.plan", "bf16")
