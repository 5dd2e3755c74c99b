from __future__ import annotations

import pickle

import pytest

from edgeseg.core import errors


def all_errors() -> list[type[errors.EdgesegError]]:
    found: list[type[errors.EdgesegError]] = [errors.EdgesegError]
    for kind in found:
        found.extend(kind.__subclasses__())
    return found


def test_message_has_the_four_parts_in_the_promised_form() -> None:
    error = errors.RequestError("unknown target", value="cpuu", allowed="allowed: cpu, rtx", fix="edgeseg build --help")
    assert str(error) == "unknown target (cpuu); allowed: cpu, rtx; try: edgeseg build --help"


def test_message_is_one_line_whatever_the_parts_hold() -> None:
    assert "\n" not in str(errors.DataError("a\nb", value="c\n d"))


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.EdgesegError, 1),
        (errors.DataError, 1),
        (errors.SourceLostError, 1),
        (errors.RequestError, 2),
        (errors.GateError, 3),
        (errors.UnavailableError, 4),
        (errors.VerifyError, 5),
        (errors.FitError, 5),
    ],
)
def test_exit_codes_are_the_contract(kind: type[errors.EdgesegError], code: int) -> None:
    assert kind("x").exit_code == code


@pytest.mark.parametrize("kind", all_errors())
def test_errors_survive_a_child_process(kind: type[errors.EdgesegError]) -> None:
    if kind is errors.CapabilityError:
        error: errors.EdgesegError = errors.CapabilityError("BF16", runtime="TensorRT 8.6", fix="--precision fp16")
    else:
        error = kind("what", value=3, allowed="4", fix="edgeseg doctor")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
