"""Model, ranges and target to a bundle: build every candidate, time them, gate the fastest, prove it, write it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeseg.backend import open_onnx
from edgeseg.bundle import replace_bundle, verify_bundle, write_bundle
from edgeseg.core.artefacts import disk_errors
from edgeseg.core.errors import EdgesegError, RequestError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, Runner, format_size
from edgeseg.core.workspace import output_path
from edgeseg.deploy.candidates import Candidate, build_candidates, plan_candidates, time_candidates
from edgeseg.deploy.gate import Loss, Scores, gate_error, losses, score
from edgeseg.deploy.golden import agreement, golden_frames, golden_masks
from edgeseg.deploy.job import ArtefactWriter, Job, start_job
from edgeseg.deploy.record import Evidence, contents_of
from edgeseg.deploy.request import BuildReport, BuildRequest, Timing

_CLOSE = 0.98  # an INT8 engine that saves less than 2 % of the time is not worth its rounding
_BROKEN = 0.9  # an engine that agrees less with its own artefact computes something else


def build_bundle(
    request: BuildRequest,
    out: Path | None,
    progress: Progress,
    *,
    golden: Sequence[U8] | None = None,
    replace: bool = False,
) -> BuildReport:
    """Build a bundle.

    Args:
        request: What is asked for.
        out: Folder of the bundle; by default `engines/NAME` in the current folder.
        progress: Where each stage is shown.
        golden: Golden frames, uint8 [H, W, 3] BGR at frame size, instead of chosen ones: a rebuild keeps the old ones.
        replace: Put it in the place of the bundle at `out`, whose content becomes its last good one.

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
        frames = list(golden) if golden is not None else golden_frames(request, job.dataset, job.frame_size)
        made, notes = build_candidates(plans, job.spec, ArtefactWriter(job), job.scratch, progress)
        job.notes.extend(notes)
        ordered = _by_preference(job, time_candidates(made, frames, progress))
        chosen, reference, scores = _first_that_passes(job, [item for item in ordered if not item.sibling])
        evidence = _prove(job, chosen, frames, reference, scores)
        contents = contents_of(job, chosen, ordered, evidence, name=out.name)
        path = replace_bundle(out, contents) if replace else write_bundle(out, contents)
        return BuildReport(
            bundle=path,
            id=verify_bundle(path).id,
            backend=chosen.builder.name,
            precision=chosen.built.precision,
            frame_size=job.frame_size,
            timings=tuple(_timing(item) for item in ordered),
            scores={} if reference is None or scores is None else {"reference": reference, "engine": scores},
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


def _by_preference(job: Job, timed: list[Candidate]) -> list[Candidate]:
    """Fastest first; but `auto` takes INT8 only where it is clearly faster than float."""
    if job.request.precision != "auto" or not timed or timed[0].built.precision != "int8":
        return timed
    floats = [item for item in timed if item.built.precision != "int8" and item.p50_ms is not None]
    best = timed[0]
    if not floats or best.p50_ms is None or floats[0].p50_ms is None or best.p50_ms < _CLOSE * floats[0].p50_ms:
        return timed
    job.notes.append(f"{floats[0].name} is as fast as {best.name} here, so it was preferred")
    return [floats[0], *(item for item in timed if item is not floats[0])]


def _first_that_passes(job: Job, ordered: Sequence[Candidate]) -> tuple[Candidate, Scores | None, Scores | None]:
    """The first candidate within the budget, with the scores of reference and engine where there is a gate."""
    if job.dataset is None:
        return ordered[0], None, None
    job.progress.say(f"gate: scoring the FP32 reference on {job.dataset.name} ({job.dataset.split})")
    reference = score(
        open_onnx(job.reference_file, job.frame_size), job.dataset, job.request.max_drop_class, job.progress
    )
    failures: dict[str, list[Loss]] = {}
    for candidate in ordered:
        engine = score(_executor(job, candidate), job.dataset, job.request.max_drop_class, job.progress)
        lost = losses(reference, engine, job.request)
        if not lost:
            return candidate, reference, engine
        failures[candidate.name] = lost
        job.notes.append(f"{candidate.name} did not pass the gate: {', '.join(str(loss) for loss in lost)}")
        job.progress.say(job.notes[-1])
    raise gate_error(job.request, failures)


def _executor(job: Job, candidate: Candidate) -> Runner:
    """The engine itself where it runs here, else its exact artefact in ONNX Runtime."""
    if candidate.built.can_run_here:
        return candidate.open()
    return open_onnx(candidate.artefact, job.frame_size)


def _prove(
    job: Job, chosen: Candidate, frames: Sequence[U8], reference: Scores | None, scores: Scores | None
) -> Evidence:
    """Golden masks of the exact artefact, and how far the engine agrees with them."""
    golden = golden_masks(chosen.artefact, frames, job.frame_size)
    measured = agreement(chosen.open(), golden) if chosen.built.can_run_here else None
    if measured is not None and measured < _BROKEN:
        raise EdgesegError(
            "the engine does not compute what its ONNX file says",
            value=f"{chosen.name}: {measured:.1%} of the golden pixels agree",
            allowed=f"at least {_BROKEN:.0%}",
            fix=f"edgeseg build {job.request.model} --precision fp32",
        )
    return Evidence(golden=golden, agreement=measured, reference=reference, scores=scores)


def _timing(item: Candidate) -> Timing:
    return Timing(name=item.name, backend=item.builder.name, precision=item.built.precision, p50_ms=item.p50_ms)
