"""What the runs of an ablation are judged by: scores of every split, and the checkerboard measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import edgeseg
from edgeseg.core.artefacts import write_bytes
from edgeseg.core.clock import wall_iso
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import VerifyError
from edgeseg.core.progress import Progress
from edgeseg.core.types import Precision, Size
from edgeseg.data import open_dataset
from edgeseg.model import InputConfig, describe, load_run
from edgeseg.model.network import SegModel
from edgeseg.train.corpus import read_corpus
from edgeseg.train.record import spread
from edgeseg.train.run import pick_device
from edgeseg.train.validate import predict, score

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
PERIODS = (2, 4)
_FRAMES = 16  # that the checkerboard is looked for in


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One split's; shares of 1."""

    miou: float | None
    boundary_iou: float | None
    pixel_accuracy: float | None
    iou: dict[str, float | None]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished row left.

    Attributes:
        command: That trained it, the data set by its scheme.
        seed: Of the run.
        parameters: Auxiliary heads left out.
        multiply_adds: For one frame of the budget's network size, padded to the stride.
        scores: By split; none for a run without labels.
        checkerboard: The measure by period; see `checkerboard`.
        version: Of edgeseg.
        created: When it was scored.
        device: Where, with torch's version.
    """

    command: str
    seed: int
    parameters: int
    multiply_adds: int
    scores: dict[str, Score] = {}
    checkerboard: dict[str, float] = {}
    version: str = ""
    created: str = ""
    device: str = ""


class RowTask(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of one row is told.

    Attributes:
        words: After `edgeseg`: its training, or what is left of it.
        run: Folder of the run.
        data: Labelled data.
        splits: That are scored; none for a run without labels.
        network_size: That multiply-adds are counted for.
        device: cpu, cuda or auto.
        command: As a person types it.
        seed: Of the run.
    """

    words: list[str]
    run: str
    data: str
    splits: list[str]
    network_size: Size
    device: str
    command: str
    seed: int


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """One engine of one row in the interleaved run; the ratio is to the first row's at the same precision."""

    p50_ms: float | None
    ratio: float
    ci95: tuple[float, float]


class LatencyRun(msgspec.Struct, frozen=True, kw_only=True):
    """One interleaved run.

    Attributes:
        size: Of frame and mask, HEIGHTxWIDTH.
        backend: With its version.
        device: Where.
        created: When.
        first: Key of the row that the ratios are to.
        machine: What else it did meanwhile, in words.
        rows: By key, then by precision.
    """

    size: str
    backend: str
    device: str
    created: str
    first: str
    machine: str = ""
    rows: dict[str, dict[str, Latency]]


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """What has been measured: `ablations.json`, from which the page is written.

    Attributes:
        rows: By key of the run.
        latency: Of the last timed run; None before.
    """

    rows: dict[str, Result] = {}
    latency: LatencyRun | None = None


def read_results(file: Path) -> Results:
    """What has been measured so far; nothing where there is no file.

    Raises:
        VerifyError: A file of another shape.
    """
    if not file.is_file():
        return Results()
    try:
        return msgspec.json.decode(file.read_bytes(), type=Results)
    except msgspec.DecodeError as error:
        raise VerifyError("these are no results of an ablation", value=f"{file}: {error}") from None


def write_results(file: Path, results: Results) -> None:
    """Write them, one row a line."""
    lines = [f"  {_json(key)}: {_json(row)}" for key, row in sorted(results.rows.items())]
    text = f'{{"latency": {_json(results.latency)},\n"rows": {{\n' + ",\n".join(lines) + "\n}}\n"
    write_bytes(file, text.encode())


