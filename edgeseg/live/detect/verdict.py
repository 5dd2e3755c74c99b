"""What a detector says."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.types import State


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state other than OK, and why."""

    state: State
    reason: str
