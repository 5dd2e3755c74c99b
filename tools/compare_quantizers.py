"""INT8 of edgeseg against its peers on the same frames: accuracy with paired intervals, latency in one interleaved run.

    python tools/compare_quantizers.py zoo:edge-s --data camvid:PATH --drive CLIP.mp4 --out docs/int8.md

Three artefacts of edgeseg are scored against FP32: the CPU engine, and the NVIDIA graphs `weak` and `typed`, executed
by ONNX Runtime with its optimisations off. Ranges are the model's own where it ships them, else measured on the data's
`train` split, on whose frames the peers calibrate too; a peer that is not installed is left out, by name. Accuracy is
over `--splits` together; flicker is what masks of still pixels change from frame to frame on `--drive`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import openvino as ov
from quantizer_peers import PEERS
from quantizer_report import Row, load_row, markdown, save_row, write_between_marks

from edgeseg.backend import get_builder
from edgeseg.backend.openvino import compile_model, count_layers, read_model
from edgeseg.core.errors import EdgesegError, RequestError
from edgeseg.core.metrics import Confusion
from edgeseg.core.resize import Resizer
from edgeseg.core.types import U8, EngineSpec, Runner, Sample
from edgeseg.core.workspace import resolve_model, shipped_ranges
from edgeseg.data import open_dataset
from edgeseg.graph import (
    apply_forms,
    default_network_size,
    fix_frame_size,
    load_model,
    make_variant,
    read_meta,
    save_model,
)
from edgeseg.graph.forms import Forms
from edgeseg.graph.meta import ModelMeta
from edgeseg.measure import compare_runners
from edgeseg.quant import calibrate, load_ranges, open_pool, quantize
from edgeseg.quant.equalise import equalised
from edgeseg.quant.frames import choose_frames
from edgeseg.quant.placement import CPU, NVIDIA, NVIDIA_TYPED
from edgeseg.quant.ranges import Ranges
from edgeseg.sinks.flicker import Flicker
from edgeseg.sources import open_source

_OPENVINO_FORMS = Forms(tail="phases", layer_norm="parts", pad="pixels")
_INTEGERS = "openvino int8 + bf16"
_SAME = ("data", "splits", "every", "count", "drive", "drive_frames")  # arguments that scores depend on

Masks = Callable[[U8], U8]


def main() -> None:
    arguments = _arguments()
    try:
        with tempfile.TemporaryDirectory(prefix="edgeseg-compare-") as folder:
            scratch: Path = arguments.work or Path(folder)
            scratch.mkdir(parents=True, exist_ok=True)
            comparison = Comparison(arguments, scratch)
            comparison.run()
    except EdgesegError as error:
        sys.exit(f"compare_quantizers: error: {error}")
    text = markdown(comparison.rows, comparison.meta.classes.names, comparison.caption(), comparison.notes)
    if arguments.out:
        write_between_marks(arguments.out, text, arguments.mark)
    sys.stdout.write(text)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One thing that is compared.

    Attributes:
        name: In the tables.
        executor: What runs it, for people.
        backend: Its backend, which is timed; empty for ONNX Runtime with nothing fused, which is not.
        precision: As the backend is asked for it.
        make: The graph, or the file of one that OpenVINO reads.
    """

    name: str
    executor: str
    backend: str
    precision: str
    make: Callable[[], onnx.ModelProto | Path]


