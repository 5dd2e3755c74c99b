"""Model, ranges and target to a bundle: build every candidate, time them, gate the fastest, prove it, write it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeseg.bundle import replace_bundle, write_bundle
from edgeseg.bundle.verify import configured_key, read_bundle
from edgeseg.core.artefacts import disk_errors
from edgeseg.core.errors import EdgesegError, RequestError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, format_size
from edgeseg.core.workspace import output_path
from edgeseg.deploy.candidates import Candidate, build_candidates, plan_candidates, rivals, time_candidates
from edgeseg.deploy.choice import Choice, choose_engine, pareto
from edgeseg.deploy.gate import Scores
from edgeseg.deploy.golden import agreement, golden_frames, golden_masks
from edgeseg.deploy.job import ArtefactWriter, Job, start_job
from edgeseg.deploy.record import Evidence, contents_of
from edgeseg.deploy.request import BuildReport, BuildRequest, Timing

PLOT = "pareto.svg"
"""Time against accuracy of every engine of a gated build, inside the bundle."""
_BROKEN = 0.9  # an engine that agrees less with its own artefact computes something else


def build_bundle(
    request: BuildRequest,
    out: Path | None,
    progress: Progress,
    *,
    golden: Sequence[U8] | None = None,
    replace: bool = False,
    trust: Path | None = None,
) -> BuildReport:
    """Build a bundle.

    Args:
        request: What is asked for.
        out: Folder of the bundle; by default `engines/NAME` in the current folder.
        progress: Where each stage is shown.
        golden: Golden frames as the engine takes them, instead of chosen ones: a rebuild keeps the old ones.
        replace: Put it in the place of the bundle at `out`, whose content becomes its last good one.
        trust: The public key that the new bundle will be checked with, by default the one that EDGESEG_TRUST names: a
            note says that it has to be signed first.

    Raises:
        RequestError: The request cannot be.
        VerifyError: Model or ranges do not verify.
        GateError: Every candidate lost more than the budget; nothing is written.
        UnavailableError: No backend of the target is installed, or none has the precision.
    """
    with tempfile.TemporaryDirectory(prefix="edgeseg-build-") as folder, disk_errors(Path(folder)):
        if out is not None:
            _check_out(out, replace)
        job = start_job(request, Path(folder), progress)
        if out is None:
            out = output_path("engines", f"{job.meta.name}-{job.target.name}-{format_size(job.frame_size)}")
            _check_out(out, replace)
        plans = plan_candidates(job.target, job.precisions, request.backend)
        frames = list(golden) if golden is not None else golden_frames(request, job.dataset, job.spec)
        write = ArtefactWriter(job)
        made, notes = build_candidates(plans, job.spec, write, job.scratch, progress)
        job.notes.extend(notes)
        timed = time_candidates(made, frames, progress)
        if any(item.sibling for item in timed):  # it was built to be compared: say how it came out
            job.notes.extend(str(item) for item in rivals(timed))
        choice = choose_engine(job, timed, plans, write, frames)
        chosen = choice.candidate
        evidence = _prove(job, choice, frames)
        plot = pareto(job, choice)
        if plot is not None:
            (chosen.folder / PLOT).write_text(plot, encoding="utf-8")  # travels with the engine's files
        contents = contents_of(job, chosen, choice.ordered, evidence, name=out.name)
        path = replace_bundle(out, contents) if replace else write_bundle(out, contents)
        key = trust or configured_key()
        if key is not None:
            job.notes.append(f"not signed yet, so refused with {key}; next: edgeseg sign {path} --key K")
        return BuildReport(
            bundle=path,
            id=read_bundle(path).id,
            backend=chosen.builder.name,
            precision=chosen.built.precision,
            frame_size=job.frame_size,
            timings=tuple(_timing(item) for item in choice.ordered),
            scores=_scores(evidence),
            notes=tuple(job.notes),
        )


def _check_out(out: Path, replace: bool) -> None:
    if out.exists() and not replace:
        raise RequestError(
            "the bundle's folder exists",
            value=out,
            allowed="a path that does not exist yet",
            fix=f"edgeseg rebuild {out}, or --out with another path",
        )


def _prove(job: Job, choice: Choice, frames: Sequence[U8]) -> Evidence:
    """Golden masks of the exact artefact, and how far the engine agrees with them."""
    chosen = choice.candidate
    golden = golden_masks(chosen.artefact, frames, job.frame_size)
    measured = agreement(chosen.open(), golden) if chosen.built.can_run_here else None
    if measured is not None and measured < _BROKEN:
        raise EdgesegError(
            "the engine does not compute what its ONNX file says",
            value=f"{chosen.name}: {measured:.1%} of the golden pixels agree",
            allowed=f"at least {_BROKEN:.0%}",
            fix=f"edgeseg build {job.request.model} --precision fp32",
        )
    scores = choice.scores.get(chosen.name)
    return Evidence(golden=golden, agreement=measured, reference=choice.reference, scores=scores, search=choice.search)


def _scores(evidence: Evidence) -> dict[str, Scores]:
    if evidence.reference is None or evidence.scores is None:
        return {}
    return {"reference": evidence.reference, "engine": evidence.scores}


def _timing(item: Candidate) -> Timing:
    return Timing(name=item.name, backend=item.builder.name, precision=item.built.precision, p50_ms=item.p50_ms)
