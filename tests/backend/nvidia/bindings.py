"""Prints what one real TensorRT module has, and what the facade finds in it, as JSON.

python bindings.py FOLDER MODULE        FOLDER is put on the path; a process of its own for each version
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys

from edgeseg.backend.nvidia.api import TensorRtApi
from edgeseg.core.errors import CapabilityError


def describe(module: object) -> dict[str, object]:
    """Names of the module; attributes of its classes with their docstrings, which begin with the signatures."""
    classes = {}
    for name, value in vars(module).items():
        if inspect.isclass(value):
            classes[name] = {item: (inspect.getdoc(getattr(value, item, None)) or "")[:1500] for item in dir(value)}
    kinds = {
        name: {item: kind_of(value, item) for item in dir(value)}
        for name, value in vars(module).items()
        if inspect.isclass(value)
    }
    return {"names": sorted(vars(module)), "classes": classes, "kinds": kinds}


def kind_of(owner: type, name: str) -> str:
    """`writable`, `read-only`, `method`, or `value` for what is neither a property nor a function."""
    found = inspect.getattr_static(owner, name, None)
    if isinstance(found, property):
        return "read-only" if found.fset is None else "writable"
    return "method" if callable(found) else "value"


def look(api: TensorRtApi) -> dict[str, object]:
    log: list[tuple[str, str]] = []
    phases: list[tuple[str, int, int]] = []
    profile: list[tuple[str, float]] = []
    logger = api.logger(lambda severity, text: log.append((severity, text)))
    logger.log(api.trt.ILogger.Severity.ERROR, "said")
    recorder = api.error_recorder(lambda severity, text: log.append((severity, text)))
    recorder.report_error(None, "recorded")
    assert recorder.num_errors() == 1
    assert recorder.get_error_desc(0) == "recorded"

    def report(phase: str, done: int, steps: int) -> bool:
        phases.append((phase, done, steps))
        return True

    monitor = api.progress_monitor(report)
    if monitor is not None:
        monitor.phase_start("build", None, 3)
        assert monitor.step_complete("build", 0) is True
        monitor.phase_finish("build")
    api.profiler(lambda name, ms: profile.append((name, ms))).report_layer_time("layer", 1.5)
    flags: dict[str, object] = {}
    refusal = ""
    for precision in ("fp32", "bf16", "fp16", "int8"):
        try:
            flags[precision] = [flag.name for flag in api.precision_flags(precision)]
        except CapabilityError as error:
            flags[precision], refusal = "refused", str(error)
    return {
        "name": api.name,
        "capabilities": dataclasses.asdict(api.capabilities),
        "network_flags": api.network_flags(),
        "flags": flags,
        "refusal": refusal,
        "log": log,
        "phases": phases,
        "profile": profile,
    }


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    bindings = importlib.import_module(sys.argv[2])
    json.dump({**describe(bindings), "facade": look(TensorRtApi(bindings))}, sys.stdout)
