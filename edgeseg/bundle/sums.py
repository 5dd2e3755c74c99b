"""SHA256SUMS: the one list of a bundle's files, in the form that `sha256sum -c` reads.

Everything else rests on this file, so it is strict: plain relative names, one line a file, sorted, no name twice;
and the folder holds exactly the listed files, all of them regular.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from edgeseg.bundle.contents import SIGNATURE, SUMS
from edgeseg.core.artefacts import sha256_file
from edgeseg.core.errors import RequestError, VerifyError

_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*)")
_MAX_BYTES = 1 << 20


def last_good_path(path: Path) -> Path:
    """Where the bundle that was at `path` before is kept."""
    return path.with_name(f".{path.name}.last-good")


def refusal(path: Path, what: str, *, value: object, allowed: str, whole: bool = False) -> VerifyError:
    """The error for a bundle that does not verify: what, the value found, what was expected, and the way out.

    A rebuild starts from what a bundle holds, so it is no way out of one that is not `whole`.
    """
    if whole:
        fix = f"edgeseg rebuild {path}"
    elif last_good_path(path.resolve()).is_dir():
        fix = f"edgeseg rollback {path}"
    else:
        fix = "another copy of the bundle, or edgeseg build MODEL"
    return VerifyError(what, value=value, allowed=allowed, fix=fix)


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
        raise refusal(
            path, f"{SUMS} is too large", value=f"{file.stat().st_size} bytes", allowed=f"at most {_MAX_BYTES}"
        )
    data = file.read_bytes()
    return data, _parse(path, data)


def bundle_id(data: bytes) -> str:
    """The id of the bundle with this SHA256SUMS."""
    return hashlib.sha256(data).hexdigest()


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS over every file of `folder`."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    text = "".join(f"{sha256_file(folder / name)}  {name}\n" for name in names)
    (folder / SUMS).write_text(text, encoding="ascii")


def check_files(path: Path, sums: Mapping[str, str]) -> None:
    """Refuse unless the folder holds exactly the listed files, regular ones, with these digests.

    Raises:
        VerifyError: A missing, extra, irregular or altered file, by name.
    """
    found = _regular_files(path)
    for extra in sorted(found - sums.keys() - {SUMS, SIGNATURE}):
        raise refusal(
            path, "the bundle holds a file that is not in SHA256SUMS", value=extra, allowed="listed files only"
        )
    for name, expected in sums.items():
        if name not in found:
            raise refusal(path, "the bundle lacks a file", value=name, allowed="every file of SHA256SUMS")
        actual = sha256_file(path / name)
        if actual != expected:
            raise refusal(
                path,
                "a file of the bundle was altered",
                value=f"{name}: sha256 {actual}",
                allowed=f"expected {expected}",
            )


def _parse(path: Path, data: bytes) -> dict[str, str]:
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise refusal(path, f"{SUMS} is malformed", value="not ASCII", allowed="`DIGEST  NAME` lines") from None
    if lines.pop() != "":
        raise refusal(path, f"{SUMS} is truncated", value="no final newline", allowed="`DIGEST  NAME` lines")
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None or match["name"] in sums or match["name"] in (SUMS, SIGNATURE):
            raise refusal(
                path,
                f"{SUMS} is malformed",
                value=f"line {number}: {line[:120]!r}",
                allowed="`DIGEST  NAME`, each name once, relative, without `..`",
            )
        sums[match["name"]] = match["digest"]
    return sums


def _regular_files(path: Path) -> set[str]:
    """Names of all files under `path`; symbolic links, devices and empty folders are refused."""
    found: set[str] = set()
    pending = [path]
    while pending:
        folder = pending.pop()
        entries = list(folder.iterdir())
        if not entries and folder != path:
            raise refusal(
                path, "the bundle holds an empty folder", value=folder.relative_to(path), allowed="listed files only"
            )
        for entry in entries:
            name = entry.relative_to(path).as_posix()
            if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
                raise refusal(path, "the bundle holds an irregular file", value=name, allowed="regular files only")
            if entry.is_dir():
                pending.append(entry)
            else:
                found.add(name)
    return found
