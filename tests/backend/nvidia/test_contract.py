"""Everything that the code touches of a TensorRT module exists in every supported version, or is probed.

What is touched is derived from the code, by its syntax tree: each vendor object lives under one variable name. What
exists is taken from NVIDIA's own Python bindings, fetched at set-up by tools/fetch_bindings.py; each is imported in a
process of its own.
"""

from __future__ import annotations

import ast
import enum
import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeseg.core.errors import VerifyError

HERE = Path(__file__).parent
_ALONE = "EDGESEG_TEST_ALONE"
CODE = HERE.parents[2] / "edgeseg" / "backend" / "nvidia"
# where vendor objects are touched; the test of the list's completeness sees every other file of the room too
FILES = ("api.py", "network.py", "loading.py", "dla.py", "calibration.py")
BINDINGS = Path(sys.prefix) / "share" / "edgeseg-bindings"
VERSIONS = ("8.6.1", "10.3.0", "10.13.3.9", "10.16.1.11", "11.0.0.114", "11.4.0.106", "rtx")

# variable name -> class of the vendor's object behind it
VARIABLES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "timing_cache": "ITimingCache",
    "parser": "OnnxParser",
    "parser_error": "ParserError",
    "layer": "ILayer",
    "tensor": "ITensor",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
    "runtime_config": "IRuntimeConfig",
    "runtime_cache": "IRuntimeCache",
    "verbosity": "ProfilingVerbosity",
}
# touched only behind a probe of something else, which must then be missing wherever this is
COMPANIONS = {
    ("IBuilderConfig", "int8_calibrator"): (None, "IInt8EntropyCalibrator2"),
    ("ITensor", "set_dynamic_range"): (None, "IInt8EntropyCalibrator2"),
    ("IBuilderConfig", "num_compute_capabilities"): (None, "ComputeCapability"),
    ("IBuilderConfig", "set_compute_capability"): (None, "ComputeCapability"),
    ("IRuntimeConfig", "create_runtime_cache"): ("IRuntimeConfig", "cuda_graph_strategy"),
    ("IRuntimeConfig", "set_runtime_cache"): ("IRuntimeConfig", "cuda_graph_strategy"),
    ("IRuntimeCache", "deserialize"): ("IRuntimeConfig", "cuda_graph_strategy"),
    ("IRuntimeCache", "serialize"): ("IRuntimeConfig", "cuda_graph_strategy"),
    ("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE"): ("IRuntimeConfig", "cuda_graph_strategy"),
    (None, "CudaGraphStrategy"): ("IRuntimeConfig", "cuda_graph_strategy"),
    (None, "EngineValidity"): ("Runtime", "get_engine_validity"),
    ("EngineValidity", "INVALID"): ("Runtime", "get_engine_validity"),
    ("ICudaEngine", "device_memory_size"): ("ICudaEngine", "device_memory_size"),
    ("ParserError", "node_name"): ("ParserError", "node_operator"),
}
# calls with arguments that only the versions with a probe take
CALL_COMPANIONS = {("ICudaEngine", "create_execution_context", 1): ("IRuntimeConfig", "cuda_graph_strategy")}
Name = tuple[str | None, str]


@dataclass
class Touched:
    """What the code touches: (class or None for the module, attribute)."""

    direct: set[Name] = field(default_factory=set)
    probed: set[Name] = field(default_factory=set)
    calls: set[tuple[Name, int, tuple[str, ...]]] = field(default_factory=set)
    assigned: set[Name] = field(default_factory=set)
    read: set[Name] = field(default_factory=set)  # neither called nor handed on: it must be no method
    unread: set[Name] = field(default_factory=set)  # called, and the answer thrown away


def owner_of(node: ast.expr) -> tuple[bool, str | None]:
    """(known, class) of the object that an expression stands for; class None is the module."""
    if isinstance(node, ast.Name):
        if node.id == "trt":
            return True, None
        return node.id in VARIABLES, VARIABLES.get(node.id)
    if isinstance(node, ast.Attribute):
        if node.attr == "trt":
            return True, None
        known, owner = owner_of(node.value)
        if known and owner is None:
            return True, node.attr  # an enum or class of the module
    return False, None


