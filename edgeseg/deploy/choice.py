"""Which engine is kept: the fastest that passes the gate, or a mix of precisions that does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeseg.backend import open_onnx
from edgeseg.core.types import U8, Runner
from edgeseg.deploy.candidates import Artefact, Candidate, Plan, time_candidates
from edgeseg.deploy.gate import Loss, Scores, gate_error, losses, score
from edgeseg.deploy.job import Job
from edgeseg.deploy.pareto import Point, pareto_svg
from edgeseg.deploy.search import Memory, Search

CLOSE = 0.98
"""An INT8 engine that saves less than 2 % of the time is not worth its rounding."""


@dataclass(slots=True)
class Choice:
    """The engine that is kept, and how it was found.

    Attributes:
        candidate: The engine.
        ordered: Every engine that was built, the kept one first.
        reference: Scores of the FP32 reference, where there was a gate.
        scores: Scores by engine name.
        search: What the mixed-precision search measured, where there was one.
    """

    candidate: Candidate
    ordered: list[Candidate]
    reference: Scores | None = None
    scores: dict[str, Scores] = field(default_factory=dict)
    search: Memory | None = None


def choose_engine(
    job: Job,
    timed: Sequence[Candidate],
    plans: Sequence[Plan],
    write: Callable[[Artefact], Path],
    frames: Sequence[U8],
) -> Choice:
    """Take the first engine that passes the gate, fastest first; `auto` looks for a mix where INT8 does not.

    Raises:
        GateError: Every engine lost more than the budget.
    """
    ordered = _by_preference(job, list(timed))
    usable = [item for item in ordered if not item.sibling]
    if job.dataset is None:
        return Choice(usable[0], ordered)
    job.progress.say(f"gate: scoring the FP32 reference on {job.dataset.name} ({job.dataset.split})")
    named = job.request.max_drop_class
    reference = score(open_onnx(job.reference_file, job.frame_size), job.dataset, named, job.progress)
    choice = Choice(usable[0], ordered, reference)
    failures: dict[str, list[Loss]] = {}
    for candidate in usable:
        found = score(executor(job, candidate), job.dataset, named, job.progress)
        choice.scores[candidate.name] = found
        lost = losses(reference, found, job.request)
        if not lost:
            return _kept(choice, candidate)
        failures[candidate.name] = lost
        _note(job, f"{candidate.name} did not pass the gate: {', '.join(str(loss) for loss in lost)}")
        mix = _search(job, choice, candidate, plans, write, frames)
        if mix is not None:
            return _kept(choice, mix)
    raise gate_error(job.request, failures)


def executor(job: Job, candidate: Candidate) -> Runner:
    """The engine itself where it runs here, else its exact artefact in ONNX Runtime."""
    if candidate.built.can_run_here:
        return candidate.open()
    return open_onnx(candidate.artefact, job.frame_size)


def pareto(job: Job, choice: Choice) -> str | None:
    """Time against accuracy of every engine that was scored and timed; None for fewer than two."""
    base = (choice.reference or {}).get("miou")
    points = []
    for item in choice.ordered:
        reached = choice.scores.get(item.name, {}).get("miou")
        if base is not None and reached is not None and item.p50_ms is not None:
            points.append(Point(item.name, item.p50_ms, 100 * (base - reached), item is choice.candidate))
    return pareto_svg(points, job.request.budget) if len(points) > 1 else None


def _by_preference(job: Job, timed: list[Candidate]) -> list[Candidate]:
    """Fastest first; but `auto` takes INT8 only where it is clearly faster than float."""
    if job.request.precision != "auto" or not timed:
        return timed
    if timed[0].built.precision != "int8":
        slower = next((item for item in timed if item.built.precision == "int8" and item.p50_ms is not None), None)
        if slower is not None and timed[0].p50_ms is not None:
            _note(job, f"{timed[0].name} is faster here than {slower.name}, so it was preferred")
        return timed
    best, rival = timed[0], _fastest_float(timed)
    if rival is None or _faster(best, rival):
        return timed
    _note(job, f"{rival.name} is as fast as {best.name} here, so it was preferred")
    return [rival, *(item for item in timed if item is not rival)]


def _search(
    job: Job,
    choice: Choice,
    failed: Candidate,
    plans: Sequence[Plan],
    write: Callable[[Artefact], Path],
    frames: Sequence[U8],
) -> Candidate | None:
    """A mix that passes and is clearly faster than float, where `auto` may look for one."""
    rival = _fastest_float(choice.ordered)
    plan = next((item for item in plans if item.name == failed.name), None)
    asked = job.request.precision == "auto" and failed.built.precision == "int8" and choice.search is None
    if not asked or rival is None or plan is None or choice.reference is None or not failed.built.can_run_here:
        return None
    found = Search(job, write, plan, (rival, failed), choice.reference, frames).run()
    choice.search = found.memory
    # every mix against the engines that it stands between, in one interleaved run
    again = time_candidates([*found.mixes, rival, failed], frames, job.progress)
    retimed = {item.name: item for item in again}
    rest = [item for item in choice.ordered if item.name not in retimed]
    choice.ordered = [*again, *rest]
    for probe in found.memory.probes:
        choice.scores[f"{plan.name}, {probe.in_float} layers in float"] = probe.scores
    if found.best is None:
        _note(job, f"no mix of {plan.name} and float keeps the masks within the budget")
        return None
    mix, rival = retimed[found.best[0].name], retimed[rival.name]
    if not _faster(mix, rival):
        _note(job, f"{rival.name} is as fast here as {mix.name}, the mix that keeps the masks")
        return None
    return mix


def _kept(choice: Choice, candidate: Candidate) -> Choice:
    choice.candidate = next(item for item in choice.ordered if item.name == candidate.name)
    choice.ordered = [choice.candidate, *(item for item in choice.ordered if item is not choice.candidate)]
    return choice


def _fastest_float(timed: Sequence[Candidate]) -> Candidate | None:
    floats = [item for item in timed if item.built.precision != "int8" and item.p50_ms is not None and not item.sibling]
    return min(floats, key=lambda item: item.p50_ms or 0.0, default=None)


def _faster(item: Candidate, rival: Candidate) -> bool:
    return item.p50_ms is not None and (rival.p50_ms is None or item.p50_ms < CLOSE * rival.p50_ms)


def _note(job: Job, text: str) -> None:
    job.notes.append(text)
    job.progress.say(text)
