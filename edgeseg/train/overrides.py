"""Single fields given on a command line: `TABLE.FIELD=VALUE`, the value as TOML writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgeseg.core.config import parse_value
from edgeseg.core.errors import RequestError


def parse_overrides(texts: Iterable[str], named: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Fields by table.

    Args:
        texts: `TABLE.FIELD=VALUE` each; a value that is no TOML is taken as a word.
        named: Values by `TABLE.FIELD`, which win.

    Raises:
        RequestError: A text of another form.
    """
    fields: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name.count(".") != 1:
            raise RequestError("not a field", value=text, allowed="TABLE.FIELD=VALUE, for example train.lr=0.002")
        fields[name.strip()] = parse_value(value)
    tables: dict[str, dict[str, object]] = {}
    for place, setting in {**fields, **named}.items():
        table, field = place.split(".")
        tables.setdefault(table, {})[field] = setting
    return tables
