"""Replacing a bundle in place, keeping the last good one, and going back to it.

Beside `NAME` lie `.NAME.last-good` (the bundle that was there before) and `.NAME.lock`. Two folders change places
in one system call where the kernel has it (renameat2 with RENAME_EXCHANGE, Linux 3.15), so that power loss at any
moment leaves a whole bundle at `NAME`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from pathlib import Path

from edgeseg.bundle.contents import Bundle, BundleContents, last_good_path
from edgeseg.bundle.verify import configured_key, naming_a_way_out, read_bundle
from edgeseg.bundle.write import write_bundle
from edgeseg.core.artefacts import disk_errors
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.core.log import get_logger
from edgeseg.core.workspace import lock

_LOG = get_logger(__name__)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def lock_path(path: Path) -> Path:
    """The lock file that guards `path` against a second process."""
    return path.with_name(f".{path.name}.lock")


def replace_bundle(path: Path, contents: BundleContents) -> Path:
    """Write a bundle in the place of `path`; what is there becomes the last good one, where it still verifies.

    Raises:
        As `write_bundle`; `path` is then as it was.
    """
    path = path.resolve()
    with lock(lock_path(path)):
        if not path.exists():
            return write_bundle(path, contents)
        candidate = path.with_name(f".{path.name}.candidate")
        with disk_errors(path):
            if candidate.exists():  # a process was killed between writing and swapping
                shutil.rmtree(candidate)
        write_bundle(candidate, contents)
        _swap_in(candidate, path)
    return path


def roll_back(path: Path) -> Bundle:
    """Exchange the bundle at `path` with its last good one; a second call goes forward again.

    Raises:
        RequestError: There is no last good bundle.
        VerifyError: The last good bundle does not verify; nothing was changed.
    """
    path = path.resolve()
    previous = last_good_path(path)
    with lock(lock_path(path)):
        if not previous.is_dir():
            raise RequestError(
                "there is no last good bundle",
                value=path,
                allowed="a bundle that was rebuilt",
                fix=f"edgeseg rebuild {path}",
            )
        key = configured_key()
        with naming_a_way_out(path, key):
            bundle = read_bundle(previous, key)
        with disk_errors(path):
            if path.exists():
                exchange(previous, path)
            else:
                previous.rename(path)
    return Bundle(path=path, id=bundle.id, manifest=bundle.manifest, sha256=bundle.sha256, trusted_by=bundle.trusted_by)


def exchange(one: Path, other: Path) -> None:
    """Let two folders of one file system change places, atomically where the kernel can."""
    if _exchange_atomically(one, other):
        return
    aside = other.with_name(f".{other.name}.aside.tmp")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def _swap_in(candidate: Path, path: Path) -> None:
    with disk_errors(path):
        exchange(candidate, path)  # candidate is now the old bundle
        try:
            read_bundle(candidate)
        except VerifyError as error:
            what = f"{error.what} ({error.value})"
            _LOG.warning("the replaced bundle is not kept, since it does not verify: %s", what)
            shutil.rmtree(candidate)
            return
        previous = last_good_path(path)
        if previous.exists():
            exchange(candidate, previous)
            shutil.rmtree(candidate)
        else:
            candidate.rename(previous)


def _exchange_atomically(one: Path, other: Path) -> bool:
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):  # an old kernel, or a file system without it
        return False
    raise OSError(code, os.strerror(code), str(other))
