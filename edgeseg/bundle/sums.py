"""SHA256SUMS: the one list of a bundle's files, in the form that `sha256sum -c` reads.

Everything else rests on this file, so it is strict: plain relative names, one line a file, sorted, no name twice;
and the folder holds exactly the listed files, all of them regular. An error without a `fix` says what is wrong; the way
out depends on the rest of the bundle, and `edgeseg.bundle.verify` finds it.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from edgeseg.bundle.contents import SIGNATURE, SUMS
from edgeseg.core.artefacts import sha256_file
from edgeseg.core.errors import RequestError, VerifyError

_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*)")
_MAX_BYTES = 1 << 20
_WORN = {errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)}
"""What a worn card or a torn file system answers to a read."""


def read_sums(path: Path) -> tuple[bytes, dict[str, str]]:
    """The bytes of SHA256SUMS and its digests by name.

    Raises:
        RequestError: `path` does not exist.
        VerifyError: It is not a bundle, or SHA256SUMS is malformed.
    """
    if not path.exists():
        raise RequestError("the bundle does not exist", value=path, allowed="a folder that `edgeseg build` wrote")
    file = path / SUMS
    if not path.is_dir() or file.is_symlink() or not file.is_file():
        raise VerifyError(
            "not an engine bundle", value=path, allowed=f"a folder with {SUMS}", fix="edgeseg build MODEL"
        )
    if file.stat().st_size > _MAX_BYTES:
        raise VerifyError(f"{SUMS} is too large", value=f"{file.stat().st_size} bytes", allowed=f"at most {_MAX_BYTES}")
    data = file.read_bytes()
    return data, _parse(data)


def bundle_id(data: bytes) -> str:
    """The id of the bundle with this SHA256SUMS."""
    return hashlib.sha256(data).hexdigest()


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS over every file of `folder`."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    text = "".join(f"{sha256_file(folder / name)}  {name}\n" for name in names)
    (folder / SUMS).write_text(text, encoding="ascii")


def find_damage(path: Path, sums: Mapping[str, str]) -> dict[str, VerifyError]:
    """What is wrong with each listed file that is missing, irregular or altered, in the order of the list.

    Raises:
        VerifyError: The folder holds something that is not listed.
    """
    regular, irregular = _entries(path, sums)
    damage: dict[str, VerifyError] = {}
    for name, expected in sums.items():
        error = _fault(path, name, expected, regular, irregular)
        if error is not None:
            damage[name] = error
    return damage


def _fault(path: Path, name: str, expected: str, regular: set[str], irregular: set[str]) -> VerifyError | None:
    behind = next((entry for entry in sorted(irregular) if _holds(entry, name)), None)
    if behind is not None:
        return VerifyError("the bundle holds an irregular file", value=behind, allowed="regular files only")
    if name not in regular:
        return VerifyError("the bundle lacks a file", value=name, allowed="every file of SHA256SUMS")
    try:
        actual = sha256_file(path / name)
    except OSError as error:
        if error.errno not in _WORN:
            raise
        return VerifyError(
            "a file of the bundle cannot be read", value=f"{name}: {error.strerror}", allowed="a sound disk or card"
        )
    if actual == expected:
        return None
    return VerifyError(
        "a file of the bundle was altered", value=f"{name}: sha256 {actual}", allowed=f"expected {expected}"
    )


def _parse(data: bytes) -> dict[str, str]:
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise VerifyError(f"{SUMS} is malformed", value="not ASCII", allowed="`DIGEST  NAME` lines") from None
    if lines.pop() != "":
        raise VerifyError(f"{SUMS} is truncated", value="no final newline", allowed="`DIGEST  NAME` lines")
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None or match["name"] in sums or match["name"] in (SUMS, SIGNATURE):
            raise VerifyError(
                f"{SUMS} is malformed",
                value=f"line {number}: {line[:120]!r}",
                allowed="`DIGEST  NAME`, each name once, relative, without `..`",
            )
        sums[match["name"]] = match["digest"]
    return sums


def _entries(path: Path, sums: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """Names of the regular files under `path`, and of links and devices that stand where a listed file should.

    Raises:
        VerifyError: Anything that is not listed, an empty folder included.
    """
    regular: set[str] = set()
    irregular: set[str] = set()
    pending = [path]
    while pending:
        folder = pending.pop()
        entries = list(folder.iterdir())
        if not entries and folder != path:
            name = folder.relative_to(path).as_posix()
            if not _is_listed(name, sums):
                raise _surplus(path, "the bundle holds an empty folder", name, sums)
        for entry in entries:
            name = entry.relative_to(path).as_posix()
            if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
                if not _is_listed(name, sums):
                    raise _surplus(path, "the bundle holds an irregular file", name, sums)
                irregular.add(name)
            elif entry.is_dir():
                pending.append(entry)
            else:
                regular.add(name)
    for extra in sorted(regular - sums.keys() - {SUMS, SIGNATURE}):
        raise _surplus(path, "the bundle holds a file that is not in SHA256SUMS", extra, sums)
    return regular, irregular


def _holds(entry: str, name: str) -> bool:
    """Whether `name` is `entry` or lies under it."""
    return name == entry or name.startswith(f"{entry}/")


def _is_listed(entry: str, sums: Mapping[str, str]) -> bool:
    return any(_holds(entry, name) for name in sums)


def _surplus(path: Path, what: str, name: str, sums: Mapping[str, str]) -> VerifyError:
    """Taking it away makes the bundle whole; a rebuild would delete what somebody may want."""
    top = Path(name)
    while top.parent != Path() and not any(other.startswith(f"{top.parent.as_posix()}/") for other in sums):
        top = top.parent
    return VerifyError(what, value=name, allowed="listed files only", fix=f"rm -r {shlex.quote(str(path / top))}")
