"""What runtimes of several versions write when something fails, and the one line that becomes of it."""

from __future__ import annotations

import pytest

from edgeseg.backend.nvidia.failures import clean, explain
from edgeseg.core.errors import EdgesegError, FitError, UnavailableError, VerifyError

NOISE = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "/_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient for CUDA runtime "
    "version))"
)


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        (
            "6: The engine plan file is not compatible with this version of TensorRT, expecting library version "
            "8.6.1.6 got 8.5.2.2, please rebuild.",
            FitError,
            "another version of the runtime",
        ),
        (
            "1: [stdArchiveReader.cpp::StdArchiveReaderInitCommon::46] Error Code 1: Serialization (Serialization "
            "assertion stdVersionRead == serializationVersion failed.Version tag does not match. "
            "Note: Current Version: 232, Serialized Engine Version: 213)",
            FitError,
            "another version of the runtime",
        ),
        (
            "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is generated on an "
            "incompatible device, expecting compute 8.7 got compute 8.6, please rebuild.)",
            FitError,
            "another GPU",
        ),
        (
            "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion header.magicTag == "
            "kEXPECTED_MAGIC_TAG failed.Trying to load an engine created with incompatible serialization version "
            "(1651663207 != 1953657974). Check that the engine was not created using safety runtime. "
            "In throwUnlessHeaderOk at /_src/runtime/dispatch/runtime.cpp:48)",
            VerifyError,
            "plan cannot be read",
        ),
        (
            "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion plan.header.size == "
            "blobSize failed. In parsePlan at /_src/runtime/dispatch/runtime.cpp:780)",
            VerifyError,
            "plan cannot be read",
        ),
        ("2: [virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory", EdgesegError, "out of memory"),
        ("Requested amount of GPU memory (1048576 bytes) could not be allocated.", EdgesegError, "out of memory"),
        (
            "CUDA initialization failure with error: 35. Please check your CUDA installation",
            UnavailableError,
            "missing or too old",
        ),
        (
            "Error reading CUDA GPU properties: In getCurrentCC at /_src/runtime/dispatch/planHeaders.cpp:130 "
            "(cudaError 35: CUDA driver version is insufficient for CUDA runtime version) Ensure that.",
            UnavailableError,
            "missing or too old",
        ),
        ("CUDA initialization failure with error: 100", UnavailableError, "no NVIDIA GPU"),
        (
            "10: [optimizer.cpp::computeCosts::3728] Error Code 10: Internal Error (Could not find any implementation "
            "for node encoder.0.0.dw + encoder.0.0.act.)",
            EdgesegError,
            "no kernel for a layer",
        ),
        ("something that nobody has seen before", EdgesegError, "tried"),
    ],
)
def test_a_known_line_becomes_its_error(line: str, kind: type[EdgesegError], words: str) -> None:
    error = explain("tried", [NOISE, line, NOISE], runtime="TensorRT 10.3.0", bundle="engines/demo")
    assert type(error) is kind
    text = str(error)
    assert words in text
    assert "TensorRT 10.3.0" in text
    assert "checkMacros" not in text
    assert "/_src/" not in text
    assert "BUNDLE" not in text
    assert "; try: edgeseg " in text


def test_a_plan_that_must_be_rebuilt_names_its_bundle() -> None:
    error = explain("tried", ["expecting library version 10 got 8"], runtime="TensorRT", bundle="engines/demo")
    assert error.fix == "edgeseg rebuild engines/demo"


def test_silence_is_said() -> None:
    assert "it said nothing" in str(explain("tried", [NOISE], runtime="TensorRT"))


def test_cleaning_leaves_the_reason() -> None:
    text = (
        "Invalid Node - t\nITensor::getDimensions: Error Code 4: API Usage Error (t: first input has type UInt8 but "
        f"must have type Float. In checkType at /_src/optimizer/common/nodeBase.cpp:456)\n{NOISE}"
    )
    cleaned = clean(text)
    assert cleaned.endswith("(t: first input has type UInt8 but must have type Float)")
