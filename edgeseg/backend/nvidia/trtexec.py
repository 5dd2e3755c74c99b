"""The command line of NVIDIA's trtexec for an ONNX file: what builds where edgeseg itself does not run (JetPack 5)."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import onnx

from edgeseg.backend.onnx_model import check_model
from edgeseg.backend.options import resolve_options
from edgeseg.core.artefacts import atomic_file, write_text
from edgeseg.core.errors import CapabilityError
from edgeseg.core.progress import Progress, Silent
from edgeseg.core.types import BuiltEngine, EngineSpec, Precision, Runner

MODEL_FILE = "engine.onnx"
SCRIPT_FILE = "build_plan.sh"
PLAN_FILE = "engine.plan"
_SCRIPT = """#!/bin/sh
# Run this on the board: sh build_plan.sh [PLAN]. It writes PLAN, by default {plan} in the current folder,
# and nothing into the bundle, whose sums then still hold.
here="$(cd "$(dirname "$0")" && pwd)"
plan="${{1:-{plan}}}"
exec {line}
"""
TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
"""Where JetPack installs it; pip wheels do not have it."""
_SILENT = Silent()
_FLAGS: dict[str, tuple[str, ...]] = {"fp32": (), "fp16": ("--fp16",), "int8": ("--fp16", "--int8")}


def trtexec_line(
    model: str,
    plan: str,
    precision: Precision,
    *,
    workspace_mb: int = 1024,
    cache: str = "",
    float_layers: Sequence[str] = (),
) -> str:
    """The line that builds a plan with TensorRT 8.5, and times it with transfers and a CUDA graph.

    Args:
        model: The ONNX file in the variant `jetpack5`, as the board will see it.
        plan: The plan to write.
        precision: `fp32`, `fp16` or `int8`.
        workspace_mb: Scratch memory; on a board it is everybody's.
        cache: Calibration cache, for INT8 without Q/DQ nodes.
        float_layers: Layers that are kept in FP32 where the precision would allow less.

    Raises:
        CapabilityError: TensorRT 8 has no bfloat16.
    """
    if precision not in _FLAGS:
        raise CapabilityError(
            f"precision {precision}",
            runtime="TensorRT 8.5",
            allowed=f"allowed: {', '.join(_FLAGS)}",
            fix="edgeseg build MODEL --precision fp16",
        )
    words = [TRTEXEC, f"--onnx={model}", f"--saveEngine={plan}", *_FLAGS[precision]]
    if cache:
        words.append(f"--calib={cache}")
    if float_layers and precision != "fp32":
        words.append("--precisionConstraints=prefer")
        words.append("--layerPrecisions=" + ",".join(f"{name}:fp32" for name in float_layers))
    words += [
        f"--memPoolSize=workspace:{workspace_mb}",
        f"--timingCacheFile={PurePosixPath(plan).with_suffix('.timing')}",
        "--profilingVerbosity=detailed",
        "--useCudaGraph",
        "--useSpinWait",
    ]
    return shlex.join(words)


def norm_layers(model: onnx.ModelProto) -> list[str]:
    """Layers of layer norms that are written in parts: in FP16 their squares overflow, and 8.5 runs them so.

    From 8.6 on the norm is one node, whose statistics TensorRT computes in FP32 by itself.
    """
    end = ".variance"
    roots = {
        node.name[: -len(end)] for node in model.graph.node if node.op_type == "ReduceMean" and node.name.endswith(end)
    }
    return [node.name for node in model.graph.node if node.name.rpartition(".")[0] in roots]


class TrtexecBuilder:
    """A bundle for a board that edgeseg does not run on: the exact ONNX file, and the script that builds its plan."""

    name = "trtexec"
    version = "8.5"
    variant: Literal["jetpack5"] = "jetpack5"
    precisions: Sequence[Precision] = ("fp32", "fp16", "int8")

    def build(self, model: Path, folder: Path, spec: EngineSpec, progress: Progress = _SILENT) -> BuiltEngine:
        """Copy the model and write the script; no runtime is involved.

        Raises:
            RequestError: The model does not fit the request.
        """
        del progress
        options = resolve_options(spec.options, {"workspace_mb": 1024}, backend=self.name)
        proto = check_model(model, spec)
        line = trtexec_line(
            MODEL_FILE,
            PLAN_FILE,
            spec.precision,
            workspace_mb=int(options["workspace_mb"]),
            float_layers=norm_layers(proto),
        )
        with atomic_file(folder / MODEL_FILE) as temporary:
            shutil.copyfile(model, temporary)
        # the script's own variables go where the plain line has the names
        script = line.replace(f"--onnx={MODEL_FILE}", f'--onnx="$here/{MODEL_FILE}"')
        script = script.replace(f"--saveEngine={PLAN_FILE}", '--saveEngine="$plan"')
        script = script.replace("--timingCacheFile=engine.timing", '--timingCacheFile="$plan.timing"')
        write_text(folder / SCRIPT_FILE, _SCRIPT.format(plan=PLAN_FILE, line=script))
        return BuiltEngine(
            file=MODEL_FILE,
            backend=self.name,
            backend_version=self.version,
            precision=spec.precision,
            report={
                "trtexec": line,
                "audit": None,
                "audit_reason": "nothing is built before the board runs the script",
            },
            can_run_here=False,
        )

    def open(self, engine: Path, spec: EngineSpec, *, throughput: bool = False) -> Runner:
        """Refused: the plan is trtexec's, and the program that runs it is the user's own.

        Raises:
            CapabilityError: Always; names the script.
        """
        del spec, throughput
        raise CapabilityError(
            "running a JetPack 5 bundle in edgeseg",
            runtime="JetPack 5 has Python 3.8",
            allowed=f"the plan that {engine.with_name(SCRIPT_FILE)} builds on the board",
            fix="edgeseg build MODEL --target auto",
        )
