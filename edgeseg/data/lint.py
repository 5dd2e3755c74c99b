"""What is wrong, or suspicious, in a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.types import format_size
from edgeseg.data.survey import Survey

NEAR_BITS = 32
"""Frames whose 256-bit hashes differ in no more bits are near-duplicates.

On CamVid, frames 1/15 s apart differ in at most 31 bits and frames of different places in at least 69
(`edgeseg data lint camvid:PATH` says how many pairs there are across splits).
"""
_LISTED = 20
_RARE_FRAMES = 3


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that lint found.

    Attributes:
        severity: `error` where frames cannot be used, `warning` where they should be looked at.
        rule: `unreadable`, `empty`, `vocabulary`, `orphan`, `sizes`, `absent`, `rare`, `unlabelled` or `duplicate`.
        split: Where.
        text: What, for people.
    """

    severity: str
    rule: str
    split: str
    text: str


class Duplicate(msgspec.Struct, frozen=True, kw_only=True):
    """Two frames of different splits that show nearly the same.

    Attributes:
        first: (split, name).
        second: (split, name).
        bits: Bits of 256 in which their hashes differ.
    """

    first: tuple[str, str]
    second: tuple[str, str]
    bits: int


class LintReport(msgspec.Struct, frozen=True, kw_only=True):
    """What lint found in a data set.

    Attributes:
        findings: Errors first.
        duplicates: Every near-duplicate across splits.
        frames: Frames that can be read, by split.
        shares: Share of the labelled pixels by split and class, 0 to 1.
    """

    findings: tuple[Finding, ...]
    duplicates: tuple[Duplicate, ...]
    frames: dict[str, int]
    shares: dict[str, dict[str, float]]

    @property
    def errors(self) -> int:
        """How many findings mean that frames cannot be used."""
        return sum(finding.severity == "error" for finding in self.findings)


def lint(surveys: Sequence[Survey]) -> LintReport:
    """Check splits, each on its own and against each other."""
    findings = [finding for survey in surveys for finding in _within(survey)]
    if any(survey.classes != surveys[0].classes for survey in surveys):
        findings.append(_finding("error", "vocabulary", "", "the splits differ in their classes"))
    duplicates = [pair for a, b in combinations(surveys, 2) for pair in _duplicates(a, b)]
    for (first, second), count in Counter((pair.first[0], pair.second[0]) for pair in duplicates).items():
        text = f"{count} pairs of frames are nearly the same in {first} and {second}: {second} then flatters"
        findings.append(_finding("warning", "duplicate", second, text))
    return LintReport(
        findings=tuple(sorted(findings, key=lambda finding: finding.severity)),
        duplicates=tuple(duplicates),
        frames={survey.split: len(survey.frames) for survey in surveys},
        shares={survey.split: _shares(survey) for survey in surveys},
    )


def _finding(severity: str, rule: str, split: str, text: str) -> Finding:
    return Finding(severity=severity, rule=rule, split=split, text=text)


def _within(survey: Survey) -> list[Finding]:
    split = survey.split
    found = [_finding("error", "unreadable", split, str(problem)) for problem in survey.problems[:_LISTED]]
    if len(survey.problems) > _LISTED:
        more = len(survey.problems) - _LISTED
        found.append(_finding("error", "unreadable", split, f"and {more} more frames that cannot be used"))
    if survey.orphans:
        listed = ", ".join(path.name for path in survey.orphans[:5])
        count = len(survey.orphans)
        text = f"{count} masks have no image ({listed}{', …' if count > 5 else ''}): nothing reads them"
        found.append(_finding("warning", "orphan", split, text))
    if not survey.frames:
        return [*found, _finding("error", "empty", split, "no frame can be used")]
    sizes = Counter(frame.size for frame in survey.frames)
    if len(sizes) > 1:
        listed = ", ".join(f"{format_size(size)}: {count}" for size, count in sizes.most_common(5))
        found.append(_finding("warning", "sizes", split, f"{len(sizes)} sizes ({listed})"))
    shows = np.sum([frame.pixels > 0 for frame in survey.frames], axis=0)
    absent = [name for name, count in zip(survey.classes.names, shows, strict=True) if count == 0]
    rare = [name for name, count in zip(survey.classes.names, shows, strict=True) if 0 < count < _RARE_FRAMES]
    if absent:
        found.append(_finding("warning", "absent", split, f"no frame shows {', '.join(absent)}"))
    if rare:
        found.append(_finding("warning", "rare", split, f"fewer than {_RARE_FRAMES} frames show {', '.join(rare)}"))
    unlabelled = [frame.name for frame in survey.frames if not frame.pixels.any()]
    if unlabelled:
        listed = ", ".join(unlabelled[:5])
        found.append(_finding("warning", "unlabelled", split, f"{len(unlabelled)} frames have no label ({listed})"))
    return found


def _duplicates(first: Survey, second: Survey) -> list[Duplicate]:
    if not first.frames or not second.frames:
        return []
    bits = _distances(_signs(first), _signs(second))
    return [
        Duplicate(
            first=(first.split, first.frames[i].name),
            second=(second.split, second.frames[j].name),
            bits=int(bits[i, j]),
        )
        for i, j in np.argwhere(bits <= NEAR_BITS).tolist()
    ]


def _shares(survey: Survey) -> dict[str, float]:
    labelled = max(int(survey.pixels.sum()), 1)
    return {name: round(int(n) / labelled, 6) for name, n in zip(survey.classes.names, survey.pixels, strict=True)}


def _signs(survey: Survey) -> NDArray[np.float32]:
    return np.where(np.stack([frame.bits for frame in survey.frames]), 1, -1).astype(np.float32)


def _distances(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.int64]:
    """Hamming distances of hashes given as signs: (bits - dot product) / 2."""
    return np.asarray(np.rint((first.shape[1] - first @ second.T) / 2), np.int64)