def score_run(run: Path, task: RowTask, progress: Progress) -> Result:
    """Score a finished run on every split that is asked for, in float32; needs torch alone."""
    loaded = load_run(run)
    device = pick_device(task.device)
    model = loaded.model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    counted = describe(loaded.config, len(loaded.classes), task.network_size)
    scores, lattice = {}, {}
    for place, split in enumerate(task.splits):
        corpus = read_corpus(
            open_dataset(task.data, split), split, network_size=loaded.input.network_size, device=device
        )
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        with exact, progress.task(f"score {split}"):
            found = score(model, corpus, loaded.input, stride=model.stride, boundary=True)
            if place == 0:
                frames = [corpus.images[index] for index in spread(len(corpus), _FRAMES)]
                lattice = checkerboard(model, frames, loaded.input)
        iou = {name: _short(value) for name, value in found.iou.items()}
        values = (_short(found.miou), _short(found.boundary_iou), _short(found.pixel_accuracy))
        scores[split] = Score(miou=values[0], boundary_iou=values[1], pixel_accuracy=values[2], iou=iou)
    return Result(
        command=task.command,
        seed=task.seed,
        parameters=counted.parameters,
        multiply_adds=counted.multiply_adds,
        scores=scores,
        checkerboard={str(period): round(value, 4) for period, value in lattice.items()},
        version=edgeseg.__version__,
        created=wall_iso(),
        device=_device_name(device),
    )


def _device_name(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else fingerprint().cpu
    return f"{name}, torch {torch.__version__}"


def checkerboard(model: SegModel, frames: Sequence[Tensor], config: InputConfig) -> dict[int, float]:
    """How much a network's logits change by their place in the lattice of its upsamplings: 0 not at all, 1 only there.

    On the logits z of the classifier, before the head enlarges them, the energy of the differences of neighbours is
    summed by phase: along x, `E_k = mean of (z[x + 1] - z[x])^2 over x = k (mod p)`, over all rows, classes and frames.
    A picture has no phase, so all E_k are alike; a lattice of period p is the share of the first harmonic,
    `C_p = |sum_k E_k exp(-2 pi i k / p)| / sum_k E_k`, averaged over x and y. With p = 2, the last upsampling, it is
    |E_0 - E_1| / (E_0 + E_1), and 1 where nearest enlargement has no filter after it. p = 4 is the upsampling before.

    Args:
        model: In eval mode.
        frames: uint8 [3, H, W] RGB, on the model's device.
        config: How pixels become the network's input.
    """
    energies = {(period, axis): np.zeros(period) for period in PERIODS for axis in (-2, -1)}
    for frame in frames:
        logits = _classified(model, frame, config)
        for (period, axis), energy in energies.items():
            energy += phase_energy(logits, period, axis)
    return {period: float(np.mean([harmonic(energies[period, axis]) for axis in (-2, -1)])) for period in PERIODS}


def phase_energy(planes: NDArray[np.float32], period: int, axis: int) -> NDArray[np.float64]:
    """Mean squared difference of neighbours along an axis by the phase of the first, [period]."""
    squares = np.moveaxis(np.diff(planes.astype(np.float64), axis=axis) ** 2, axis, 0)
    whole = len(squares) // period * period  # as many of each phase
    phases: NDArray[np.float64] = squares[:whole].reshape(-1, period, *squares.shape[1:])
    return np.asarray(phases.mean(axis=(0, *range(2, phases.ndim))))


def harmonic(energy: NDArray[np.float64]) -> float:
    """Share of the first harmonic over the phases, 0 to 1; 0 where there is no energy at all."""
    total = float(energy.sum())
    return float(abs(np.fft.fft(energy)[1])) / total if total else 0.0


def _classified(model: SegModel, frame: Tensor, config: InputConfig) -> NDArray[np.float32]:
    """The classifier's logits of a frame, without those of the padding: [classes, h, w]."""
    rows, columns = frame.shape[1:]
    with torch.no_grad(), _watched(model) as seen:
        predict(model, frame, model.stride, config)
    factor = -(-rows // model.stride) * model.stride // seen[0].shape[2]
    logits: NDArray[np.float32] = seen[0][0, :, : rows // factor, : columns // factor].float().cpu().numpy()
    return logits


@contextmanager
def _watched(model: SegModel) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    hook = model.head[0].register_forward_hook(lambda _module, _args, y: seen.append(y.detach()))
    try:
        yield seen
    finally:
        hook.remove()


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
