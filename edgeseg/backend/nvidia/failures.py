"""What a runtime's log says when something fails, as the one error that a person can act on.

TensorRT reports failure by returning None and writing lines; the lines differ between versions. The table here maps
what has been seen in 8.6, 10, 11 and RTX.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeseg.core.errors import CapabilityError, EdgesegError, FitError, UnavailableError, VerifyError

REBUILD = "edgeseg rebuild BUNDLE"
_KEEP = 6
# RTX adds this line to every error on a machine without a driver, whatever the error is about
_NOISE = re.compile(r"\[checkMacros\.cpp::catchCudaError::\d+\][^\n]*")
# and its own source files are of no use to the reader
_PLACE = re.compile(r"[.:]?\s*In \w+ at /_src/[^\s)]+")


@dataclass(frozen=True, slots=True)
class _Known:
    pattern: re.Pattern[str]
    kind: type[EdgesegError]
    what: str
    allowed: str
    fix: str


def _known(pattern: str, kind: type[EdgesegError], what: str, allowed: str, fix: str) -> _Known:
    return _Known(re.compile(pattern, re.IGNORECASE | re.DOTALL), kind, what, allowed, fix)


# the first match wins: the specific before the general
_TABLE = (
    _known(
        r"not compatible with this version of TensorRT|expecting library version|Version tag does not match"
        r"|stdVersionRead|version mismatch",
        FitError,
        "the plan was built by another version of the runtime",
        "a plan runs only on the version that built it",
        REBUILD,
    ),
    _known(
        r"incompatible device|expecting compute|different compute capability|not supported on this (?:GPU|device)",
        FitError,
        "the plan was built for another GPU",
        "a plan runs only on the GPU that it was built for",
        REBUILD,
    ),
    _known(
        r"magic ?tag|header\.size|Serialization assertion|plan file is (?:corrupt|truncated)|deserializ\w+ failed"
        r"|failed to deserialize|Invalid engine",
        VerifyError,
        "the plan cannot be read",
        "a complete plan of this runtime",
        REBUILD,
    ),
    _known(
        r"out of memory|OutOfMemory|could not be allocated|cudaErrorMemoryAllocation|insufficient memory|bad_alloc",
        EdgesegError,
        "the device is out of memory",
        "less workspace, a smaller frame, or fewer programs on the GPU",
        "edgeseg build MODEL --frame-size HxW, smaller",
    ),
    _known(
        r"initialization (?:failure|error)[^\n]*\b35\b|cudaError 35\b|driver version is insufficient"
        r"|cudaErrorInsufficientDriver|libcuda\.so",
        UnavailableError,
        "the NVIDIA driver is missing or too old for this runtime",
        "a driver of the CUDA version that the runtime was built with, or newer",
        "edgeseg doctor",
    ),
    _known(
        r"initialization (?:failure|error)[^\n]*\b100\b|cudaError 100\b|no CUDA-capable device|cudaErrorNoDevice",
        UnavailableError,
        "there is no NVIDIA GPU",
        "an NVIDIA GPU that this process may use",
        "edgeseg doctor",
    ),
    _known(
        r"Could not infer output types for operation[^|]*deconv",
        CapabilityError,
        "a transposed convolution in this precision",
        "the exact form as a 1x1 convolution and DepthToSpace, or another precision",
        "edgeseg build MODEL --precision fp16",
    ),
    _known(
        r"could not find any implementation for node|no tactics|no valid tactic",
        EdgesegError,
        "the runtime has no kernel for a layer",
        "another precision, or more workspace",
        "edgeseg build MODEL --precision fp16",
    ),
)


def clean(text: str) -> str:
    """One message without the line about a missing driver that RTX adds to everything on a machine without a GPU."""
    return " ".join(_PLACE.sub("", _NOISE.sub(" ", text)).split())


def explain(
    what: str,
    lines: Sequence[str],
    *,
    runtime: str,
    fix: str = "edgeseg build MODEL --debug",
    bundle: object = "BUNDLE",
) -> EdgesegError:
    """The error for a failed call, from the last lines that the runtime wrote.

    Args:
        what: What was tried.
        lines: Error and warning lines, oldest first.
        runtime: Name and version, for the text.
        fix: What to type where the log says nothing that is known.
        bundle: What to name in `edgeseg rebuild BUNDLE`.
    """
    lines = [line for line in map(clean, lines) if line]
    text = "\n".join(lines)
    for known in _TABLE:
        match = known.pattern.search(text)
        if match is not None:
            line = next((item for item in lines if known.pattern.search(item)), match[0])
            if known.kind is CapabilityError:
                return CapabilityError(known.what, runtime=runtime, allowed=known.allowed, fix=known.fix)
            return known.kind(
                known.what, value=f"{runtime}: {line}", allowed=known.allowed, fix=_named(known.fix, bundle)
            )
    return EdgesegError(what, value=f"{runtime}: {tail(lines) or 'it said nothing'}", fix=_named(fix, bundle))


def _named(fix: str, bundle: object) -> str:
    return fix.replace("BUNDLE", str(bundle))


def tail(lines: Iterable[str], keep: int = _KEEP) -> str:
    """The last lines as one, for an error's value."""
    return " | ".join([text for text in map(clean, lines) if text][-keep:])
