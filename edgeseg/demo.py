"""The whole pipeline on rendered streets: what `edgeseg demo` and `make demo` run.

Every stage goes through the same doors as the commands a person types; each is named with the command that does the
same on one's own data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edgeseg.bench import open_bench_target, run_bench
from edgeseg.bench.request import BenchRequest
from edgeseg.bench.result import BenchResult, answer
from edgeseg.core import clock
from edgeseg.core.artefacts import write_bytes
from edgeseg.core.deps import require
from edgeseg.core.device import fingerprint
from edgeseg.core.errors import GateError, RequestError
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import Dataset, Size, format_size
from edgeseg.data import open_dataset, write_folder
from edgeseg.deploy import BuildRequest, CalibrationRequest, build_bundle, calibrate_model, open_target
from edgeseg.export import export_run
from edgeseg.live import run_live
from edgeseg.live.engine import open_engine
from edgeseg.live.request import LiveRequest
from edgeseg.live.sinks import SinkChoice, make_sinks
from edgeseg.live.stop import Stop
from edgeseg.live.summary import LiveSummary
from edgeseg.measure import evaluate_runner
from edgeseg.sources import open_source
from edgeseg.train import train_model
from edgeseg.train.request import TrainRequest

_MODEL = "edge-s"
_STAGES = 8


class DemoPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything; the defaults fit ten minutes on two cores, installation included.

    Attributes:
        size: (H, W) of the rendered frames.
        frames: Training frames, of the drive with seed 1.
        val_frames: Validation frames, of the drive with seed 4.
        epochs: Passes over them.
        batch: Frames in a step.
        crop: (H, W) that the network trains on.
        lr: Peak learning rate.
        test_frames: Labelled frames of another drive (seed 2) that FP32 and INT8 are scored on.
        drive_frames: Frames of a third drive (seed 6) that become the overlay video.
        calibration_frames: Training frames that the INT8 ranges are measured on.
        bench_s: Seconds of measured time.
        least_miou: The demo fails with exit code 3 when the INT8 bundle scores less.
        most_drop: Or when it scores less than FP32 by more than this.
    """

    size: Size = (288, 384)
    frames: int = 500
    val_frames: int = 24
    epochs: int = 9
    batch: int = 4
    crop: Size = (192, 256)
    lr: float = 4e-3
    test_frames: int = 60
    drive_frames: int = 150
    calibration_frames: int = 64
    bench_s: float = 20.0
    least_miou: float = 0.60
    most_drop: float = 0.02


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo came to, written as `summary.json`.

    Attributes:
        miou: Of the FP32 graph and of the INT8 bundle, on streets of another seed.
        bundle: Its folder.
        overlay: The video and its number of frames.
        picture: Frame, mask and overlay side by side.
        bench: The object of `bench --json`.
        live: Summary of the run that made the overlay.
        seconds: Time by stage.
        device: The machine, in one line.
    """

    miou: dict[str, float]
    bundle: str
    overlay: dict[str, str | int]
    picture: str
    bench: dict[str, object]
    live: LiveSummary
    seconds: dict[str, float]
    device: str


class _Journal:
    """Says what each stage is and the command that does the same, and keeps its time."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, command: str) -> Iterator[None]:
        self.progress.say(f"[{len(self.seconds) + 1}/{_STAGES}] {name}: {command}")
        start_ns = clock.now_ns()
        yield
        self.seconds[name] = round((clock.now_ns() - start_ns) / 1e9, 1)


