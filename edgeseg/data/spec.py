"""The text that names a data set: a scheme, a colon, and a path or options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgeseg.core.config import convert, unknown_name
from edgeseg.core.errors import RequestError
from edgeseg.core.types import Size

_SIZE = re.compile(r"(\d+)x(\d+)")


class StreetOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `street:`.

    Attributes:
        seed: Which street.
        frames: Frames of the drive; as a data set, of the split `train` (`val` has a fifth, at least 8).
        size: (height, width) of a frame.
        step_m: Metres driven from frame to frame; 0 for the default of who plays it (4 m between labelled frames of a
            data set, 0.3 m between frames of a video).
    """

    seed: int = 1
    frames: int = 200
    size: Size = (360, 480)
    step_m: float = 0.0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}; allowed: 0 or more")
        if self.frames < 1:
            raise ValueError(f"frames {self.frames}; allowed: 1 or more")
        if not all(64 <= side <= 4096 for side in self.size):
            raise ValueError(f"size {self.size[0]}x{self.size[1]}; allowed: 64 to 4096 a side")
        if not 0 <= self.step_m <= 1000:  # NaN too is refused
            raise ValueError(f"step_m {self.step_m}; allowed: 0 to 1000")


def split_spec(spec: str, schemes: Sequence[str]) -> tuple[str, str]:
    """The scheme and the rest of a specification.

    Raises:
        RequestError: No scheme or an unknown one.
    """
    scheme, colon, rest = spec.partition(":")
    if not colon:
        hint = f"folder:{spec}" if Path(spec).is_dir() else "street:seed=1,frames=200"
        raise RequestError(
            "the data set has no scheme", value=spec, allowed=f"SCHEME:PATH, as {hint}; schemes: {', '.join(schemes)}"
        )
    if scheme not in schemes:
        raise unknown_name("data set scheme", scheme, list(schemes))
    return scheme, rest


def parse_street(rest: str) -> StreetOptions:
    """Options of `street:` from `seed=1,frames=200,size=360x480,step_m=4`; all have defaults.

    Raises:
        RequestError: An unknown option or a value that is not allowed.
    """
    tables: dict[str, object] = {}
    for item in filter(None, rest.split(",")):
        key, equals, text = item.partition("=")
        if not equals:
            raise RequestError("an option of street: has no value", value=item, allowed="KEY=VALUE,KEY=VALUE")
        tables[key.strip()] = _street_value(key.strip(), text.strip())
    return convert(tables, StreetOptions, origin=f"street:{rest}")


def _street_value(key: str, text: str) -> object:
    try:
        if key == "size":
            match = _SIZE.fullmatch(text)
            if match is None:
                raise ValueError(text)
            return [int(match[1]), int(match[2])]
        return float(text) if key == "step_m" else int(text)
    except ValueError:
        allowed = {"size": "HEIGHTxWIDTH, as 360x480", "step_m": "metres, as 4"}.get(key, "a whole number")
        raise RequestError(f"street: cannot read {key}", value=text, allowed=allowed) from None
