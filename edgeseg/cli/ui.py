"""What every command shares: `--json`, `--quiet`, `--debug`, and where text goes.

stdout carries exactly one JSON object with `--json`, and otherwise only what a command's answer is.
Everything for people — progress, tables, notes — goes to stderr.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from edgeseg.core.progress import Progress

F = TypeVar("F", bound=Callable[..., Any])

# a file that a command writes: one of a folder's name is refused before the work, not after it
OUT_FILE = click.Path(path_type=Path, dir_okay=False)


class Ui:
    """One command's way to a person or to a calling program.

    Args:
        as_json: One JSON object on stdout instead of tables.
        quiet: No progress, notes or tables.
        debug: Log everything; tracebacks on errors.
    """

    def __init__(self, *, as_json: bool, quiet: bool, debug: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.debug = debug

    @functools.cached_property
    def console(self) -> Console:
        """The rich console on stderr."""
        from rich.console import Console

        return Console(stderr=True, quiet=self.quiet, highlight=False, width=None if sys.stderr.isatty() else 140)

    def say(self, text: str, *, style: str = "") -> None:
        """One line for people, as it is (no markup); `style` is a rich style such as `bold`."""
        if not self.quiet:
            self.console.print(text, style=style, markup=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table for people: the first column left-aligned, numbers right-aligned."""
        if self.quiet:
            return
        from rich.table import Table
        from rich.text import Text

        if title:  # a line of its own: as the table's title it would be broken at the table's width
            self.say(title, style="bold")
        table = Table()
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index == 0 else "right")
        for row in rows:
            table.add_row(*(Text("–" if cell is None else str(cell)) for cell in row))
        self.console.print(table)

    def emit(self, answer: Mapping[str, object]) -> None:
        """The answer for programs: one JSON object on stdout, only with `--json`."""
        if self.as_json:
            import msgspec

            sys.stdout.write(msgspec.json.encode(answer, enc_hook=_plain).decode() + "\n")
            sys.stdout.flush()

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A display of running tasks with estimates; plain lines where stderr is no terminal."""
        if self.quiet:
            from edgeseg.core.progress import Silent

            yield Silent()
            return
        from edgeseg.cli.progress import LineProgress, RichProgress

        if self.console.is_terminal:
            with RichProgress(self.console) as display:
                yield display
        else:
            yield LineProgress(self.console)


def common_options(function: F) -> F:
    """Add `--json`, `--quiet` and `--debug`; the callback gets them as its first argument, a `Ui`."""

    @click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON object on stdout.")
    @click.option("--quiet", "-q", is_flag=True, help="No progress, notes or tables.")
    @click.option("--debug", is_flag=True, help="Log everything; show tracebacks.")
    @functools.wraps(function)
    def wrapper(*args: Any, as_json: bool, quiet: bool, debug: bool, **kwargs: Any) -> Any:
        from edgeseg.core import log

        log.configure(quiet=quiet, debug=debug)
        return function(Ui(as_json=as_json, quiet=quiet, debug=debug), *args, **kwargs)

    return wrapper  # type: ignore[return-value]


@contextmanager
def resumable(command: str, out: Path) -> Iterator[None]:
    """Let the last line of an interrupted training say how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if not (out / "config.toml").is_file():
            raise
        raise KeyboardInterrupt(f"try: edgeseg {command} --out {out} --resume") from None


def parse_size(text: str) -> tuple[int, int]:
    """`360x480` as (360, 480), height first.

    Raises:
        RequestError: Not HEIGHTxWIDTH with positive numbers.
    """
    from edgeseg.core.errors import RequestError

    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise RequestError("not a size", value=text, allowed="HEIGHTxWIDTH in pixels, for example 360x480")
    return int(height), int(width)


def parse_roi(text: str) -> tuple[int, int, int, int]:
    """`180x480+120+0` as (top, left, height, width) = (120, 0, 180, 480).

    Raises:
        RequestError: Not HEIGHTxWIDTH+TOP+LEFT.
    """
    from edgeseg.core.errors import RequestError

    size, *corner = text.split("+")
    if len(corner) != 2 or not all(side.isdecimal() for side in corner):
        raise RequestError(
            "not a region",
            value=text,
            allowed="HEIGHTxWIDTH+TOP+LEFT in pixels, for example 180x480+120+0",
        )
    height, width = parse_size(size)
    return int(corner[0]), int(corner[1]), height, width


def _plain(value: object) -> object:
    """JSON for what msgspec does not know: numpy scalars and paths."""
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    return str(value)
