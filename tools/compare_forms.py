"""Latency of a model's exact forms, backend by backend and precision by precision, in one interleaved run.

    python tools/compare_forms.py MODEL.onnx [--size 360x480] [--seconds 20] [--threads 2] [--json]

Every form computes the same masks (tests/graph/test_forms.py); which is fastest differs by runtime. Q/DQ engines follow
the float ones: the parts that have forms stay in float, but for `transposed`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from edgeseg.backend import get_builder, probe_backends
from edgeseg.cli.ui import parse_size
from edgeseg.core.types import EngineSpec, Precision, Runner, Size
from edgeseg.core.workspace import resolve_model
from edgeseg.graph import apply_forms, fix_frame_size, load_model, read_meta, save_model
from edgeseg.graph.forms import Forms
from edgeseg.measure import compare_runners

_FORMS = {
    "canonical": Forms(),
    "tail by phases": Forms(tail="phases"),
    "norm in parts": Forms(layer_norm="parts"),
    "pointwise as products": Forms(pointwise="matmul"),
    "up as 1x1 and shuffle": Forms(transposed="shuffle"),
    "up as 1x1 and blocks": Forms(transposed="blocks"),
    "padded pixels": Forms(pad="pixels"),
    "blocks, pixels": Forms(transposed="blocks", pad="pixels"),
    "phases, parts, pixels": Forms(tail="phases", layer_norm="parts", pad="pixels"),
}
_WANTED: dict[str, tuple[Precision, ...]] = {"openvino": ("fp32", "bf16"), "onnxruntime": ("fp32",)}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="ONNX file or zoo:NAME")
    parser.add_argument("--size", default="360x480")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each backend and precision")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = compare(resolve_model(options.model), parse_size(options.size), options.seconds, options.threads)
    if options.json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    print(f"{'backend':<12} {'precision':<9} {'form':<22} {'p50 ms':>8} {'over canonical (95 %)':>24}")
    for row in rows:
        ratio = f"{row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        print(f"{row['backend']:<12} {row['precision']:<9} {row['form']:<22} {row['p50_ms']:8.2f} {ratio:>24}")


def compare(model: Path, size: Size, seconds: float, threads: int) -> list[dict[str, str | float]]:
    """One row for each backend, precision and form that changes the graph."""
    here = {item.name for item in probe_backends() if item.ok}
    fixed = fix_frame_size(load_model(model), size)
    canonical = [node.op_type for node in fixed.graph.node]
    rows: list[dict[str, str | float]] = []
    with tempfile.TemporaryDirectory(prefix="edgeseg-forms-") as scratch:
        files: dict[str, Path] = {}
        for name, forms in _FORMS.items():
            written = apply_forms(fixed, forms)
            if name == "canonical" or [node.op_type for node in written.graph.node] != canonical:
                files[name] = Path(scratch) / f"{len(files)}.onnx"
                save_model(files[name], written)
        for backend, precisions in _WANTED.items():
            for precision in precisions:
                if backend in here and precision in get_builder(backend).precisions:
                    rows += _compare(files, Path(scratch), backend, precision, size, seconds, threads)
    return rows


def _compare(
    files: dict[str, Path], scratch: Path, backend: str, precision: Precision, size: Size, seconds: float, threads: int
) -> list[dict[str, str | float]]:
    builder = get_builder(backend)
    runners: dict[str, Runner] = {}
    for name, file in files.items():
        classes = read_meta(load_model(file)).classes
        spec = EngineSpec(frame_size=size, precision=precision, classes=classes, threads=threads)
        folder = scratch / f"{backend}-{precision}-{file.stem}"
        folder.mkdir()
        runners[name] = builder.open(folder / builder.build(file, folder, spec).file, spec)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(4)]
    comparison = compare_runners(runners, frames, duration_s=seconds)
    rows: list[dict[str, str | float]] = []
    for name in files:
        ratio, interval = comparison.ratio(name, "canonical")
        low, high = msgspec.to_builtins(interval)
        p50_ms = float(np.median(comparison.samples[name].engine_ns)) / 1e6
        rows.append(
            {
                "backend": backend,
                "precision": precision,
                "form": name,
                "p50_ms": p50_ms,
                "ratio": ratio,
                "low": low,
                "high": high,
            }
        )
    return rows


if __name__ == "__main__":
    main()
