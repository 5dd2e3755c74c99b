"""Writing results so that nothing half-written is ever seen: temporary name, flush, rename."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeseg.core.errors import DataError, RequestError

_CHUNK = 1 << 20


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_bytes(*parts: bytes) -> str:
    """SHA-256 over parts, each preceded by its length so that no two lists of parts share a digest."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's write errors (disk full, read-only, no permission) into a DataError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError("the disk is full", value=path, fix=f"df -h {path.parent}") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RequestError("cannot write here", value=path, allowed="a folder that you may write to") from error
        raise


@contextmanager
def _placing(path: Path) -> Iterator[None]:
    """As `disk_errors`, for the steps in which only `path` itself can be at fault: under a file, too long, a folder."""
    try:
        with disk_errors(path):
            yield
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> RequestError:
    return RequestError(
        "cannot write here",
        value=f"{path}: {(error.strerror or str(error)).lower()}",
        allowed="a new name in a folder that you may write to",
    )


def _temporary(path: Path) -> Path:
    """A new, empty file beside `path`."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp" + path.suffix, dir=path.parent)
    os.close(handle)
    return Path(name)


def _prepare(path: Path) -> None:
    with _placing(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def check_place(path: Path) -> None:
    """Find out, before the work that leads to it, whether the file `path` can be written; leaves nothing behind.

    It is tried, not asked: permissions say nothing of /proc, of read-only disks, of names that are too long.

    Raises:
        RequestError: A folder or device has that name, or none can be made or written to there.
        DataError: The disk is full.
    """
    with _placing(path):
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no ordinary file"
            raise RequestError("cannot write here", value=f"{path}: it is {kind}", allowed="a file, or a new name")
    _try(path, shown=path)


def check_folder(folder: Path) -> None:
    """As `check_place`, for files in `folder`, which is made when the first is written."""
    with _placing(folder):
        if folder.exists() and not folder.is_dir():
            raise RequestError("cannot write here", value=f"{folder}: it is a file", allowed="a folder, or a new name")
    _try(folder / "file", shown=folder)


def _try(path: Path, *, shown: Path) -> None:
    made: list[Path] = []
    try:
        missing = [folder for folder in path.parents if not folder.exists()]  # the innermost first
        for folder in reversed(missing):
            folder.mkdir()
            made.append(folder)
        _temporary(path).unlink()
    except FileExistsError:  # another process has just made it: the next one to write finds out
        pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError("the disk is full", value=shown, fix=f"df -h {shown.parent}") from error
        raise _refused(shown, error) from error
    finally:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()


def disk_is_full(folder: Path, *, least: int) -> bool:
    """Whether fewer than `least` bytes are free; a file system that counts none (/proc, some of FUSE) is never full."""
    usage = shutil.disk_usage(folder)
    return usage.total > 0 and usage.free < least


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit flush it and rename it to `path`, else remove it."""
    _prepare(path)
    with _placing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        temporary = _temporary(path)
    try:
        with disk_errors(path):
            yield temporary
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on a clean exit flush and rename it to `path`, else remove it.

    Raises:
        RequestError: `path` exists and `replace` is false.
    """
    if path.exists() and not replace:
        raise RequestError("the folder exists", value=path, allowed="a path that does not exist yet")
    _prepare(path)
    with _placing(path):
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        with disk_errors(path):
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            temporary.chmod(0o777 & ~_umask())
            _swap(temporary, path)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what `atomic_file` and `atomic_folder` had begun in `folder` when their process was killed.

    Only for a folder that no other process writes to.
    """
    for path in folder.glob(".*.tmp*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def _swap(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
        return
    old = path.with_name(f".{path.name}.old.tmp")
    if old.exists():
        shutil.rmtree(old)
    path.rename(old)
    temporary.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
