"""What a bundle says about itself: manifest, report and the request that rebuilds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

import edgeseg
from edgeseg.backend import device_of
from edgeseg.bundle import BundleContents, Golden
from edgeseg.core.artefacts import sha256_file
from edgeseg.core.clock import now_ns, wall_iso
from edgeseg.core.config import to_tables
from edgeseg.core.manifest import (
    Agreement,
    Calibration,
    EngineKind,
    EngineRecord,
    Gate,
    Geometry,
    Manifest,
    ModelRecord,
    TensorRecord,
    minimum_agreement,
)
from edgeseg.core.types import EngineSpec
from edgeseg.deploy.candidates import Candidate, rivals
from edgeseg.deploy.gate import Scores, gate_record
from edgeseg.deploy.job import Job
from edgeseg.deploy.request import BuildRequest
from edgeseg.deploy.search import Memory
from edgeseg.graph import load_model, read_meta

_KINDS: Mapping[str, EngineKind] = {".onnx": "onnx", ".xml": "openvino", ".plan": "plan"}
_MARGIN = 0.005  # between the agreement measured here and the least that the self-test accepts elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was found about the engine that goes into the bundle.

    Attributes:
        golden: Frames with the masks of its exact artefact.
        agreement: Share of golden pixels on which the engine agrees; None where it cannot run here.
        reference: Scores of the FP32 reference, where there was a gate.
        scores: Scores of the engine or its artefact.
        search: What a mixed-precision search measured, where there was one.
    """

    golden: list[Golden]
    agreement: float | None
    reference: Scores | None
    scores: Scores | None
    search: Memory | None = None


def contents_of(
    job: Job, chosen: Candidate, ordered: Sequence[Candidate], evidence: Evidence, *, name: str
) -> BundleContents:
    """Everything that is written into the bundle."""
    return BundleContents(
        manifest=_manifest(job, chosen, evidence, name),
        engine_files=sorted(path for path in chosen.folder.iterdir() if path.is_file()),
        model=job.model_file,
        ranges=job.ranges_file if chosen.built.precision == "int8" else None,
        recipe=to_tables(_for_rebuild(job)),
        golden=evidence.golden,
        report=_report(job, chosen, ordered, evidence),
    )


def _manifest(job: Job, chosen: Candidate, evidence: Evidence, name: str) -> Manifest:
    meta, built = job.meta, chosen.built
    times = {"build": (now_ns() - job.started_ns) / 1e6}
    if chosen.p50_ms is not None:
        times["engine_p50"] = chosen.p50_ms
    return Manifest(
        name=name,
        edgeseg=edgeseg.__version__,
        created=wall_iso(),
        target=job.target.name,
        model=ModelRecord(
            name=meta.name,
            sha256=sha256_file(job.model_file),
            weights_sha256=meta.weights_sha256,
            config_hash=meta.config_sha256,
            training_data=meta.trained_on,
            metrics={key: value for key, value in meta.metrics.items() if value is not None},
        ),
        spec=chosen.spec,
        inputs=_inputs(chosen.spec),
        outputs=_outputs(chosen.spec),
        geometry=Geometry(network_size=job.layers_size, roi=job.request.roi),
        engine=EngineRecord(
            file=built.file,
            kind=_KINDS[Path(built.file).suffix],
            backend=built.backend,
            backend_version=built.backend_version,
            precision=built.precision,
            layers=dict(built.layers),
            same_gpu=built.same_gpu,
            compute_capabilities=built.compute_capabilities,
            forms=read_meta(load_model(chosen.artefact)).forms,
        ),
        device=device_of(chosen.builder, job.device),
        calibration=_calibration(job) if built.precision == "int8" else None,
        gate=_gate(job, chosen, evidence),
        agreement=_agreement(chosen, evidence),
        verified=evidence.agreement is not None,
        times_ms=times,
    )


def _inputs(spec: EngineSpec) -> tuple[TensorRecord, ...]:
    height, width = spec.frame_size
    if spec.input_format == "nv12":
        return (
            TensorRecord(name="y", dtype="uint8", shape=(spec.batch, height, width, 1)),
            TensorRecord(name="uv", dtype="uint8", shape=(spec.batch, height // 2, width // 2, 2)),
        )
    channels = 3 if spec.input_format == "bgr" else 2
    return (TensorRecord(name="frame", dtype="uint8", shape=(spec.batch, height, width, channels)),)


def _outputs(spec: EngineSpec) -> tuple[TensorRecord, ...]:
    names = ("mask", "confidence") if spec.confidence else ("mask",)
    return tuple(TensorRecord(name=name, dtype="uint8", shape=(spec.batch, *spec.frame_size)) for name in names)


def _calibration(job: Job) -> Calibration:
    assert job.ranges is not None
    return Calibration(method=str(job.ranges.method), frames=job.ranges.frames.count, sha256=job.ranges.id)


def _gate(job: Job, chosen: Candidate, evidence: Evidence) -> Gate | None:
    if job.dataset is None or evidence.reference is None or evidence.scores is None:
        return None
    executor = chosen.name if chosen.built.can_run_here else "onnxruntime, the exact ONNX artefact"
    return gate_record(job.request, job.dataset, executor, evidence.reference, evidence.scores)


def _agreement(chosen: Candidate, evidence: Evidence) -> Agreement:
    least = minimum_agreement(chosen.built.precision)
    if evidence.agreement is not None:
        # a model that is unsure of many pixels flips more of them between two kernels than a sure one
        least = min(least, round(evidence.agreement - _MARGIN, 4))
    return Agreement(minimum=least, executor="onnxruntime", measured=evidence.agreement)


def _for_rebuild(job: Job) -> BuildRequest:
    """The request, resolved, without what only this machine's file system knows."""
    return msgspec.structs.replace(
        job.request,
        target=job.target.name,
        frame_size=job.frame_size,
        network_size=job.layers_size,
        ranges=None,
        frames=None,
        recipe=None,
    )


def _report(job: Job, chosen: Candidate, ordered: Sequence[Candidate], evidence: Evidence) -> dict[str, object]:
    return {
        "chosen": chosen.name,
        "candidates": [
            {
                "name": item.name,
                "backend": item.builder.name,
                "backend_version": item.built.backend_version,
                "precision": item.built.precision,
                "engine_p50_ms": item.p50_ms,
                "ratio_to_chosen": None if not (item.p50_ms and chosen.p50_ms) else item.p50_ms / chosen.p50_ms,
                "for_its_time_alone": item.sibling,
                "reason": None if item.built.can_run_here else "this engine cannot run on the machine that built it",
                "layers": dict(item.built.layers),
                "details": dict(item.built.report),
            }
            for item in ordered
        ],
        "int8_against_float": [
            {**item._asdict(), "faster": item.faster, "ratio": item.int8_ms / item.floating_ms}
            for item in rivals(ordered)
        ],
        "gate": None
        if evidence.reference is None
        else {"reference": evidence.reference, "engine": evidence.scores, "budget_points": job.request.budget},
        "search": None if evidence.search is None else msgspec.to_builtins(evidence.search),
        "agreement": evidence.agreement,
        "calibration": None if job.ranges is None else msgspec.to_builtins(job.ranges.frames),
        "notes": list(job.notes),
    }