@dataclass
class Comparison:
    """Everything that is compared, and what came of it."""

    arguments: argparse.Namespace
    scratch: Path
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.samples: list[Sample] = [
            item
            for split in self.arguments.splits.split(",")
            for dataset in [open_dataset(self.arguments.data, split)]
            for item in (dataset[index] for index in range(0, len(dataset), self.arguments.every))
        ]
        self.model = load_model(resolve_model(self.arguments.model))
        self.meta: ModelMeta = read_meta(self.model)
        self.size = self.samples[0].image_hwc.shape[0], self.samples[0].image_hwc.shape[1]
        self.static = self._static(self.model)
        self.ranges = self._ranges()
        self.spec = EngineSpec(frame_size=self.size, classes=self.meta.classes)

    def run(self) -> None:
        """Build, score, time; what the work folder holds is taken as it is."""
        self._claim()
        runners: dict[str, Runner] = {}
        for subject in [*self._ours(), *self._peers()]:
            folder = self.scratch / subject.name.replace(" ", "_").replace(",", "")
            try:
                runner = self._one(subject, folder)
            except ImportError as error:
                self.notes.append(f"{subject.name} is not installed here ({error.name})")
            except Exception as error:  # a peer that fails on this graph is a finding, not the end of the comparison
                if subject.name not in PEERS:
                    raise
                self.notes.append(f"{subject.name} failed: {type(error).__name__}: {str(error).splitlines()[0][:160]}")
            else:
                if runner is not None:
                    runners[subject.name] = runner
        if self.arguments.seconds:
            timed = compare_runners(runners, self.frames[:8], duration_s=self.arguments.seconds)
            for row in self.rows:
                if row.name in runners:
                    row.p50_ms = float(np.median(timed.samples[row.name].engine_ns)) / 1e6
                    row.of_bf16, row.of_f32 = timed.ratio(row.name, "BF16"), timed.ratio(row.name, "FP32")

    def _one(self, subject: Subject, folder: Path) -> Runner | None:
        """Make and score one subject; a runner where it is timed."""
        folder.mkdir(exist_ok=True)
        runner, share = self._runner(subject, folder) if subject.backend else (None, None)
        kept = folder / "row.npz"
        if kept.exists():
            row = load_row(kept, subject.name, subject.executor)
        else:
            row = self._scored(subject, runner)
            save_row(kept, row)
        row.int8_share = share
        self.rows.append(row)
        return runner

    def _scored(self, subject: Subject, runner: Runner | None) -> Row:
        if runner is not None:
            with runner:
                return self._row(subject, _through(runner), self.drive)
        made = subject.make()
        assert isinstance(made, onnx.ModelProto)
        return self._row(subject, _session(made), ())

    def _runner(self, subject: Subject, folder: Path) -> tuple[Runner, float | None]:
        file = folder / "model.onnx"
        if not file.exists() and not file.with_suffix(".xml").exists():
            made = subject.make()
            if isinstance(made, Path):
                for suffix in (".bin", ".xml"):
                    shutil.copyfile(made.with_suffix(suffix), file.with_suffix(suffix))
            else:
                save_model(file, made)
        return _engine(file if file.exists() else file.with_suffix(".xml"), self.spec, subject)

    def _claim(self) -> None:
        """Refuse a work folder of another comparison."""
        told = {
            "weights": self.meta.weights_sha256,
            "ranges": hashlib.sha256(msgspec.json.encode(self.ranges)).hexdigest(),
            **{name: str(getattr(self.arguments, name)) for name in _SAME},
        }
        file = self.scratch / "comparison.json"
        if file.exists() and json.loads(file.read_text()) != told:
            raise RequestError("a comparison of something else", value=file, fix="another --work")
        file.write_text(json.dumps(told))

    def caption(self) -> str:
        """What was compared, on what."""
        arguments = self.arguments
        seen = f"the model learned from {self.meta.trained_on}"
        if "dev" in arguments.splits.split(","):
            seen += ", and where that is all of train, dev's frames are frames that it has seen"
        drive = (
            f" Flicker is over {arguments.drive_frames or 'all'} frames of {Path(arguments.drive).name}."
            if (arguments.drive)
            else ""
        )
        return (
            f"{len(self.samples)} frames ({arguments.splits}); {seen}; ranges {self._origin}, peers calibrated on "
            f"{arguments.count} frames of train.{drive}"
        )

    def _static(self, model: onnx.ModelProto) -> onnx.ModelProto:
        return fix_frame_size(model, self.size, default_network_size(self.meta.network_size, self.size))

    def _ranges(self) -> Ranges:
        shipped = self.arguments.ranges or shipped_ranges(self.arguments.model)
        if shipped is not None:
            self._origin = "as shipped" if self.arguments.ranges is None else f"of {Path(shipped).name}"
            return load_ranges(Path(shipped), weights_sha256=self.meta.weights_sha256)
        self._origin = f"of {self.arguments.count} frames of train"
        return self._calibrated(prepare=True)

    @cached_property
    def frames(self) -> list[U8]:
        """Frames that peers calibrate on."""
        pool = open_pool(self.arguments.data)
        return [f.image_hwc.copy() for f in pool.read(choose_frames(pool, self.arguments.count).indices)]

    def _ours(self) -> Iterator[Subject]:
        formed = apply_forms(self.static, _OPENVINO_FORMS)
        even = equalised(self.static, self.ranges)
        yield Subject(name="FP32", executor="openvino f32", backend="openvino", precision="fp32", make=lambda: formed)
        yield Subject(name="BF16", executor="openvino bf16", backend="openvino", precision="bf16", make=lambda: formed)
        yield Subject(
            name="edgeseg INT8, cpu",
            executor=_INTEGERS,
            backend="openvino",
            precision="int8",
            make=lambda: quantize(apply_forms(even, _OPENVINO_FORMS), self.ranges, CPU),
        )
        if self.arguments.plain:
            yield Subject(
                name="the same, as is",
                executor=_INTEGERS,
                backend="openvino",
                precision="int8",
                make=lambda: quantize(formed, self._calibrated(prepare=False), CPU),
            )
        for name, make in {
            "weak": lambda: make_variant(quantize(even, self.ranges, NVIDIA), "weak"),
            "typed": lambda: make_variant(quantize(even, self.ranges, NVIDIA_TYPED), "typed", "fp16"),
        }.items():
            yield Subject(
                name=f"edgeseg INT8, {name}",
                executor="onnxruntime, nothing fused",
                backend="",
                precision="int8",
                make=make,
            )

    def _peers(self) -> Iterator[Subject]:
        for name in filter(None, self.arguments.peers.split(",")):
            own = name == "NNCF"
            yield Subject(
                name=name,
                executor=_INTEGERS if own else "onnxruntime",
                backend="openvino" if own else "onnxruntime",
                precision="int8",
                make=partial(PEERS[name], self.static, self.frames, self.scratch),
            )

    def _calibrated(self, *, prepare: bool) -> Ranges:
        pool = open_pool(self.arguments.data)
        return calibrate(self.model, pool, count=self.arguments.count, prepare=prepare)

    @cached_property
    def drive(self) -> list[U8]:
        """Frames that flicker is measured on."""
        if not self.arguments.drive:
            return []
        frames: list[U8] = []
        source = open_source(self.arguments.drive)
        resizer: Resizer | None = None
        try:
            source.open()
            while (not self.arguments.drive_frames or len(frames) < self.arguments.drive_frames) and source.grab():
                image = source.retrieve().image_hwc
                resizer = resizer or Resizer((image.shape[0], image.shape[1]), self.size)
                frames.append(resizer.to_frame(image, np.empty((*self.size, 3), np.uint8)).copy())
        finally:
            source.close()
        return frames

    def _row(self, subject: Subject, masks: Masks, drive: Sequence[U8]) -> Row:
        made = [masks(sample.image_hwc) for sample in self.samples]
        counts = []
        for sample, mask in zip(self.samples, made, strict=True):
            counter = Confusion(self.meta.classes)
            counter.add(sample.label_hw, mask)
            counts.append(counter.matrix.copy())
        flicker = Flicker()
        for number, frame in enumerate(drive):
            flicker.add(number, frame, masks(frame))
        sys.stderr.write(f"{subject.name}: done\n")
        return Row(subject.name, subject.executor, np.stack(counts), made, flicker=flicker.share)