def run_demo(out: Path, plan: DemoPlan, progress: Progress | None = None) -> tuple[DemoResult, BenchResult]:
    """Render, train, export, calibrate, build, score, drive and bench, into the folder `out`.

    Args:
        out: Folder to write; must not exist, or be empty.
        plan: How much of everything.
        progress: Display.

    Returns:
        What is in `summary.json`, and all of the bench.

    Raises:
        RequestError: `out` holds something.
        GateError: The bundle scores under `plan.least_miou`, or loses more than `plan.most_drop`.
        UnavailableError: A package is missing.
    """
    require("torch", "torchvision", "safetensors", "onnx", "onnxruntime", "cv2", what="edgeseg demo")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError("the folder is not empty", value=out, allowed="a new one", fix=f"edgeseg demo --out {out}-2")
    journal = _Journal(progress or Silent())
    data, run, model, ranges, bundle = (out / name for name in ("data", "run", "model.onnx", "ranges.json", "bundle"))
    with journal.stage("render", f"edgeseg data synth --out {data} --frames {plan.frames}"):
        splits = {"train": _street(plan, 1, plan.frames), "val": _street(plan, 4, plan.val_frames)}
        write_folder(data, splits, progress=journal.progress)
    with journal.stage("train", f"edgeseg train --data folder:{data} --model {_MODEL} --out {run}"):
        _train(run, data, plan, journal.progress)
    with journal.stage("export", f"edgeseg export {run} --out {model}"):
        export_run(run, model, progress=journal.progress)
    with journal.stage("calibrate", f"edgeseg calibrate {model} --frames {data} --out {ranges}"):
        _calibrate(model, ranges, data, plan, journal.progress)
    with journal.stage("build", f"edgeseg build {model} --precision int8 --ranges {ranges} --out {bundle}"):
        _build(model, ranges, bundle, plan, journal.progress)
    with journal.stage("eval", f"edgeseg eval {bundle} --data street:seed=2,frames={plan.test_frames}"):
        miou = {name: _score(path, plan, journal.progress) for name, path in (("fp32", model), ("int8", bundle))}
    overlay, picture = out / "overlay.mp4", out / "picture.png"
    with journal.stage(
        "live", f"edgeseg live {bundle} --source street:seed=6 --save {overlay} --masks {out / 'masks'}"
    ):
        live = _drive(bundle, overlay, out / "masks", plan, journal.progress)
        _paint(out / "masks", picture, plan)
    with journal.stage("bench", f"edgeseg bench {bundle}"):
        target = open_bench_target(str(bundle), progress=journal.progress)
        request = BenchRequest(duration_s=plan.bench_s)
        bench = run_bench(request, target, samples_file=out / "samples.npz", progress=journal.progress)
    result = DemoResult(
        miou=miou,
        bundle=str(bundle),
        overlay={"path": str(overlay), "frames": live.results},
        picture=str(picture),
        bench=answer(bench),
        live=live,
        seconds=journal.seconds,
        device=fingerprint().summary(),
    )
    write_bytes(out / "summary.json", msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    _gate(miou, plan)
    return result, bench


def _street(plan: DemoPlan, seed: int, frames: int) -> Dataset:
    return open_dataset(f"street:seed={seed},frames={frames},size={format_size(plan.size)}", "train")


def _train(run: Path, data: Path, plan: DemoPlan, progress: Progress) -> None:
    overrides: dict[str, dict[str, object]] = {
        "data": {"train": f"folder:{data}"},
        # short runs want many small steps, an average that keeps up, and a loss that minds rare classes
        "train": {
            "epochs": plan.epochs,
            "batch": plan.batch,
            "lr": plan.lr,
            "warmup_epochs": 0.5,
            "ema_decay": 0.99,
            "validate_every": 3,
        },
        "augment": {
            "crop": plan.crop,
            "scale": [0.9, 1.4],
            "brightness": 0.2,
            "contrast": 0.2,
            "saturation": 0.2,
            "hue": 0.0,
        },
        "loss": {"label_smoothing": 0.0, "class_weights": "sqrt", "lovasz": 1.0},
    }
    train_model(TrainRequest(out=run, model=_MODEL, overrides=overrides), progress)


def _calibrate(model: Path, ranges: Path, data: Path, plan: DemoPlan, progress: Progress) -> None:
    request = CalibrationRequest(
        model=str(model), frames=f"folder:{data}", count=plan.calibration_frames, network_size=plan.size
    )
    calibrate_model(request, ranges, progress)


def _build(model: Path, ranges: Path, bundle: Path, plan: DemoPlan, progress: Progress) -> None:
    request = BuildRequest(
        model=str(model),
        target="cpu",
        precision="int8",
        ranges=str(ranges),
        frame_size=plan.size,
        network_size=plan.size,
    )
    build_bundle(request, bundle, progress)


def _score(path: Path, plan: DemoPlan, progress: Progress) -> float:
    """Score on streets of another seed: of the FP32 graph in ONNX Runtime, or of a bundle's engine."""
    runner = open_target(str(path), frame_size=plan.size)
    return evaluate_runner(runner, _street(plan, 2, plan.test_frames), progress=progress).miou or 0.0


def _drive_source(plan: DemoPlan) -> str:
    return f"street:seed=6,frames={plan.drive_frames},size={format_size(plan.size)}"


def _drive(bundle: Path, overlay: Path, masks: Path, plan: DemoPlan, progress: Progress) -> LiveSummary:
    stop = Stop()
    request = LiveRequest(
        engine=open_engine(str(bundle), progress=progress),
        sources=[open_source(_drive_source(plan))],
        sinks=make_sinks(SinkChoice(save=overlay, masks=masks), stop),
        stop=stop,
        signals=True,
        progress=progress,
    )
    return run_live(request)


def _paint(masks: Path, picture: Path, plan: DemoPlan) -> None:
    """Three frames of the drive, each above its overlay, from the masks that the live loop wrote."""
    # here, not at the top: this file is imported before the packages are known to be there
    import cv2
    import numpy as np

    from edgeseg.data.masks import read_index_png
    from edgeseg.sinks.overlay import OverlayPainter

    written = sorted(masks.glob("*.png"))
    wanted = {int(part * len(written)) for part in (0.1, 0.5, 0.9)}
    painter = OverlayPainter(open_dataset("street:", "train").classes)
    columns = []
    source = open_source(_drive_source(plan))
    source.open()
    for index, file in enumerate(written):
        source.grab()
        if index in wanted:
            image = source.retrieve().image_hwc
            columns.append(np.vstack([image, painter.blend(image, read_index_png(file))]))
    source.close()
    _, png = cv2.imencode(".png", np.hstack(columns))
    write_bytes(picture, png.tobytes())


def _gate(miou: dict[str, float], plan: DemoPlan) -> None:
    if miou["int8"] < plan.least_miou:
        raise GateError("the bundle scores too low", value=f"{miou['int8']:.3f}", allowed=f"at least {plan.least_miou}")
    if miou["fp32"] - miou["int8"] > plan.most_drop:
        lost = miou["fp32"] - miou["int8"]
        raise GateError("INT8 loses too much", value=f"{lost:.3f}", allowed=f"at most {plan.most_drop}")
