"""Memory and time of a calibration by its number of frames: edgeseg's one pass beside ONNX Runtime's calibrators.

    python tools/calibration_memory.py zoo:edge-s --frames camvid:PATH [--counts 8,16,32] [--out docs/int8.md]
    python tools/calibration_memory.py zoo:edge-s --frames camvid:PATH --counts 256 --only edgeseg

Each figure is the peak resident memory of a process of its own, its processor time, and how long it took. ONNX
Runtime's histogram calibrators keep every activation of every frame until they bin them; edgeseg keeps a histogram of
each tensor.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from quantizer_report import command, write_between_marks

from edgeseg.core.clock import now_ns, wall_iso
from edgeseg.core.device import fingerprint
from edgeseg.core.types import U8
from edgeseg.core.workspace import resolve_model
from edgeseg.graph import default_network_size, fix_frame_size, load_model, read_meta, save_model
from edgeseg.quant import calibrate, open_pool
from edgeseg.quant.frames import FramePool, choose_frames


def main() -> None:
    arguments = _arguments()
    if arguments.one:
        print(json.dumps(measure_one(arguments.one, arguments.model, arguments.frames, int(arguments.counts))))
        return
    counts = [int(count) for count in arguments.counts.split(",")]
    kinds = arguments.only or list(KINDS)
    found = {name: [_apart(name, arguments, count) for count in counts] for name in kinds}
    text = table(found, counts)
    if arguments.out:
        write_between_marks(arguments.out, text, arguments.mark)
    sys.stdout.write(text)


def table(found: dict[str, list[dict[str, float]]], counts: Sequence[int]) -> str:
    """Peak memory by frames, and the slope of a straight line through it."""
    device = fingerprint()
    lines = [
        f"`{command('calibration_memory.py')}`",
        "",
        f"Peak resident memory of a process of its own, MB (processor time, s; wall time, s); {device.cpu}, "
        f"{device.cores} cores; {wall_iso()[:10]}:",
        "",
        f"| | {' | '.join(f'{count} frames' for count in counts)} | MB a frame |",
        "|---" * (len(counts) + 2) + "|",
    ]
    for name, values in found.items():
        peaks = [value["peak_mb"] for value in values]
        slope = f"{np.polyfit(counts, peaks, 1)[0]:.1f}" if len(counts) > 1 else "–"
        cells = [f"{value['peak_mb']:.0f} ({value['cpu_s']:.0f}; {value['wall_s']:.0f})" for value in values]
        lines.append(f"| {name} | {' | '.join(cells)} | {slope} |")
    return "\n".join([*lines, ""])


def measure_one(name: str, model: str, frames: str, count: int) -> dict[str, float]:
    """Run one calibration in this process."""
    begin_ns = now_ns()
    pool = open_pool(frames)
    KINDS[name](load_model(resolve_model(model)), pool, count)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "peak_mb": used.ru_maxrss / 1024,
        "cpu_s": used.ru_utime + used.ru_stime,
        "wall_s": (now_ns() - begin_ns) / 1e9,
    }


def _apart(name: str, arguments: argparse.Namespace, count: int) -> dict[str, float]:
    sys.stderr.write(f"{name}, {count} frames\n")
    line = [sys.executable, __file__, arguments.model, "--frames", arguments.frames]
    done = subprocess.run([*line, "--counts", str(count), "--one", name], check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _edgeseg(model: onnx.ModelProto, pool: FramePool, count: int) -> None:
    calibrate(model, pool, count=count)


def _edgeseg_as_is(model: onnx.ModelProto, pool: FramePool, count: int) -> None:
    calibrate(model, pool, count=count, prepare=False)


def _onnxruntime(method: str) -> Callable[[onnx.ModelProto, FramePool, int], None]:
    def run(model: onnx.ModelProto, pool: FramePool, count: int) -> None:
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

        images = (frame.image_hwc for frame in pool.read(choose_frames(pool, count).indices))
        first = next(images)
        size = first.shape[0], first.shape[1]

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.rest = iter((first, *images))

            def get_next(self) -> dict[str, U8] | None:
                image = next(self.rest, None)
                return None if image is None else {"frame": image[None]}

        static = fix_frame_size(model, size, default_network_size(read_meta(model).network_size, size))
        with tempfile.TemporaryDirectory() as folder:
            save_model(Path(folder) / "model.onnx", static)
            calibrator = create_calibrator(
                Path(folder) / "model.onnx",
                ["Conv", "ConvTranspose", "Add", "Relu"],
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=getattr(CalibrationMethod, method),
            )
            calibrator.collect_data(Reader())
            calibrator.compute_data()

    return run


KINDS: dict[str, Callable[[onnx.ModelProto, FramePool, int], None]] = {
    "edgeseg": _edgeseg,
    "edgeseg, as is": _edgeseg_as_is,
    "onnxruntime, entropy": _onnxruntime("Entropy"),
    "onnxruntime, percentile": _onnxruntime("Percentile"),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="canonical ONNX file or zoo:NAME")
    parser.add_argument("--frames", required=True, help="frames, as `edgeseg calibrate` takes them")
    parser.add_argument("--counts", default="8,16,32", help="numbers of frames")
    parser.add_argument("--only", action="append", choices=sorted(KINDS), help="one of them; may be given again")
    parser.add_argument("--mark", default="memory", help="which part of the page, between <!-- MARK: begin/end -->")
    parser.add_argument("--one", choices=sorted(KINDS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
