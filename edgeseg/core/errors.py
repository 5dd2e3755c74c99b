"""The exceptions of edgeseg, and the exit code that each one becomes.

    EdgesegError                 1   failed while running
    ├── DataError                1   data that cannot be used
    │   └── SourceLostError      1   a source that is gone for good
    ├── RequestError             2   the request cannot be
    ├── GateError                3   a gate was not met
    ├── UnavailableError         4   a package, driver, device, camera or display is missing or too old
    │   └── CapabilityError      4   the runtime that is here cannot do what was asked
    └── VerifyError              5   a model, range file, bundle, recording or key does not verify
        └── FitError             5   a sound bundle that does not fit this machine

A person who meets one of them reads four things: what failed, the value, what is allowed, and the next
command to type. `EdgesegError.__str__` writes them in the one form the command line promises::

    WHAT (VALUE); ALLOWED; try: COMMAND
"""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """Exit codes of the command line (a contract: other programs call it)."""

    OK = 0
    FAILED = 1
    REQUEST = 2
    GATE = 3
    UNAVAILABLE = 4
    VERIFY = 5
    INTERRUPTED = 130


class EdgesegError(Exception):
    """Base of all errors that a person can act on.

    Args:
        what: What failed, as a clause without a full stop.
        value: The offending value; left out where there is none.
        allowed: What would have been accepted.
        fix: The next command to type.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, what: str, *, value: object = None, allowed: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.value = value
        self.allowed = allowed
        self.fix = fix

    def __str__(self) -> str:
        text = self.what if self.value is None else f"{self.what} ({self.value})"
        if self.allowed:
            text += f"; {self.allowed}"
        if self.fix:
            text += f"; try: {self.fix}"
        return " ".join(text.split())

    def __reduce__(self) -> tuple[object, ...]:
        # keyword-only arguments do not survive the default pickling, and builds run in child processes
        return (_rebuild, (type(self), self.what, self.value, self.allowed, self.fix))


def _rebuild(cls: type[EdgesegError], what: str, value: object, allowed: str | None, fix: str | None) -> EdgesegError:
    return cls(what, value=value, allowed=allowed, fix=fix)


class DataError(EdgesegError):
    """Data that cannot be used: a truncated picture, an image without its mask, an unknown id, a full disk."""


class SourceLostError(DataError):
    """A source that was open has ended for good without being asked to."""


class RequestError(EdgesegError):
    """The request cannot be: an unknown name, a path that does not exist, INT8 without ranges."""

    exit_code = ExitCode.REQUEST


class GateError(EdgesegError):
    """A gate was not met: accuracy lost, or slower than allowed."""

    exit_code = ExitCode.GATE


class UnavailableError(EdgesegError):
    """A package, driver, GPU, camera or display is missing or too old."""

    exit_code = ExitCode.UNAVAILABLE


class CapabilityError(UnavailableError):
    """A runtime is here, but lacks the feature asked for.

    Args:
        feature: The feature asked for.
        runtime: Name and version of the runtime that lacks it.
        fix: The next command to type.
    """

    def __init__(self, feature: str, *, runtime: str, allowed: str | None = None, fix: str | None = None) -> None:
        super().__init__(f"{feature} is not available", value=runtime, allowed=allowed, fix=fix)
        self.feature = feature
        self.runtime = runtime

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_capability, (self.feature, self.runtime, self.allowed, self.fix))


def _rebuild_capability(feature: str, runtime: str, allowed: str | None, fix: str | None) -> CapabilityError:
    return CapabilityError(feature, runtime=runtime, allowed=allowed, fix=fix)


class VerifyError(EdgesegError):
    """A model, range file, bundle, recording or key is truncated, foreign, altered or of a newer format."""

    exit_code = ExitCode.VERIFY


class FitError(VerifyError):
    """A sound bundle that was built for another machine or another runtime."""
