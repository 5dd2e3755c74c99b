"""INT8 of edgeseg against its peers on the same frames: accuracy with paired intervals, latency in one interleaved run.

    python tools/compare_quantizers.py zoo:edge-s --data camvid:PATH --drive CLIP.mp4 --out docs/int8.md

Three artefacts of edgeseg are scored against FP32: the CPU engine, and the NVIDIA graphs `weak` and `typed`, executed
by ONNX Runtime with its optimisations off. Ranges are the model's own where it ships them, else measured on the data's
`train` split, on whose frames the peers calibrate too; a peer that is not installed is left out, by name. Accuracy is
over `--splits` together; flicker is what masks of still pixels change from frame to frame on `--drive`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import openvino as ov
from quantizer_report import Row, markdown, write_between_marks

from edgeseg.backend import get_builder
from edgeseg.backend.openvino import compile_model, count_layers, read_model
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

Masks = Callable[[U8], U8]


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="edgeseg-compare-") as folder:
        comparison = Comparison(arguments, Path(folder))
        comparison.run()
    text = markdown(comparison.rows, comparison.meta.classes.names, comparison.caption(), comparison.notes)
    if arguments.out:
        write_between_marks(arguments.out, text)
    sys.stdout.write(text)


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

    def run(self) -> None:
        """Build, score, time."""
        ranges = self._ranges()
        frames = self._frames()
        engines, graphs = self._ours(ranges)
        for name, made in self._peers(frames).items():
            if isinstance(made, Path):
                engines[name] = ("openvino int8 + bf16", made, "int8")
            else:
                graphs[name] = ("onnxruntime", made, False)
        spec = EngineSpec(frame_size=self.size, classes=self.meta.classes)
        runners: dict[str, Runner] = {}
        drive = self._drive()
        for name, (executor, graph, precision) in engines.items():
            runner, share = _engine(graph, spec, precision, self.scratch / name.replace(" ", "_"))
            runners[name] = runner
            with runner:
                self.rows.append(self._row(name, executor, _through(runner), drive))
            self.rows[-1].int8_share = share
        for name, (executor, model, exact) in graphs.items():
            self.rows.append(self._row(name, executor, _session(model, exact), ()))
        if self.arguments.seconds:
            timed = compare_runners(runners, frames[:8], duration_s=self.arguments.seconds)
            for row in self.rows:
                if row.name in runners:
                    row.p50_ms = float(np.median(timed.samples[row.name].engine_ns)) / 1e6

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
        return calibrate(self.model, open_pool(self.arguments.data), count=self.arguments.count)

    def _frames(self) -> list[U8]:
        pool = open_pool(self.arguments.data)
        return [f.image_hwc.copy() for f in pool.read(choose_frames(pool, self.arguments.count).indices)]

    def _ours(self, ranges: Ranges) -> tuple[dict[str, tuple[str, onnx.ModelProto | Path, str]], _Graphs]:
        even = equalised(self.static, ranges)
        formed = apply_forms(self.static, _OPENVINO_FORMS)
        engines: dict[str, tuple[str, onnx.ModelProto | Path, str]] = {
            "FP32": ("openvino f32", formed, "fp32"),
            "BF16": ("openvino bf16", formed, "bf16"),
            "edgeseg INT8, cpu": (
                "openvino int8 + bf16",
                quantize(apply_forms(even, _OPENVINO_FORMS), ranges, CPU),
                "int8",
            ),
        }
        if self.arguments.plain:
            plain = calibrate(self.model, open_pool(self.arguments.data), count=self.arguments.count, prepare=False)
            engines["the same, as is"] = ("openvino int8 + bf16", quantize(formed, plain, CPU), "int8")
        graphs: _Graphs = {
            name: ("onnxruntime, nothing fused", made, True)
            for name, made in {
                "edgeseg INT8, weak": make_variant(quantize(even, ranges, NVIDIA), "weak"),
                "edgeseg INT8, typed": make_variant(quantize(even, ranges, NVIDIA_TYPED), "typed", "fp16"),
            }.items()
        }
        return engines, graphs

    def _peers(self, frames: Sequence[U8]) -> dict[str, onnx.ModelProto | Path]:
        found: dict[str, onnx.ModelProto | Path] = {}
        for name in filter(None, self.arguments.peers.split(",")):
            try:
                found[name] = _PEERS[name](self.static, frames, self.scratch)
            except ImportError as error:
                self.notes.append(f"{name} is not installed here ({error.name})")
            except Exception as error:  # a peer that fails on this graph is a finding, not the end of the comparison
                self.notes.append(f"{name} failed: {type(error).__name__}: {str(error).splitlines()[0][:160]}")
        return found

    def _drive(self) -> list[U8]:
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

    def _row(self, name: str, executor: str, masks: Masks, drive: Sequence[U8]) -> Row:
        made = [masks(sample.image_hwc) for sample in self.samples]
        counts = []
        for sample, mask in zip(self.samples, made, strict=True):
            counter = Confusion(self.meta.classes)
            counter.add(sample.label_hw, mask)
            counts.append(counter.matrix.copy())
        flicker = Flicker()
        for number, frame in enumerate(drive):
            flicker.add(number, frame, masks(frame))
        sys.stderr.write(f"{name}: done\n")
        return Row(name, executor, np.stack(counts), made, flicker=flicker.share)


_Graphs = dict[str, tuple[str, onnx.ModelProto, bool]]


# ---------------------------------------------------------------- peers


def _ort_static(static: onnx.ModelProto, frames: Sequence[U8], scratch: Path) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(frames)

        def get_next(self) -> dict[str, U8] | None:
            frame = next(self.rest, None)
            return None if frame is None else {"frame": frame[None]}

    save_model(scratch / "peer.onnx", static)
    quantize_static(scratch / "peer.onnx", scratch / "ort.onnx", Reader())
    return onnx.load(scratch / "ort.onnx")


def _nncf(static: onnx.ModelProto, frames: Sequence[U8], scratch: Path) -> Path:
    import nncf
    import openvino as ov

    save_model(scratch / "nncf.onnx", static)
    data = nncf.Dataset(list(frames), lambda frame: {"frame": frame[None]})
    made = nncf.quantize(ov.Core().read_model(str(scratch / "nncf.onnx")), data, subset_size=len(frames))
    ov.save_model(made, str(scratch / "nncf.xml"), compress_to_fp16=False)
    return scratch / "nncf.xml"


def _modelopt(static: onnx.ModelProto, frames: Sequence[U8], scratch: Path) -> onnx.ModelProto:
    from modelopt.onnx.quantization import quantize as modelopt_quantize

    save_model(scratch / "mo.onnx", static)
    modelopt_quantize(
        str(scratch / "mo.onnx"),
        quantize_mode="int8",
        calibration_data={"frame": np.stack(frames)},
        calibration_method="entropy",
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(scratch / "mo.int8.onnx"),
    )
    return onnx.load(scratch / "mo.int8.onnx")


_PEERS: Mapping[str, Callable[[onnx.ModelProto, Sequence[U8], Path], onnx.ModelProto | Path]] = {
    "onnxruntime quantize_static": _ort_static,
    "NNCF": _nncf,
    "nvidia-modelopt": _modelopt,
}


# ---------------------------------------------------------------- execution


def _engine(graph: onnx.ModelProto | Path, spec: EngineSpec, precision: str, folder: Path) -> tuple[Runner, float]:
    folder.mkdir()
    builder = get_builder("openvino")
    bf16 = "bf16" in builder.precisions
    own = msgspec.structs.replace(
        spec, precision=precision, options={"float_precision": "bf16"} if precision == "int8" and bf16 else {}
    )
    if isinstance(graph, Path):
        core = ov.Core()
        layers = count_layers(compile_model(core, read_model(core, graph), hint="bf16" if bf16 else "fp32"))
        return builder.open(graph, own), layers.get("int8", 0) / sum(layers.values())
    save_model(folder / "model.onnx", graph)
    built = builder.build(folder / "model.onnx", folder, own)
    return builder.open(folder / built.file, own), built.layers.get("int8", 0) / sum(built.layers.values())


def _through(runner: Runner) -> Masks:
    def masks(frame: U8) -> U8:
        with runner.infer(frame[None]) as output:
            return output.mask_nhw[0].copy()

    return masks


def _session(graph: onnx.ModelProto, exact: bool) -> Masks:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if exact:
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
    parser.add_argument("--peers", default=",".join(_PEERS), help="which peers, by comma; empty for none")
    parser.add_argument(
        "--plain", action="store_true", help="also without equalisation and with every layer in integers"
    )
    parser.add_argument("--drive", default="", help="video, or street:seed=N,frames=M, that flicker is measured on")
    parser.add_argument("--drive-frames", type=int, default=0, help="its first frames; 0 takes all")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    return parser.parse_args()


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # of this process, which is only this tool
    main()
