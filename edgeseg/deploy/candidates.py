"""Everything that could be built for a request, built, and timed in one interleaved run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from edgeseg.backend import get_builder, probe_backends
from edgeseg.core.config import unknown_name
from edgeseg.core.errors import CapabilityError, EdgesegError, UnavailableError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, Builder, BuiltEngine, EngineSpec, Precision, Runner
from edgeseg.deploy.target import Option, Target
from edgeseg.graph.forms import Forms
from edgeseg.graph.variants import Kind
from edgeseg.measure import WarmUpRule, compare_runners

# a typed graph has FP16 scales, which must not be subnormal
_TYPED_PLACEMENTS = {"nvidia": "nvidia-typed"}
_SECONDS = 0.6  # of measurement for each candidate
_WARM_UP = WarmUpRule(window_s=0.05, limit_s=1.5)  # a choice between engines, not a published figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One engine that was built, in a folder of its own.

    Attributes:
        name: What it is, for people: `openvino int8 + bf16`.
        builder: Its backend.
        spec: What it was built with.
        built: What the build left.
        folder: Where.
        artefact: The ONNX file that it was built from.
        p50_ms: Median of the engine; None where it cannot run here.
        sibling: Built for its time alone: it is never chosen.
    """

    name: str
    builder: Builder
    spec: EngineSpec
    built: BuiltEngine
    folder: Path
    artefact: Path
    p50_ms: float | None = None
    sibling: bool = False

    def open(self) -> Runner:
        """A runner, not entered."""
        return self.builder.open(self.folder / self.built.file, self.spec)


class Artefact(NamedTuple):
    """An ONNX file that engines are built from.

    Attributes:
        placement: Where it has Q/DQ nodes; None for a float graph.
        forms: The exact form of each of its parts.
        variant: What kind of runtime reads it.
        precision: Of the tensors of the variant `typed`; the others are FP32.
        keep_float: Layers that stay in float although the placement names their role.
        calibration: Version of TensorRT whose calibration cache lies beside the file, for INT8 without Q/DQ nodes.
    """

    placement: str | None
    forms: Forms
    variant: Kind = "cpu"
    precision: Precision = "fp32"
    keep_float: frozenset[str] = frozenset()
    calibration: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A candidate to be built, the graph that it is built from, and whether it is built for its time alone."""

    name: str
    builder: Builder
    precision: Precision
    options: dict[str, Option]
    artefact: Artefact
    sibling: bool = False


def plan_candidates(target: Target, precisions: Sequence[Precision], backend: str | None) -> list[Plan]:
    """What can be built here: every installed backend of a target, in every wanted precision that it has.

    Raises:
        RequestError: `backend` is none of the target's.
        UnavailableError: No backend of the target is installed.
        CapabilityError: None of them has a wanted precision on this machine.
    """
    if backend is not None and backend not in target.backends:
        raise unknown_name(f"backend of the target {target.name}", backend, list(target.backends))
    names = [backend] if backend else list(target.backends)
    here = {item.name: item for item in probe_backends()}
    builders = [get_builder(name) for name in names if name in here and here[name].ok]
    if not builders:
        missing = next((here[name] for name in names if name in here), None)
        raise UnavailableError(
            f"no backend of the target {target.name} is installed",
            value=", ".join(names),
            fix=missing.remedy if missing else None,
        )
    plans = [
        _plan(builder, precision, target)
        for builder in builders
        for precision in precisions
        if precision in builder.precisions
    ]
    plans += _siblings(plans, target)
    if not plans:
        has = sorted({precision for builder in builders for precision in builder.precisions})
        runtimes = ", ".join(f"{builder.name} {builder.version}" for builder in builders)
        raise CapabilityError(
            f"precision {', '.join(precisions)} on this machine", runtime=runtimes, allowed=f"allowed: {', '.join(has)}"
        )
    return plans


def build_candidates(
    plans: Sequence[Plan],
    spec: EngineSpec,
    write: Callable[[Artefact], Path],
    scratch: Path,
    progress: Progress,
) -> tuple[list[Candidate], list[str]]:
    """Build each plan; one that its runtime refuses is left out with a note, unless none is left.

    Args:
        plans: What to build.
        spec: What all of them share.
        write: Gives the file of a plan's graph.
        scratch: Each engine gets a folder of its own there.
        progress: Where it is shown.

    Raises:
        EdgesegError: Every plan failed; the last one's error.
    """
    made: list[Candidate] = []
    notes: list[str] = []
    failure: EdgesegError | None = None
    with progress.task("build engines", len(plans)) as task:
        for number, item in enumerate(plans):
            folder = scratch / f"engine{number}"
            folder.mkdir()
            own = _spec(spec, item)
            try:
                artefact = write(item.artefact)
                built = item.builder.build(artefact, folder, own, progress)
            except EdgesegError as error:
                failure = failure if item.sibling else error
                notes.append(f"{item.name} was not built: {error}")
            else:
                made.append(
                    Candidate(
                        name=item.name,
                        builder=item.builder,
                        spec=own,
                        built=built,
                        folder=folder,
                        artefact=artefact,
                        sibling=item.sibling,
                    )
                )
            task.advance(note=item.name)
    if failure is not None and all(item.sibling for item in made):  # what is built for its time alone is no engine
        raise failure
    return made, notes


def time_candidates(made: Sequence[Candidate], frames: Sequence[U8], progress: Progress) -> list[Candidate]:
    """Measure the engines that run here, interleaved, and order them: fastest first, those that cannot run last."""
    runnable = {item.name: item for item in made if item.built.can_run_here}
    if not runnable:
        return list(made)
    runners = {name: item.open() for name, item in runnable.items()}
    compared = compare_runners(runners, frames, duration_s=_SECONDS * len(runners), rule=_WARM_UP, progress=progress)
    timed = [
        replace(item, p50_ms=float(np.median(compared.samples[name].engine_ns)) / 1e6)
        for name, item in runnable.items()
    ]
    timed.sort(key=lambda item: item.p50_ms if item.p50_ms is not None else float("inf"))
    return timed + [item for item in made if not item.built.can_run_here]


class Rival(NamedTuple):
    """An INT8 engine against the fastest float one of its backend, from one interleaved run; times in ms."""

    backend: str
    int8: str
    int8_ms: float
    floating: str
    floating_ms: float

    @property
    def faster(self) -> str:
        """Name of the faster one."""
        return self.int8 if self.int8_ms < self.floating_ms else self.floating

    def __str__(self) -> str:
        slow, fast = sorted((self.int8_ms, self.floating_ms), reverse=True)
        other = self.floating if self.faster == self.int8 else self.int8
        return f"{self.faster} is {slow / fast:.2f} times as fast as {other} ({fast:.3f} against {slow:.3f} ms)"


def rivals(timed: Sequence[Candidate]) -> list[Rival]:
    """Which of INT8 and float is faster on each backend that ran both, and by how much."""
    found = []
    for backend in dict.fromkeys(item.builder.name for item in timed):
        ran = [(item.p50_ms, item) for item in timed if item.builder.name == backend and item.p50_ms is not None]
        best = {
            kind: min(((ms, item.name) for ms, item in ran if (item.built.precision == "int8") == kind), default=None)
            for kind in (True, False)
        }
        integers, floating = best[True], best[False]
        if integers is not None and floating is not None:
            found.append(Rival(backend, integers[1], integers[0], floating[1], floating[0]))
    return found


def _plan(builder: Builder, precision: Precision, target: Target) -> Plan:
    options = _options(builder, precision, target)
    float_part = options.get("float_precision")
    return Plan(
        name=f"{builder.name} {precision}" + (f" + {float_part}" if float_part else ""),
        builder=builder,
        precision=precision,
        options=options,
        artefact=_artefact(builder, precision, target),
    )


def _siblings(plans: Sequence[Plan], target: Target) -> list[Plan]:
    """What is timed beside the plans because its backend says so: NVIDIA's INT8 has been slower than FP16."""
    wanted = {(item.builder.name, item.precision) for item in plans}
    found = []
    for item in plans:
        precision = getattr(item.builder, "sibling", lambda _: None)(item.precision)
        if precision is not None and (item.builder.name, precision) not in wanted:
            found.append(replace(_plan(item.builder, precision, target), sibling=True))
    return found


