"""Typed configuration from TOML: unknown keys refused, the resolved config written beside each run.

Each room keeps its own structs (frozen `msgspec.Struct`s); this file only reads and writes them.
"""

from __future__ import annotations

import difflib
import re
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from edgeseg.core.artefacts import write_text
from edgeseg.core.errors import RequestError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

S = TypeVar("S", bound=msgspec.Struct)


def parse_value(text: str) -> object:
    """A value as a command line gives it: what TOML makes of it, or a plain word."""
    try:
        tables: dict[str, object] = tomllib.loads(f"value = {text.strip()}")
    except tomllib.TOMLDecodeError:
        return text.strip()
    return tables["value"]


def read_toml(path: Path) -> dict[str, object]:
    """The tables of a TOML file.

    Raises:
        RequestError: The file does not exist or is not TOML; names line and column.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError("the config file does not exist", value=path, allowed="a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError("the config file is not TOML", value=f"{path}: {error}", allowed="TOML 1.0") from None


def convert(tables: Mapping[str, object], kind: type[S], *, origin: str) -> S:
    """Make a `kind` from parsed tables.

    Args:
        tables: Nested tables, as TOML or the command line give them.
        kind: A struct type; its own `__post_init__` validates values with ValueError.
        origin: Where the values came from, for errors.

    Raises:
        RequestError: An unknown key (with the nearest known one), a wrong type or a refused value.
    """
    _refuse_unknown(tables, kind, origin, "")
    try:
        return msgspec.convert(tables, kind, strict=True)
    except msgspec.ValidationError as error:
        _refuse_unknown_value(tables, kind, str(error))
        raise RequestError("the configuration is not valid", value=f"{origin}: {_plain(str(error))}") from None


def load_config(path: Path | None, kind: type[S], overrides: Mapping[str, object] | None = None) -> S:
    """A `kind` from a TOML file (all defaults where `path` is None), then `overrides` over it, table by table."""
    tables = {} if path is None else read_toml(path)
    return convert(_merge(tables, overrides or {}), kind, origin=str(path) if path else "options")


def to_tables(config: msgspec.Struct) -> dict[str, object]:
    """The struct as nested plain tables; None values are left out, since TOML has no null."""
    plain = msgspec.to_builtins(config)
    assert isinstance(plain, dict)
    return _drop_none(plain)


def dump_toml(tables: Mapping[str, object], *, prefix: str = "") -> str:
    """TOML text of nested plain tables: scalars first, then sub-tables."""
    lines = [f"{_key(key)} = {_value(value)}" for key, value in tables.items() if not isinstance(value, Mapping)]
    text = "\n".join(lines) + ("\n" if lines else "")
    for key, value in tables.items():
        if isinstance(value, Mapping):
            name = prefix + _key(key)
            text += f"\n[{name}]\n" + dump_toml(value, prefix=name + ".")
    return text


def save_config(path: Path, config: msgspec.Struct) -> None:
    """Write the resolved config as TOML, atomically."""
    write_text(path, dump_toml(to_tables(config)))


def unknown_name(what: str, value: str, allowed: list[str], *, fix: str | None = None) -> RequestError:
    """The error for a name that is none of `allowed`, with the nearest one."""
    near = difflib.get_close_matches(value, allowed, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return RequestError(f"unknown {what}", value=value, allowed=f"allowed: {', '.join(allowed)}{hint}", fix=fix)


def _refuse_unknown(tables: Mapping[str, object], kind: type[msgspec.Struct], origin: str, prefix: str) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key, value in tables.items():
        if key not in fields:
            raise unknown_name(f"key in {origin}", prefix + key, [prefix + name for name in fields])
        inner = fields[key].type
        if isinstance(value, Mapping) and isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            _refuse_unknown(value, inner, origin, f"{prefix}{key}.")


def _refuse_unknown_value(tables: Mapping[str, object], kind: type[msgspec.Struct], message: str) -> None:
    """Say which names a field takes, where that is what `message` is about; msgspec does not list them."""
    match = re.fullmatch(r"Invalid enum value .* - at `\$\.([\w.]+)`", message)
    if match is None:
        return
    value: object = tables
    hint: object = kind
    for name in match[1].split("."):
        assert isinstance(value, Mapping)
        assert isinstance(hint, type)
        value = value[name]
        hint = typing.get_type_hints(hint)[name]
    raise unknown_name(match[1], str(value), [str(choice) for choice in _choices(hint)])


def _choices(hint: object) -> list[object]:
    """The values of a Literal, or of the Literals in a union."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [choice for part in typing.get_args(hint) for choice in _choices(part)]


def _merge(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _drop_none(tables: Mapping[str, object]) -> dict[str, object]:
    return {
        key: _drop_none(value) if isinstance(value, Mapping) else value
        for key, value in tables.items()
        if value is not None
    }


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(str(k))} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    return msgspec.json.encode(value).decode()


def _string(text: str) -> str:
    # a JSON string is a TOML basic string, but for DEL, which TOML wants escaped
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


def _plain(message: str) -> str:
    return message.replace("`$.", "`").replace("`$`", "the file")
