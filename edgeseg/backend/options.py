"""Backend options: known names only, each of its default's type."""

from __future__ import annotations

from collections.abc import Mapping

from edgeseg.core.config import unknown_name
from edgeseg.core.errors import RequestError

Option = str | int | float | bool


def resolve_options(given: Mapping[str, Option], defaults: Mapping[str, Option], *, backend: str) -> dict[str, Option]:
    """`given` over `defaults`.

    Raises:
        RequestError: An option that this backend does not have, or one of another type than its default.
    """
    resolved = dict(defaults)
    for name, value in given.items():
        if name not in defaults:
            raise unknown_name(f"option of the backend {backend}", name, sorted(defaults))
        kind = type(defaults[name])
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise RequestError(
                f"the option {name} of the backend {backend} has another type", value=value, allowed=kind.__name__
            )
        resolved[name] = value
    return resolved