def touched_by(source: str) -> Touched:
    found = Touched()
    tree = ast.parse(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    not_read = {id(node) for call in calls for node in (call.func, *call.args)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            known, owner = owner_of(node.value)
            if known and not node.attr.startswith("__"):
                found.direct.add((owner, node.attr))
                if isinstance(node.ctx, ast.Store):
                    found.assigned.add((owner, node.attr))
                elif owner is not None and id(node) not in not_read:
                    found.read.add((owner, node.attr))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            function = node.value.func
            if isinstance(function, ast.Attribute) and (owner := owner_of(function.value)[1]) is not None:
                found.unread.add((owner, function.attr))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            known, owner = owner_of(node.func.value)
            keywords = tuple(keyword.arg or "" for keyword in node.keywords)
            if known and owner is not None and not node.func.attr.startswith("__"):
                found.calls.add(((owner, node.func.attr), len(node.args), keywords))
            elif known and owner is None:  # a constructor of the module
                found.calls.add(((node.func.attr, "__init__"), len(node.args), keywords))
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            if node.func.attr in ("member", "has", "_needs") and len(texts) >= 2:
                found.probed.add((texts[0], texts[1]))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr"):
            known, owner = owner_of(node.args[0])
            if known and isinstance(node.args[1], ast.Constant):
                found.probed.add((owner, str(node.args[1].value)))
    return found


@functools.cache
def touched() -> Touched:
    every = [touched_by((CODE / name).read_text()) for name in FILES]
    return Touched(
        set().union(*(item.direct for item in every)),
        set().union(*(item.probed for item in every)),
        set().union(*(item.calls for item in every)),
        set().union(*(item.assigned for item in every)),
        set().union(*(item.read for item in every)),
        set().union(*(item.unread for item in every)),
    )


@functools.cache
def look_at(version: str) -> dict[str, Any]:
    """What bindings.py finds in one version's real bindings, in a process of its own."""
    if version == "rtx":
        if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
            pytest.skip("needs TensorRT-RTX: pip install 'edgeseg[rtx]'")
        folder, module, library = HERE, "tensorrt_rtx_bindings", ""
    else:
        folder, module, library = BINDINGS / version, "tensorrt_bindings", str(BINDINGS / version / "lib")
        if not (folder / module).is_dir():
            reason = folder / "unavailable.txt"
            said = reason.read_text().strip() if reason.is_file() else "run python tools/fetch_bindings.py"
            pytest.skip(f"needs the bindings of TensorRT {version}: {said}")
    done = subprocess.run(
        [sys.executable, str(HERE / "bindings.py"), str(folder), module],
        env={**os.environ, "LD_LIBRARY_PATH": library},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def exists(version: str, name: Name) -> bool:
    owner, attribute = name
    have = look_at(version)
    return attribute in (have["names"] if owner is None else have["classes"].get(owner, {}))


def test_the_list_of_what_is_touched_is_not_empty_and_finds_what_it_should() -> None:
    found = touched()
    assert ("IBuilderConfig", "set_memory_pool_limit") in found.direct
    assert ("MemoryPoolType", "WORKSPACE") in found.direct
    assert (None, "OnnxParser") in found.direct
    assert ("BuilderFlag", "FP16") in found.probed
    assert len(found.direct) > 60


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_touched_exists_or_is_probed(version: str) -> None:
    found = touched()
    missing = []
    for name in found.direct:
        if exists(version, name) or name in found.probed:
            continue
        companion = COMPANIONS.get(name)
        if companion is None or companion not in found.probed | {name} or exists(version, companion):
            missing.append(name)
    assert missing == []


@pytest.mark.parametrize("version", VERSIONS)
def test_every_call_fits_the_signature(version: str) -> None:
    wrong = [
        f"{owner}.{method}({positional} positional, {keywords})"
        for (owner, method), positional, keywords in touched().calls
        if (text := look_at(version)["classes"].get(owner, {}).get(method))
        and not any(fits(line, method, positional, keywords) for line in text.splitlines())
        and exists(version, CALL_COMPANIONS.get((owner, method, positional), (owner, method)))
    ]
    assert wrong == []


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_that_is_assigned_can_be(version: str) -> None:
    """`ITensor.dtype` and others became read-only in 11: an assignment there raises in the middle of a build."""
    kinds = look_at(version)["kinds"]
    assert touched().assigned
    wrong = [name for name in touched().assigned if exists(version, name) and kinds[name[0]][name[1]] != "writable"]
    assert wrong == []


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_read_is_no_method(version: str) -> None:
    """A property of one version that is a method of another would be read as a truth value that is always true."""
    kinds = look_at(version)["kinds"]
    wrong = [name for name in touched().read if exists(version, name) and kinds[name[0]][name[1]] == "method"]
    assert wrong == []


@pytest.mark.parametrize("version", VERSIONS)
def test_no_answer_of_the_runtime_is_thrown_away(version: str) -> None:
    """It reports failure by returning None, False or a negative number, and raises nothing."""
    wrong = [
        f"{owner}.{method} answers {answers}"
        for owner, method in touched().unread
        if (text := look_at(version)["classes"].get(owner, {}).get(method))
        and (answers := set(re.findall(rf"^(?:\d+\. )?{method}\(.*\) -> (.+)$", text, re.MULTILINE)) - {"None"})
    ]
    assert wrong == []


def test_the_derived_list_is_complete() -> None:
    """In a process of its own: what other tests have simulated here before can hide what is touched."""
    command = [sys.executable, "-m", "pytest", "-q", f"{__file__}::test_what_is_touched_is_listed"]
    environment = {**os.environ, _ALONE: "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.skipif(_ALONE not in os.environ, reason="run by test_the_derived_list_is_complete, in its own process")
def test_what_is_touched_is_listed(
    simulate: Any, in_process: None, model_file: Path, spec: Any, frames: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """Whatever the code touches of the simulated modules while it builds and runs is in the list derived from it.

    A vendor object under a variable name that VARIABLES does not know would be overlooked by the other tests.
    """
    monkeypatch.setenv("EDGESEG_SIMULATED_DLA", "1")
    seen: set[tuple[str, str]] = set()
    cases = (
        ("8.6.1", "TensorRtBuilder", {"workspace_mb": 64, "optimization_level": 3}),
        ("10.3.0", "TensorRtBuilder", {"dla_core": 0, "io": "mapped"}),
        ("10.3.0", "TensorRtBuilder", {"implicit": True, "hardware_compatible": "ampere_plus"}),
        ("11.4.0.106", "TensorRtBuilder", {"cuda_graph": False}),
        ("11.4.0.106", "TensorRtRtxBuilder", {"compute_capabilities": "8.9"}),
    )
    for number, (version, backend, options) in enumerate(cases):
        simulate(version)
        from edgeseg.backend.nvidia import builder as module

        builder = getattr(module, backend)()
        watch(builder.api.trt, seen, monkeypatch)
        folder = tmp_path / f"{number}-{version}-{backend}"
        folder.mkdir()
        precision = "int8" if "implicit" in options else "fp32"
        wanted = msgspec.structs.replace(spec, options=options, precision=precision)
        extra = {"ranges": {"x": (0.0, 1.0)}} if "implicit" in options else {}
        built = builder.build(model_file, folder, wanted, **extra)
        with builder.open(folder / built.file, wanted) as runner:
            runner.infer(frames[0]).release()
            runner.layer_times_ms(1)
            runner.inspect()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    simulate("10.3.0")
    builder = module.TensorRtBuilder()
    watch(builder.api.trt, seen, monkeypatch)
    with pytest.raises(VerifyError, match="not an ONNX model"):
        module.build_plan(("tensorrt", module.BuildJob(model=broken, plan=broken, precision="fp32")), print, print)
    listed = touched().direct | touched().probed
    names = {name for _, name in listed}
    assert len(seen) > 45
    # classes of the simulation that are private there have the vendor's attributes under another class name
    assert {(owner, name) for owner, name in seen if (owner, name) not in listed and owner[0] != "_"} == set()
    assert {(owner, name) for owner, name in seen if owner[0] == "_" and name not in names} == set()


def watch(trt: Any, seen: set[tuple[str, str]], monkeypatch: Any) -> None:
    """Note each attribute of a simulated class that a file of the backend touches."""
    import types

    def noting(cls: type, plain: Any) -> Any:
        def method(self: Any, name: str, *value: Any) -> Any:
            if Path(sys._getframe(1).f_code.co_filename).parent == CODE and not name.startswith("_"):
                seen.add((cls.__name__, name))
            return plain(self, name, *value)

        return method

    ours = ("ILogger", "IErrorRecorder", "IProfiler", "IProgressMonitor", "IInt8EntropyCalibrator2")
    for cls in [*vars(trt).values(), *vars(sys.modules["tensorrt"]).values()]:
        if not isinstance(cls, type) or issubclass(cls, enum.Enum | types.ModuleType) or cls.__name__ in ours:
            continue
        if cls.__module__ in ("tensorrt", "tensorrt_rtx_bindings"):
            monkeypatch.setattr(cls, "__getattribute__", noting(cls, cls.__getattribute__))
            monkeypatch.setattr(cls, "__setattr__", noting(cls, cls.__setattr__))


def fits(line: str, method: str, positional: int, keywords: tuple[str, ...]) -> bool:
    """Whether a call fits one line of a pybind11 docstring; lines that are no signature do not fit."""
    match = re.match(rf"(?:\d+\. )?{method}\((?P<parameters>.*)\) -> ", line)
    if match is None:
        return False
    names, optional = [], 0
    for parameter in split(match["parameters"]):
        names.append(parameter.split(":")[0].strip())
        optional += " = " in parameter
    if names and names[0] == "self":
        names = names[1:]
    return len(names) - optional <= positional + len(keywords) <= len(names) and set(keywords) <= set(names)


def split(parameters: str) -> Iterator[str]:
    depth, start = 0, 0
    for index, character in enumerate(parameters):
        depth += character in "[(<"
        depth -= character in "])>"
        if character == "," and depth == 0:
            yield parameters[start:index]
            start = index + 1
    if parameters[start:].strip():
        yield parameters[start:]


def test_every_probe_finds_something_in_some_version() -> None:
    """A probe that is false everywhere is a typing error."""
    here = [version for version in VERSIONS if version == "rtx" or (BINDINGS / version / "tensorrt_bindings").is_dir()]
    if len(here) < len(VERSIONS):
        pytest.skip("needs all bindings: run python tools/fetch_bindings.py")
    never = [name for name in touched().probed if not any(exists(version, name) for version in here)]
    assert never == []


# what the facade must find by probing: weak typing, implicit INT8, BF16, monitor, timing cache, portable, validity
EXPECTED = {
    "8.6.1": (True, True, False, False, True, False, False),
    "10.3.0": (True, True, True, True, True, False, False),
    "10.13.3.9": (True, True, True, True, True, False, False),
    "10.16.1.11": (True, True, True, True, True, False, False),
    "11.0.0.114": (False, False, True, True, True, False, False),
    "11.4.0.106": (False, False, True, True, True, False, False),
    "rtx": (False, False, True, True, False, True, True),
}
NETWORK_FLAGS = {"8.6.1": 1, "10.3.0": 1, "10.13.3.9": 1, "10.16.1.11": 1, "11.0.0.114": 0, "11.4.0.106": 0, "rtx": 0}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_facade_finds_what_a_version_has_by_probing(version: str) -> None:
    found = look_at(version)["facade"]
    has = found["capabilities"]
    keys = (
        *("weakly_typed", "implicit_int8", "bf16", "progress_monitor", "timing_cache", "portable_plans"),
        "plan_validity",
    )
    assert tuple(has[key] for key in keys) == EXPECTED[version]
    assert found["network_flags"] == NETWORK_FLAGS[version]
    assert found["name"] == ("tensorrt_rtx" if version == "rtx" else "tensorrt")
    # INT8 brings FP16 along where flags exist; a typed network has no flags at all
    weak = has["weakly_typed"]
    assert found["flags"]["int8"] == (["FP16", "INT8"] if weak else [])
    assert found["flags"]["fp16"] == (["FP16"] if weak else [])
    assert found["flags"]["fp32"] == []
    assert found["flags"]["bf16"] == (["BF16"] if weak and has["bf16"] else [] if has["bf16"] else "refused")
    assert found["log"] == [["ERROR", "said"], ["ERROR", "recorded"]]
    assert found["phases"] == ([] if version == "8.6.1" else [["build", 0, 3], ["build", 1, 3], ["build", 3, 3]])
    assert found["profile"] == [["layer", 1.5]]


def test_bf16_on_8_6_names_fp16() -> None:
    found = look_at("8.6.1")["facade"]
    assert "fp16" in found["refusal"]
    assert "TensorRT 8.6.1" in found["refusal"]


def test_no_plugin_library_is_loaded_and_host_code_is_never_allowed() -> None:
    for file in CODE.glob("*.py"):
        tree = ast.parse(file.read_text())
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not names & {"load_library", "plugins_to_serialize", "load_runtime"}, file
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)):
                continue
            if node.targets[0].attr == "engine_host_code_allowed":
                assert isinstance(node.value, ast.Constant)
                assert node.value.value is False


def test_importing_the_room_imports_no_vendor_package() -> None:
    code = "import sys, edgeseg.backend, edgeseg.backend.nvidia.builder; print(*{n.split('.')[0] for n in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    vendors = {"tensorrt", "tensorrt_bindings", "tensorrt_rtx_bindings", "pycuda", "cuda", "torch"}
    assert not vendors & set(done.stdout.split())