def _artefact(builder: Builder, precision: Precision, target: Target) -> Artefact:
    """What a runtime reads: NVIDIA's builders say which variant of the graph; the others take it as it is."""
    variant: Kind = getattr(builder, "variant", "cpu")
    placement = target.placement if precision == "int8" else None
    forms = target.forms.get(builder.name, Forms())
    if placement is not None and forms.transposed == "blocks":  # the blocked layout is one of floats
        forms = msgspec.structs.replace(forms, transposed="node")
    if placement is not None and variant == "weak" and _options(builder, precision, target).get("implicit"):
        return Artefact(None, forms, variant, calibration=builder.version)
    if variant != "typed":
        return Artefact(placement, forms, variant)
    if precision == "fp32":  # nothing to type: the graph is FP32 already
        return Artefact(placement, forms)
    if placement is not None:
        placement = _TYPED_PLACEMENTS.get(placement, placement)
    if precision == "bf16":  # TensorRT-RTX has no transposed convolution in BF16
        forms = msgspec.structs.replace(forms, transposed="shuffle")
    return Artefact(placement, forms, variant, precision)


def _spec(spec: EngineSpec, item: Plan) -> EngineSpec:
    return msgspec.structs.replace(spec, precision=item.precision, options=dict(item.options))


def _options(builder: Builder, precision: Precision, target: Target) -> dict[str, Option]:
    options = dict(target.options.get(builder.name, {}))
    if builder.name == "openvino" and precision == "int8" and "bf16" in builder.precisions:
        # what is not quantised is memory-bound: half the bytes, at a precision far above that of int8
        options.setdefault("float_precision", "bf16")
    return options
