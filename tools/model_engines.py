"""The engines of the rows of tools/compare_models.py: exported, held against torch, built; kept until they are timed.

Each graph is written as `edgeseg build` writes it for that runtime (engines/targets/cpu.toml): the exact forms are
applied to every row alike, ours or not, and what a network does not have is passed over. Engines are built as
exported, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
from model_rows import FORMS, Rows, spread_frames

from edgeseg.backend import get_builder, probe_backends
from edgeseg.core.artefacts import write_bytes
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import GateError, RequestError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, EngineSpec, Precision, Runner
from edgeseg.deploy.target import load_target
from edgeseg.export.parity import MIN_AGREEMENT, compare, torch_logits
from edgeseg.graph import apply_forms, save_model
from edgeseg.graph.forms import Forms


@dataclass(frozen=True)
class Engine:
    """What every row is timed as.

    Attributes:
        backend: Of the runtime.
        precision: Of the arithmetic.
        formed: In the exact forms of the CPU target; otherwise as exported.
    """

    backend: str
    precision: Precision
    formed: bool = True


ENGINES: Mapping[str, Engine] = {
    "OpenVINO f32": Engine("openvino", "fp32"),
    "OpenVINO BF16": Engine("openvino", "bf16"),
    "ONNX Runtime f32": Engine("onnxruntime", "fp32"),
}
AS_EXPORTED: Mapping[str, Engine] = {
    f"{label}, as exported": Engine(engine.backend, engine.precision, formed=False) for label, engine in ENGINES.items()
}
"""Beside them, for the rows that are compared."""
_RUNTIMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
_ALL: Mapping[str, Engine] = {**ENGINES, **AS_EXPORTED}
FRAMES = 4


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """One engine: its file under the folder of all, and the share of pixels with torch's class over a few frames."""

    file: str
    agreement: float


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What is ready to be timed: `RUNS/engines/engines.json`.

    Attributes:
        trained: Whether each row's weights were trained; times do not depend on it.
        forms: The exact forms that change a row's graph, by row and runtime.
        engines: By row, then by label.
    """

    trained: dict[str, bool] = {}
    forms: dict[str, dict[str, list[str]]] = {}
    engines: dict[str, dict[str, Built]] = {}


def prepare(rows: Rows, threads: int, progress: Progress) -> Prepared:
    """Export every row, build its engines and hold each against torch.

    Raises:
        GateError: A graph or a float32 engine disagrees with torch.
    """
    folder = _folder(rows)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    frames = spread_frames(rows, FRAMES)
    np.save(folder / "frames.npy", np.stack(frames))
    forms = load_target("cpu", fingerprint()).forms
    found = Prepared()
    with progress.task("export and build", len(rows.names)) as task:
        for name in rows.names:
            graph, masks, found.trained[name] = _export(rows, name, frames, progress)
            found.forms[name] = {
                runtime: changing(graph, forms.get(backend, Forms())) for backend, runtime in _RUNTIMES.items()
            }
            found.engines[name] = {}
            for label, engine in _wanted(name).items():
                place = folder / f"{name}-{label.lower().replace(' ', '-').replace(',', '')}"
                place.mkdir()
                file = place / "model.onnx"
                save_model(file, apply_forms(graph, forms.get(engine.backend, Forms()) if engine.formed else Forms()))
                spec, builder = _spec(rows, name, engine, threads), get_builder(engine.backend)
                built = place / builder.build(file, place, spec).file
                share = _agreement(builder.open(built, spec), frames, masks)
                if engine.precision == "fp32" and share < MIN_AGREEMENT:
                    value = f"{name}, {label}: {share:.3%} of the pixels"
                    raise GateError("an engine disagrees with torch", value=value, allowed=f"{MIN_AGREEMENT:.1%}")
                found.engines[name][label] = Built(file=built.relative_to(folder).as_posix(), agreement=share)
            task.advance(note=name)
    write_bytes(folder / "engines.json", msgspec.json.encode(found) + b"\n")
    return found


def prepared(rows: Rows) -> tuple[Prepared, list[U8]]:
    """What the stage before has built, and the frames that it is timed on.

    Raises:
        RequestError: Nothing was built.
    """
    file = _folder(rows) / "engines.json"
    if not file.is_file():
        raise RequestError("no engines to time", value=file, fix="--stages build latency")
    return msgspec.json.decode(file.read_bytes(), type=Prepared), list(np.load(file.with_name("frames.npy")))


def open_engines(rows: Rows, found: Prepared, threads: int) -> Iterator[tuple[str, str, Runner]]:
    """A runner of every engine, with its row and label."""
    for name, engines in found.engines.items():
        for label, built in engines.items():
            engine = _ALL[label]
            spec = _spec(rows, name, engine, threads)
            yield name, label, get_builder(engine.backend).open(_folder(rows) / built.file, spec)


def _wanted(name: str) -> dict[str, Engine]:
    here = {item.name for item in probe_backends() if item.ok}
    return {
        label: engine
        for label, engine in _ALL.items()
        if engine.backend in here
        and engine.precision in get_builder(engine.backend).precisions
        and (engine.formed or name not in FORMS)
    }


def _spec(rows: Rows, name: str, engine: Engine, threads: int) -> EngineSpec:
    config = rows.config(name)
    return EngineSpec(
        frame_size=config.input.network_size, precision=engine.precision, classes=config.classes, threads=threads
    )


def _folder(rows: Rows) -> Path:
    return rows.plan.runs / "engines"


def changing(graph: onnx.ModelProto, forms: Forms) -> list[str]:
    """Which of the forms change a graph, as `PART=FORM`."""
    canonical = [node.op_type for node in graph.graph.node]
    found = []
    for part, form in msgspec.structs.asdict(forms).items():
        if form != getattr(Forms(), part):
            written = apply_forms(graph, Forms(**{part: form}))
            if [node.op_type for node in written.graph.node] != canonical:
                found.append(f"{part}={form}")
    return found


def _export(rows: Rows, name: str, frames: Sequence[U8], progress: Progress) -> tuple[onnx.ModelProto, list[U8], bool]:
    """The full graph of a row, whose masks are torch's; these masks; whether the weights are trained."""
    model, trained = rows.open(name)
    graph, spec = rows.graph(name, model), rows.config(name).input
    compare(model, spec, graph, frames, progress).check(f"the exported graph of {name}")  # type: ignore[arg-type]
    file = rows.folder(name) / "model.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_model(file, graph)
    masks = [torch_logits(model, spec, frame).argmax(0).astype(np.uint8) for frame in frames]  # type: ignore[arg-type]
    return graph, masks, trained


def _agreement(runner: Runner, frames: Sequence[U8], masks: Sequence[U8]) -> float:
    shares = []
    with runner:
        for frame, mask in zip(frames, masks, strict=True):
            with runner.infer(frame[None]) as output:
                shares.append(float(np.mean(output.mask_nhw[0] == mask)))
    return float(np.mean(shares))