# ---------------------------------------------------------------- execution


def _engine(file: Path, spec: EngineSpec, subject: Subject) -> tuple[Runner, float | None]:
    """A runner of a model, and the share of its layers that compute in integers, where that is told."""
    builder = get_builder(subject.backend)
    own = msgspec.structs.replace(spec, precision=subject.precision)
    if subject.backend != "openvino":
        return builder.open(file, own), None
    bf16 = "bf16" in builder.precisions
    if subject.precision == "int8" and bf16:
        own = msgspec.structs.replace(own, options={"float_precision": "bf16"})
    if file.suffix == ".xml":
        core = ov.Core()
        layers: Mapping[str, int] = count_layers(
            compile_model(core, read_model(core, file), hint="bf16" if bf16 else "fp32")
        )
    else:
        built = builder.build(file, file.parent, own)
        file, layers = file.parent / built.file, built.layers
    return builder.open(file, own), layers.get("int8", 0) / sum(layers.values())


def _through(runner: Runner) -> Masks:
    def masks(frame: U8) -> U8:
        with runner.infer(frame[None]) as output:
            return output.mask_nhw[0].copy()

    return masks


def _session(graph: onnx.ModelProto) -> Masks:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda frame: session.run(["mask"], {"frame": frame[None]})[0][0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="canonical ONNX file or zoo:NAME")
    parser.add_argument("--data", required=True, help="labelled data: camvid:PATH, folder:PATH, street:…")
    parser.add_argument("--splits", default="dev,val", help="splits that accuracy is measured on, together")
    parser.add_argument("--count", type=int, default=64, help="calibration frames")
    parser.add_argument("--every", type=int, default=1, help="take every Nth frame of the splits")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of the timing run; 0 for none")
    parser.add_argument("--ranges", help="range file of the model, instead of those that it ships")
    parser.add_argument("--peers", default=",".join(PEERS), help="which peers, by comma; empty for none")
    parser.add_argument(
        "--plain", action="store_true", help="also without equalisation and with every layer in integers"
    )
    parser.add_argument("--drive", default="", help="video, or street:seed=N,frames=M, that flicker is measured on")
    parser.add_argument("--drive-frames", type=int, default=0, help="its first frames; 0 takes all")
    parser.add_argument(
        "--work",
        type=Path,
        help="folder that keeps engines and scores; what it holds is taken as it is, so that latency can be measured "
        "by itself later, with the same arguments and --seconds",
    )
    parser.add_argument("--out", type=Path, help="Markdown page to write into")
    parser.add_argument("--mark", default="measured", help="which part of the page, between <!-- MARK: begin/end -->")
    return parser.parse_args()


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # of this process, which is only this tool
    main()
