"""INT8 of edgeseg against its peers on the same frames: accuracy with paired intervals, latency in one interleaved run.

    python tools/compare_quantizers.py zoo:edge-s --data camvid:PATH --out docs/int8.md

Peers (NNCF, nvidia-modelopt) are compared where they are installed and left out, by name, where they are not. All
calibrate on the same frames of the data's `train` split; accuracy is over `--splits` together.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeseg.backend import get_builder
from edgeseg.core.clock import wall_iso
from edgeseg.core.device import fingerprint
from edgeseg.core.metrics import Confusion
from edgeseg.core.types import U8, Classes, EngineSpec, Runner, Sample
from edgeseg.core.workspace import resolve_model
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
from edgeseg.measure import compare_runners
from edgeseg.quant import calibrate, open_pool, quantize
from edgeseg.quant.equalise import equalise
from edgeseg.quant.frames import choose_frames
from edgeseg.quant.placement import CPU, NVIDIA, NVIDIA_TYPED

_OPENVINO_FORMS = Forms(tail="phases", layer_norm="parts", pad="pixels")
_QDQ = ("QuantizeLinear", "DequantizeLinear")
_REPLICATES = 1000

Masks = Callable[[U8], U8]


@dataclass
class Row:
    """One engine or graph: its confusion by frame, agreement with FP32, and what could be measured of its speed."""

    name: str
    executor: str
    confusion: NDArray[np.int64]  # [frames, C, C + 1]
    masks: list[U8]
    int8_share: float | None = None
    p50_ms: float | None = None


def main() -> None:
    arguments = _arguments()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="edgeseg-compare-") as folder:
        rows, notes = compare(arguments, Path(folder))
    text = report(arguments, rows, notes)
    if arguments.out:
        write_between_marks(arguments.out, text)
    sys.stdout.write(text)


def write_between_marks(page: Path, text: str) -> None:
    """Put the table between the marks of a page, or write a page of it alone."""
    begin, end = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
    before, _, rest = (page.read_text(encoding="utf-8") if page.exists() else begin + end).partition(begin)
    page.write_text(before + begin + text + end + rest.partition(end)[2], encoding="utf-8")


def compare(arguments: argparse.Namespace, scratch: Path) -> tuple[list[Row], list[str]]:
    samples = [
        item
        for split in arguments.splits.split(",")
        for dataset in [open_dataset(arguments.data, split)]
        for item in (dataset[index] for index in range(0, len(dataset), arguments.every))
    ]
    model = load_model(resolve_model(arguments.model))
    meta = read_meta(model)
    size = samples[0].image_hwc.shape[:2]
    static = fix_frame_size(model, size, default_network_size(meta.network_size, size))
    pool = open_pool(arguments.data)
    ranges = calibrate(model, pool, count=arguments.count)
    frames = [frame.image_hwc.copy() for frame in pool.read(choose_frames(pool, arguments.count).indices)]
    spec = EngineSpec(frame_size=size, classes=meta.classes)
    formed = apply_forms(static, _OPENVINO_FORMS)
    engines = {
        "FP32": ("openvino f32", formed, "fp32"),
        "BF16": ("openvino bf16", formed, "bf16"),
        "edgeseg INT8, cpu": ("openvino int8 + bf16", quantize(formed, ranges, CPU), "int8"),
    }
    graphs = {
        "edgeseg INT8, weak": make_variant(quantize(static, ranges, NVIDIA), "weak"),
        "edgeseg INT8, typed": make_variant(quantize(static, ranges, NVIDIA_TYPED), "typed", "fp16"),
    }
    even = equalise(model)
    even_formed = apply_forms(
        fix_frame_size(even, size, default_network_size(meta.network_size, size)), _OPENVINO_FORMS
    )
    even_int8 = quantize(even_formed, calibrate(even, pool, count=arguments.count), CPU)
    engines["edgeseg INT8, cpu, equalised"] = ("openvino int8 + bf16", even_int8, "int8")
    notes = []
    for name, make in {"onnxruntime quantize_static": _ort_static, "NNCF": _nncf, "nvidia-modelopt": _modelopt}.items():
        try:
            made = make(static, frames, scratch)
        except ImportError as error:
            notes.append(f"{name} is not installed here ({error.name})")
            continue
        except Exception as error:  # a peer that fails on this graph is a finding, not the end of the comparison
            notes.append(f"{name} failed: {type(error).__name__}: {str(error).splitlines()[0][:160]}")
            continue
        if name == "NNCF":
            engines[name] = ("openvino int8 + bf16", made, "int8")
        else:
            graphs[name] = made
    rows, runners = [], {}
    for name, (executor, graph, precision) in engines.items():
        runner, share = _engine(graph, spec, precision, scratch / name.replace(" ", "_"))
        runners[name] = runner
        with runner:
            rows.append(_row(name, executor, samples, meta.classes, _through(runner)))
        rows[-1].int8_share = share
    for name, graph in graphs.items():
        exact = name.startswith("edgeseg")
        executor = "onnxruntime, nothing fused" if exact else "onnxruntime"
        rows.append(_row(name, executor, samples, meta.classes, _session(graph, exact)))
    timed = compare_runners(runners, frames[:8], duration_s=arguments.seconds)
    for row in rows:
        if row.name in runners:
            row.p50_ms = float(np.median(timed.samples[row.name].engine_ns)) / 1e6
    return rows, notes


def report(arguments: argparse.Namespace, rows: Sequence[Row], notes: Sequence[str]) -> str:
    base, bf16 = rows[0], rows[1]
    names = _names(arguments)
    reference = _iou(base.confusion.sum(axis=0))
    shares = base.confusion.sum(axis=(0, 2)) / base.confusion.sum()
    watched = [i for i in range(len(names)) if reference[i] >= 0.3 and shares[i] >= 0.005]
    device = fingerprint()
    lines = [
        f"`python tools/compare_quantizers.py {' '.join(sys.argv[1:])}`",
        "",
        f"{len(base.masks)} frames ({arguments.splits}), calibrated on {arguments.count} of train; {device.cpu}, "
        f"{device.cores} cores; {wall_iso()[:10]}. Loss in points of mIoU with its 95 % interval (paired bootstrap of "
        f"frames); worst class among those with IoU of 0.3 or more and 0.5 % of the pixels "
        f"({', '.join(names[i] for i in watched)}); agreement is the share of pixels with FP32's class. p50 of one "
        "interleaved run, precision hints set and read back.",
        "",
        "| | executed by | mIoU | loss | worst class | agreement | INT8 layers | p50 ms | of BF16 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        iou = _iou(row.confusion.sum(axis=0))
        low, high = _interval(base.confusion, row.confusion)
        drops = {names[i]: 100 * (reference[i] - iou[i]) for i in watched}
        worst = max(drops, key=lambda name: drops[name]) if drops else "–"
        agreement = np.mean([np.mean(a == b) for a, b in zip(base.masks, row.masks, strict=True)])
        ratio = "–" if row.p50_ms is None or not bf16.p50_ms else f"{row.p50_ms / bf16.p50_ms:.2f}"
        lines.append(
            f"| {row.name} | {row.executor} | {np.nanmean(iou):.4f} | "
            f"{100 * (np.nanmean(reference) - np.nanmean(iou)):+.2f} [{low:+.2f}, {high:+.2f}] | "
            f"{worst} {drops.get(worst, 0.0):+.2f} | {agreement:.2%} | "
            f"{'–' if row.int8_share is None else f'{row.int8_share:.0%}'} | "
            f"{'–' if row.p50_ms is None else f'{row.p50_ms:.2f}'} | {ratio} |"
        )
    lines += ["", *(f"- {note}." for note in notes)]
    return "\n".join(lines).rstrip() + "\n"


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


# ---------------------------------------------------------------- execution


def _engine(graph: onnx.ModelProto | Path, spec: EngineSpec, precision: str, folder: Path) -> tuple[Runner, float]:
    import msgspec
    import openvino as ov

    from edgeseg.backend.openvino import compile_model, count_layers, read_model

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
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda frame: session.run(["mask"], {"frame": frame[None]})[0][0]


def _row(name: str, executor: str, samples: Sequence[Sample], classes: Classes, masks: Masks) -> Row:
    made = [masks(sample.image_hwc) for sample in samples]
    counts = []
    for sample, mask in zip(samples, made, strict=True):
        counter = Confusion(classes)
        counter.add(sample.label_hw, mask)
        counts.append(counter.matrix.copy())
    sys.stderr.write(f"{name}: done\n")
    return Row(name, executor, np.stack(counts), made)


# ---------------------------------------------------------------- figures


def _iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    hits = np.diagonal(matrix).astype(np.float64)
    union = matrix.sum(axis=1) + matrix[:, : len(hits)].sum(axis=0) - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def _interval(base: NDArray[np.int64], other: NDArray[np.int64]) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    drops = []
    for _ in range(_REPLICATES):
        pick = generator.integers(0, len(base), len(base))
        drops.append(np.nanmean(_iou(base[pick].sum(axis=0))) - np.nanmean(_iou(other[pick].sum(axis=0))))
    low, high = 100 * np.percentile(drops, (2.5, 97.5))
    return float(low), float(high)


def _names(arguments: argparse.Namespace) -> tuple[str, ...]:
    return open_dataset(arguments.data, arguments.splits.split(",")[0]).classes.names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="canonical ONNX file or zoo:NAME")
    parser.add_argument("--data", required=True, help="labelled data: camvid:PATH, folder:PATH, street:…")
    parser.add_argument("--splits", default="dev,val", help="splits that accuracy is measured on, together")
    parser.add_argument("--count", type=int, default=64, help="calibration frames")
    parser.add_argument("--every", type=int, default=1, help="take every Nth frame of the splits")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of the timing run")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
