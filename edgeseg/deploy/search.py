"""Mixed precision by measurement: which layers leave the integers so that an INT8 engine keeps the masks.

Layers are ordered once, by what each costs in accuracy (measured alone, `edgeseg.quant.sensitivity`) for each
millisecond that it saves (profiles of the all-float and the all-INT8 engine). Then the shortest head of that order
that must stay in float is found by bisection, every probe a full build that is scored by the gate itself. Probes are
kept in the cache, so a search that was interrupted goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from edgeseg.backend.profiling import Profiler
from edgeseg.core.artefacts import sha256_bytes, write_bytes
from edgeseg.core.types import U8
from edgeseg.core.workspace import cache_dir
from edgeseg.deploy.candidates import Artefact, Candidate, Plan, build_candidates
from edgeseg.deploy.gate import Scores, losses, score
from edgeseg.deploy.job import Job
from edgeseg.graph import load_model
from edgeseg.quant.placement import get_placement
from edgeseg.quant.sensitivity import LayerSensitivity, layer_sensitivity

_SENSITIVITY_FRAMES = 3
_PROFILE_RUNS = 12


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One mix that was built and scored: how many layers of the order stayed in float, and the gate's figures."""

    in_float: int
    scores: dict[str, float | None]


class Memory(msgspec.Struct, kw_only=True):
    """What a search has found so far; lies in the cache under the request's key."""

    order: list[str] = []
    sensitivity: list[LayerSensitivity] = []
    gain_ms: dict[str, float] = {}
    probes: list[Probe] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search ends with.

    Attributes:
        best: The mix with the fewest layers in float that passed, and its scores; None where none did.
        mixes: Every mix that was built now.
        memory: Everything that was measured, for the report.
    """

    best: tuple[Candidate, Scores] | None
    mixes: tuple[Candidate, ...]
    memory: Memory


class Search:
    """One search.

    Args:
        job: The build.
        write: Writes artefacts.
        plan: The all-INT8 plan.
        engines: The fastest float engine and the all-INT8 one, for their profiles.
        reference: Scores of the FP32 reference.
        frames: uint8 [H, W, 3] BGR at frame size.
    """

    def __init__(
        self,
        job: Job,
        write: Callable[[Artefact], Path],
        plan: Plan,
        engines: tuple[Candidate, Candidate],
        reference: Scores,
        frames: Sequence[U8],
    ) -> None:
        self._job = job
        self._write = write
        self._plan = plan
        self._float, self._int8 = engines
        self._reference = reference
        self._frames = frames
        self._file = cache_dir() / "search" / f"{self._key()}.json"
        self._memory = self._recall()
        self._built: dict[int, Candidate] = {}

    def run(self) -> Found:
        """Find the mix; every step is shown, and kept."""
        memory = self._memory
        if not memory.order:
            memory.sensitivity = self._sensitivities()
            memory.gain_ms = layer_gains(self._float, self._int8, self._frames)
            memory.order = order_layers(memory.sensitivity, memory.gain_ms)
            self._remember()
        fails, passes = 0, len(memory.order)  # nothing in float was tried and failed; all in float is no INT8 engine
        best: tuple[Candidate, Scores] | None = None
        while passes - fails > 1 and len(memory.probes) < self._job.request.max_builds:
            middle = (fails + passes) // 2
            scores = self._score(middle)
            if losses(self._reference, scores, self._job.request):
                fails = middle
            else:
                passes = middle
                best = self._candidate(middle), scores
        return Found(best=best, mixes=tuple(self._built.values()), memory=memory)

    def _score(self, in_float: int) -> Scores:
        for probe in self._memory.probes:
            if probe.in_float == in_float:
                return probe.scores
        candidate = self._candidate(in_float)
        assert self._job.dataset is not None
        named = self._job.request.max_drop_class
        scores = score(candidate.open(), self._job.dataset, named, self._job.progress)
        self._memory.probes.append(Probe(in_float=in_float, scores=scores))
        self._remember()
        lost = losses(self._reference, scores, self._job.request)
        self._job.progress.say(f"{candidate.name}: {'; '.join(map(str, lost)) or 'within the budget'}")
        return scores

    def _candidate(self, in_float: int) -> Candidate:
        if in_float not in self._built:
            kept = frozenset(self._memory.order[:in_float])
            artefact = self._plan.artefact._replace(keep_float=kept)
            plan = replace(self._plan, name=f"{self._plan.name}, {in_float} layers in float", artefact=artefact)
            folder = self._job.scratch / f"mix{in_float}"
            folder.mkdir()
            (self._built[in_float],), _ = build_candidates(
                [plan], self._job.spec, self._write, folder, self._job.progress
            )
        return self._built[in_float]

    def _sensitivities(self) -> list[LayerSensitivity]:
        assert self._job.ranges is not None
        assert self._plan.artefact.placement is not None
        return layer_sensitivity(
            load_model(self._job.reference_file),
            self._job.ranges,
            get_placement(self._plan.artefact.placement),
            self._frames[:_SENSITIVITY_FRAMES],
            progress=self._job.progress,
        )

    def _key(self) -> str:
        job = self._job
        assert job.ranges is not None
        assert job.dataset is not None
        budgets = msgspec.json.encode({"miou": job.request.budget, **job.request.max_drop_class}, order="sorted")
        parts = (job.ranges.id, job.target.name, str(self._plan.artefact), self._plan.builder.version)
        where = (str(job.frame_size), str(job.layers_size), job.dataset.name, job.dataset.split, job.device.cpu)
        return sha256_bytes(budgets, *(part.encode() for part in (*parts, *where)))[:32]

    def _recall(self) -> Memory:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Memory)
        except (FileNotFoundError, msgspec.DecodeError):
            return Memory()  # a cache that cannot be read is no cache

    def _remember(self) -> None:
        write_bytes(self._file, msgspec.json.encode(self._memory))


def order_layers(sensitivity: Sequence[LayerSensitivity], gain_ms: dict[str, float]) -> list[str]:
    """Which layers leave the integers first: those that save no time, then by accuracy lost for each ms saved."""

    def key(item: LayerSensitivity) -> tuple[bool, float]:
        gain = gain_ms.get(item.layer, 0.0)
        return (gain > 0, -item.kl / max(gain, 1e-3))

    return [item.layer for item in sorted(sensitivity, key=key)]


def layer_gains(slow: Candidate, fast: Candidate, frames: Sequence[U8]) -> dict[str, float]:
    """Milliseconds that each layer saves in the second engine, by the runtimes' own profiles; empty without them."""
    times = [_profile(candidate, frames) for candidate in (slow, fast)]
    if not all(times):
        return {}
    return {name: times[0][name] - times[1][name] for name in times[0].keys() & times[1].keys()}


def _profile(candidate: Candidate, frames: Sequence[U8]) -> dict[str, float]:
    builder = candidate.builder
    if not isinstance(builder, Profiler) or not candidate.built.can_run_here:
        return {}
    batches = [np.repeat(frame[None], candidate.spec.batch, axis=0) for frame in frames]
    found: dict[str, float] = {}
    for layer in builder.profile(candidate.folder / candidate.built.file, candidate.spec, batches, _PROFILE_RUNS):
        for name in layer.layers or (layer.name,):
            found[name] = found.get(name, 0.0) + layer.time_ns / 1e6 / max(len(layer.layers), 1)
    return found
