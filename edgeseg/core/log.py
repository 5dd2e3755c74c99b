"""Logging: one logger tree, everything for people on stderr, no output of its own at import."""

from __future__ import annotations

import logging
import os
import re
import sys

ROOT = "edgeseg"
_CREDENTIALS = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^/@\s]+@")


def get_logger(name: str) -> logging.Logger:
    """The logger of a module: pass `__name__`."""
    return logging.getLogger(name if name.startswith(ROOT) else f"{ROOT}.{name}")


def redact(text: str) -> str:
    """Replace the user and password in every URL of `text`, so that no camera's credentials reach a log."""
    return _CREDENTIALS.sub(r"\g<scheme>***@", text)


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


_CHATTER = {"OPENCV_LOG_LEVEL": "FATAL", "OPENCV_FFMPEG_LOGLEVEL": "8"}  # 8 is AV_LOG_FATAL


def _quiet_libraries() -> None:
    """Before OpenCV is loaded: it and its FFmpeg write to stderr themselves, past every handler.

    What they say of a failure we say in one line, with the value and the remedy. A level that a person has set stays.
    """
    for name, level in _CHATTER.items():
        os.environ.setdefault(name, level)


def configure(*, quiet: bool = False, debug: bool = False) -> None:
    """Send the log to stderr: warnings and up, errors only with `quiet`, everything with `debug`, OpenCV's own too."""
    if not debug:
        _quiet_libraries()
    logger = logging.getLogger(ROOT)
    logger.handlers.clear()
    handler = logging.StreamHandler(sys.stderr)
    form = (
        "%(relativeCreated)8.0f ms %(name)s %(levelname)s %(message)s"
        if debug
        else "edgeseg: %(levelname)s: %(message)s"
    )
    handler.setFormatter(_Redacting(form))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.ERROR if quiet else logging.WARNING)
