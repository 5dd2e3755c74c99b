"""What the runs of an ablation are judged by: scores of every split, and the checkerboard measure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import torch
from ablation_latency import LatencyRun
from ablation_table import Job, Table
from numpy.typing import NDArray
from torch import Tensor

import edgeseg
from edgeseg.core.artefacts import write_bytes
from edgeseg.core.clock import wall_iso
from edgeseg.core.errors import VerifyError
from edgeseg.core.progress import Progress
from edgeseg.core.resize import Resizer
from edgeseg.core.types import U8, Dataset, Size
from edgeseg.data import open_dataset
from edgeseg.measure import evaluate_runner
from edgeseg.model import describe, load_run, open_run
from edgeseg.model.network import SegModel
from edgeseg.model.run import LoadedRun, predict
from edgeseg.train.record import spread

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
    """

    command: str
    seed: int
    parameters: int
    multiply_adds: int
    scores: dict[str, Score] = {}
    checkerboard: dict[str, float] = {}
    version: str = ""
    created: str = ""


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


def score_job(job: Job, run: Path, table: Table, data: str, progress: Progress) -> Result:
    """Score a finished run on every split of the table."""
    loaded = load_run(run)
    counted = describe(loaded.config, len(loaded.classes), table.budget.network_size)
    scores, lattice = {}, {}
    if job.row.kind == "train":
        for split in table.score:
            found = evaluate_runner(open_run(run), open_dataset(data, split), progress=progress)
            iou = {name: _short(value) for name, value in found.iou.items()}
            values = (_short(found.miou), _short(found.boundary_iou), _short(found.pixel_accuracy))
            scores[split] = Score(miou=values[0], boundary_iou=values[1], pixel_accuracy=values[2], iou=iou)
        frames = dataset_frames(open_dataset(data, table.score[0]), loaded.input.network_size)
        lattice = {str(period): round(value, 4) for period, value in checkerboard(loaded, frames).items()}
    return Result(
        command=job.text(data),
        seed=table.seed if job.row.seed is None else job.row.seed,
        parameters=counted.parameters,
        multiply_adds=counted.multiply_adds,
        scores=scores,
        checkerboard=lattice,
        version=edgeseg.__version__,
        created=wall_iso(),
    )


def dataset_frames(dataset: Dataset, size: Size) -> list[U8]:
    """Evenly spaced frames of a data set at a size, BGR."""
    frames = []
    for index in spread(len(dataset), _FRAMES):
        image = dataset[index].image_hwc
        resizer = Resizer((image.shape[0], image.shape[1]), size)
        frames.append(resizer.to_frame(image, np.empty((*size, 3), np.uint8)) if not resizer.identity else image)
    return frames


def checkerboard(run: LoadedRun, frames: list[U8]) -> dict[int, float]:
    """How much a network's logits change by their place in the lattice of its upsamplings: 0 not at all, 1 only there.

    On the logits z of the classifier, before the head enlarges them, the energy of the differences of neighbours is
    summed by phase: along x, `E_k = mean of (z[x + 1] - z[x])^2 over x = k (mod p)`, over all rows, classes and frames.
    A picture has no phase, so all E_k are alike; a lattice of period p is the share of the first harmonic,
    `C_p = |sum_k E_k exp(-2 pi i k / p)| / sum_k E_k`, averaged over x and y. With p = 2, the last upsampling, it is
    |E_0 - E_1| / (E_0 + E_1), and 1 where nearest enlargement has no filter after it. p = 4 is the upsampling before.
    """
    energies = {(period, axis): np.zeros(period) for period in PERIODS for axis in (-2, -1)}
    for frame in frames:
        logits = _classified(run, frame)
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


def _classified(run: LoadedRun, frame: U8) -> NDArray[np.float32]:
    """The classifier's logits of a frame, without those of the padding: [classes, h, w]."""
    with _watched(run.model) as seen:
        whole = predict(run.model, torch.from_numpy(frame[None]), run.input)
    factor = -(-frame.shape[0] // run.model.stride) * run.model.stride // seen[0].shape[2]
    height, width = whole.shape[2] // factor, whole.shape[3] // factor
    return seen[0][0, :, :height, :width].float().numpy()


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
