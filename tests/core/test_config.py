from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.core.config import convert, dump_toml, load_config, read_toml, save_config, tomllib
from edgeseg.core.errors import RequestError


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    rate: float = 0.5
    kind: Literal["plain", "striped"] | None = None
    names: tuple[str, ...] = ()


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    steps: int = 10
    inner: Inner = Inner()
    note: str | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps {self.steps}; allowed: 1 or more")


def test_file_then_overrides(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("steps = 3\n[inner]\nrate = 0.1\n")
    config = load_config(tmp_path / "c.toml", Outer, {"inner": {"names": ["a"]}})
    assert config == Outer(steps=3, inner=Inner(rate=0.1, names=("a",)))


def test_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"inner\.ratte.*did you mean inner\.rate"):
        convert({"inner": {"ratte": 1.0}}, Outer, origin="c.toml")


@pytest.mark.parametrize("tables", [{"steps": "three"}, {"steps": 0}, {"inner": {"rate": "fast"}}])
def test_wrong_values_are_refused(tables: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        convert(tables, Outer, origin="c.toml")


def test_a_name_that_a_field_does_not_take_lists_those_that_it_does() -> None:
    with pytest.raises(
        RequestError, match=r"inner.kind \(stripy\); allowed: plain, striped \(did you mean striped\?\)"
    ):
        convert({"inner": {"kind": "stripy"}}, Outer, origin="c.toml")


def test_bad_toml_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("steps = = 3\n")
    with pytest.raises(RequestError, match="line 1"):
        read_toml(tmp_path / "c.toml")
    with pytest.raises(RequestError, match="does not exist"):
        read_toml(tmp_path / "none.toml")


def test_saved_config_reads_back_the_same(tmp_path: Path) -> None:
    config = Outer(steps=7, inner=Inner(rate=1e-9, names=("sky", 'a "quoted" \n name')), note=None)
    save_config(tmp_path / "c.toml", config)
    assert load_config(tmp_path / "c.toml", Outer) == config


scalars = st.one_of(
    st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
tables = st.recursive(
    st.dictionaries(st.text(min_size=1), st.one_of(scalars, st.lists(scalars, max_size=3)), max_size=4),
    lambda inner: st.dictionaries(st.text(min_size=1), st.one_of(scalars, inner), max_size=4),
    max_leaves=8,
)


@given(tables)
def test_any_tables_survive_toml(value: dict[str, object]) -> None:
    assert tomllib.loads(dump_toml(value)) == value
