#!/usr/bin/env python3
"""Check edgeseg on a machine with an NVIDIA GPU: one command, one JSON and one markdown page.

    python tools/gpu_check.py [MODEL ...] --out DIR [--backend tensorrt|tensorrt_rtx] [--data camvid:PATH] [--run RUN]

First a smoke test of two minutes at most: driver, compute capability, import of the runtime, one small network built,
run and captured as a graph. Then FP16 and INT8 of each model, of the whole zoo by default: build, layer audit, mask
agreement with ONNX Runtime, scores on --data, engine and frame-to-mask times with and without graphs against a bare
enqueue loop, which of the two precisions is faster in one interleaved run, a soak, a cold start; INT8 without Q/DQ
nodes where the runtime has it, by our ranges and by NVIDIA's two calibrators; and the network in torch (eager,
compiled, FP16) where torch is. A step that fails is reported and the next one still runs; exit code 1 says that some
step failed or missed its bar.

Without a GPU the same script runs on the simulated one, as tests/backend/nvidia/simulated/README.md says, and its
report says so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from gpu_report import Check
from gpu_subject import Subject, read_frames, torch_network

from edgeseg.backend import device_of, get_builder, open_onnx
from edgeseg.backend.nvidia.audit import audit, kernels_from_inspector
from edgeseg.backend.nvidia.loading import LoadedEngine
from edgeseg.core.clock import now_ns, wall_iso
from edgeseg.core.device import fingerprint
from edgeseg.core.metrics import series_ms
from edgeseg.core.types import U8, EngineSpec, Precision
from edgeseg.core.workspace import zoo_names
from edgeseg.data import open_dataset
from edgeseg.graph import fix_frame_size, load_model, make_variant, read_meta, save_model
from edgeseg.graph.sample import sample_model
from edgeseg.measure import WarmUpRule, compare_runners, evaluate_runner, measure_runner

# what issue 5 asks for on a device
AGREEMENT = {"fp32": 0.999, "bf16": 0.99, "fp16": 0.995, "int8": 0.985}
INT8_DROP_POINTS = 0.5
OVERHEAD_RATIO, OVERHEAD_MS = 1.05, 0.15
SMOKE_S = 120.0
SMOKE_SIZE = (64, 96)
STREET = "street:seed=3,frames=32"


# ---------------------------------------------------------------- smoke


def smoke(check: Check, backend: str, folder: Path) -> None:
    """Everything that must work before a long run is worth starting."""
    begin_ns = now_ns()
    with check.step("smoke") as found:
        builder = get_builder(backend)
        cuda = open_cuda()
        info, memory = cuda.info, cuda.memory_bytes()
        cuda.close()
        found["gpu"] = {"name": info.name, "compute_capability": info.compute_capability, "cuda": info.driver}
        found["gpu"] |= {"integrated": info.integrated, "free_mb": memory[0] >> 20, "total_mb": memory[1] >> 20}
        found["runtime"] = f"{backend} {builder.version}"
        model = fix_frame_size(sample_model(norm="batch"), SMOKE_SIZE)
        variant = builder.variant  # type: ignore[attr-defined]
        file = folder / "smoke.onnx"
        save_model(file, make_variant(model, variant, "fp16"))
        spec = EngineSpec(frame_size=SMOKE_SIZE, precision="fp16", classes=read_meta(model).classes)
        built = builder.build(file, folder, spec)
        frame = np.random.default_rng(0).integers(0, 255, (1, *SMOKE_SIZE, 3), dtype=np.uint8)
        with builder.open(folder / built.file, spec) as runner, runner.infer(frame) as output:
            found["graph"], found["io"] = runner.graph, runner.io  # type: ignore[attr-defined]
            found["ran"] = list(output.mask_nhw.shape)
        seconds = (now_ns() - begin_ns) / 1e9
        check.bar(seconds <= SMOKE_S, f"the smoke test took {seconds:.0f} s, allowed {SMOKE_S:.0f}")


def open_cuda() -> Any:
    """The driver's context; a driver's library that is not there is one line of the report, like everything else."""
    from edgeseg.backend.nvidia.cuda import CudaDriver

    cuda = CudaDriver()
    cuda.open()
    return cuda


# ---------------------------------------------------------------- one precision


def check_precision(
    check: Check, subject: Subject, precision: Precision, results: dict[str, Any], reference: dict[str, Any]
) -> None:
    """Build one engine and measure all there is to measure."""
    builder = get_builder(subject.backend)
    folder = subject.folder / precision
    folder.mkdir(exist_ok=True)
    with check.step("build", results) as found:
        artefact = subject.artefact(precision)
        spec = subject.spec(artefact, precision)
        built = builder.build(artefact, folder, spec)
        found["report"] = dict(built.report)
    if "error" in found:
        return
    plan = folder / built.file
    with check.step("cold_start", results) as found:
        begin_ns = now_ns()
        with builder.open(plan, spec) as runner:
            runner.infer(subject.frames[0][None]).release()
            found["ms"] = round((now_ns() - begin_ns) / 1e6, 3)
            found["graph"], found["io"] = runner.graph, runner.io  # type: ignore[attr-defined]
            text = runner.inspect()  # type: ignore[attr-defined]
    with check.step("audit", results) as found:
        found.update(audit(kernels_from_inspector(text), load_model(artefact)).summary())
    with check.step("agreement", results) as found, open_onnx(artefact, subject.size) as exact:
        with builder.open(plan, spec) as runner:
            found["pixels"] = agreement(runner, exact, subject.frames)
        found["bar"] = AGREEMENT[precision]
        text = f"{precision} masks agree with ONNX Runtime in {found['pixels']:.4f}, bar {found['bar']}"
        found["met"] = check.bar(found["pixels"] >= found["bar"], text)
    if subject.options.data:
        with check.step("scores", results) as found:
            found["miou"] = evaluate(builder.open(plan, spec), subject.options.data)
            found["fp32_miou"] = reference.setdefault("miou", evaluate(reference["open"](), subject.options.data))
            found["drop_points"] = round(100 * (found["fp32_miou"] - found["miou"]), 3)
            if precision == "int8":
                text = f"int8 loses {found['drop_points']} points of mIoU, bar {INT8_DROP_POINTS}"
                found["met"] = check.bar(found["drop_points"] <= INT8_DROP_POINTS, text)
    time_engine(check, subject, precision, plan, artefact, results)
    if "soak" not in subject.options.skip:
        soak(check, subject, plan, spec, results)


def agreement(runner: Any, exact: Any, frames: list[U8]) -> float:
    equal = total = 0
    for frame in frames:
        with runner.infer(frame[None]) as ours, exact.infer(frame[None]) as theirs:
            equal += int(np.count_nonzero(ours.mask_nhw == theirs.mask_nhw))
            total += theirs.mask_nhw.size
    return equal / total


def evaluate(runner: Any, data: str) -> float:
    name, _, split = data.partition("#")
    return float(evaluate_runner(runner, open_dataset(name, split or "val")).miou)


def time_engine(
    check: Check, subject: Subject, precision: Precision, plan: Path, artefact: Path, results: dict[str, Any]
) -> None:
    """Engine and frame-to-mask times with and without graphs, and what the device itself needs for the same work."""
    builder, seconds = get_builder(subject.backend), subject.options.seconds
    for name, options in (("graph", {"cuda_graph": True}), ("no_graph", {"cuda_graph": False})):
        with check.step(f"times_{name}", results) as found:
            runner = builder.open(plan, subject.spec(artefact, precision, **options))
            samples = measure_runner(runner, subject.frames, duration_s=seconds, rule=rule(seconds))
            found["engine_ms"] = msgspec.to_builtins(series_ms(samples.engine_ns))
            found["frame_to_mask_ms"] = msgspec.to_builtins(series_ms(samples.call_ns))
            found["stable"] = samples.stable
    with check.step("bare", results) as found:
        found.update(bare_loop(subject, precision, plan))
        ours = results["times_graph"].get("frame_to_mask_ms", {}).get("p50")
        if ours is not None:
            allowed = OVERHEAD_RATIO * (found["enqueue_ms"] + found["copies_ms"]) + OVERHEAD_MS
            found["frame_to_mask_ms"], found["allowed_ms"] = ours, round(allowed, 4)
            text = f"{precision} frame to mask takes {ours:.3f} ms at the median, allowed {allowed:.3f}"
            found["met"] = check.bar(ours <= allowed, text)


def rule(seconds: float) -> WarmUpRule:
    """A rehearsal of a fraction of a second is not warmed up for several."""
    return WarmUpRule() if seconds >= 1 else WarmUpRule(window_s=seconds / 10, limit_s=seconds)


def bare_loop(subject: Subject, precision: Precision, plan: Path) -> dict[str, float]:
    """Median host time of a graph launch and of the two copies, each waited for, with nothing around them."""
    height, width = subject.size
    cuda = open_cuda()
    engine = LoadedEngine(get_builder(subject.backend).api, plan)  # type: ignore[attr-defined]
    try:
        shapes = {"frame": (1, height, width, 3), "mask": (1, height, width)}
        engine.load(inputs={"frame": shapes["frame"]}, outputs={"mask": shapes["mask"]})
        engine.create_context(own_graph=False)
        stream = cuda.stream()
        frame, mask = (cuda.host_empty(shape, mapped=False) for shape in shapes.values())
        np.copyto(frame, subject.frames[0][None])
        addresses = {"frame": cuda.device_empty(frame.nbytes), "mask": cuda.device_empty(mask.nbytes)}
        engine.set_addresses(addresses)
        engine.enqueue_or_raise(stream)
        cuda.synchronize(stream)
        graph = cuda.capture(stream, lambda: engine.enqueue(stream))

        def enqueue() -> None:
            if graph is None:
                engine.enqueue_or_raise(stream)
            else:
                cuda.launch(graph, stream)

        def copies() -> None:
            cuda.copy_in(addresses["frame"], frame, stream)
            cuda.copy_out(mask, addresses["mask"], stream)

        loops = subject.options.loops
        return {
            "precision": precision,
            "captured": graph is not None,
            "enqueue_ms": median_ms(cuda, stream, enqueue, loops),
            "copies_ms": median_ms(cuda, stream, copies, loops),
        }
    finally:
        cuda.destroy_graphs()
        engine.close()
        cuda.close()


def median_ms(cuda: Any, stream: int, work: Callable[[], None], loops: int) -> float:
    samples = []
    for _ in range(loops):
        begin_ns = now_ns()
        work()
        cuda.synchronize(stream)
        samples.append(now_ns() - begin_ns)
    return round(float(np.median(samples[loops // 10 :])) / 1e6, 4)


def soak(check: Check, subject: Subject, plan: Path, spec: EngineSpec, results: dict[str, Any]) -> None:
    """Device memory after frame 100 and after the last: the same to the byte."""
    with check.step("soak", results) as found, get_builder(subject.backend).open(plan, spec) as runner:
        frames = [np.ascontiguousarray(frame[None]) for frame in subject.frames]
        after_100 = 0
        for number in range(subject.options.soak):
            runner.infer(frames[number % len(frames)]).release()
            if number == min(99, subject.options.soak - 1):
                after_100 = runner.memory_bytes()[0]  # type: ignore[attr-defined]
        end = runner.memory_bytes()[0]  # type: ignore[attr-defined]
        found |= {"frames": subject.options.soak, "free_after_100": after_100, "free_at_end": end}
        found["met"] = check.bar(end == after_100, f"device memory moved by {after_100 - end} bytes in the soak")


# ---------------------------------------------------------------- comparisons


def compare_precisions(check: Check, subject: Subject, results: dict[str, Any]) -> None:
    """Which engine is faster, and by how much, from one interleaved run."""
    engines = results["engines"]
    built = [name for name in engines if "report" in engines[name].get("build", {})]
    if len(built) < 2:
        return
    with check.step("faster", results) as found:
        builder = get_builder(subject.backend)
        runners = {}
        for name in built:
            folder = subject.folder / name
            spec = subject.spec(subject.folder / f"{name}.onnx", name)  # type: ignore[arg-type]
            runners[name] = builder.open(folder / "engine.plan", spec)
        compared = compare_runners(
            runners, subject.frames, duration_s=subject.options.seconds, rule=rule(subject.options.seconds)
        )
        for name in built[1:]:
            ratio, interval = compared.ratio(name, built[0])
            found[f"{name}_over_{built[0]}"] = {"ratio": round(ratio, 4), "ci95": [round(x, 4) for x in interval]}


def check_implicit(check: Check, subject: Subject, results: dict[str, Any]) -> None:
    """INT8 without Q/DQ nodes, by our ranges and by NVIDIA's calibrators: TensorRT 10 and older alone."""
    with check.step("implicit", results) as found:
        if "int8" not in subject.options.precisions or not subject.weakly_typed:
            found["skipped"] = "INT8 was not asked for, or this runtime knows Q/DQ nodes alone"
            return
        builder, artefact = get_builder(subject.backend), subject.artefact("fp32")
        batches = [frame[None] for frame in subject.frames]
        ways: dict[str, dict[str, Any]] = {"ranges": {"ranges": subject.symmetric_ranges()}}
        ways |= {kind: {"frames": batches} for kind in ("entropy", "minmax")}
        for name, given in ways.items():
            with check.step(name, found) as one:
                folder = subject.folder / f"implicit-{name}"
                folder.mkdir(exist_ok=True)
                extra = {"calibrator": name} if name in ("entropy", "minmax") else {}
                spec = subject.spec(artefact, "int8", implicit=True, **extra)
                built = builder.build(artefact, folder, spec, **given)
                one["layers"] = dict(built.layers)
                plan = folder / built.file
                with open_onnx(artefact, subject.size) as exact, builder.open(plan, spec) as runner:
                    one["pixels"] = agreement(runner, exact, subject.frames)
                seconds = subject.options.seconds
                samples = measure_runner(
                    builder.open(plan, spec), subject.frames, duration_s=seconds, rule=rule(seconds)
                )
                one["engine_ms"] = msgspec.to_builtins(series_ms(samples.engine_ns))
                if subject.options.data:
                    one["miou"] = evaluate(builder.open(plan, spec), subject.options.data)


def time_torch(check: Check, subject: Subject, results: dict[str, Any]) -> None:
    """The same network in torch on the same GPU, eager and compiled, FP16."""
    with check.step("torch", results) as found:
        try:
            import torch
        except ImportError:
            found["skipped"] = "torch is not installed"
            return
        network = torch_network(subject)
        if network is None or not torch.cuda.is_available():
            found["skipped"] = "no --run" if torch.cuda.is_available() else "torch sees no GPU"
            return
        model = network.cuda().half().to(memory_format=torch.channels_last)
        height, width = (-(-side // model.stride) * model.stride for side in subject.size)
        x = torch.zeros(1, 3, height, width, device="cuda", dtype=torch.half).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            for name, call in (("eager", model), ("compiled", torch.compile(model, mode="max-autotune"))):
                for _ in range(20):
                    call(x)
                torch.cuda.synchronize()
                samples = []
                for _ in range(subject.options.loops):
                    begin_ns = now_ns()
                    call(x)
                    torch.cuda.synchronize()
                    samples.append(now_ns() - begin_ns)
                found[f"{name}_ms"] = round(float(np.median(samples)) / 1e6, 4)


# ---------------------------------------------------------------- the run


def check_model(check: Check, subject: Subject) -> None:
    """Everything about one model."""
    results: dict[str, Any] = {"engines": {}}
    check.report["models"][subject.name] = results
    reference = {"open": lambda: open_onnx(subject.model, subject.size)}
    for precision in subject.options.precisions:
        check_precision(check, subject, precision, results["engines"].setdefault(precision, {}), reference)
    compare_precisions(check, subject, results)
    if "implicit" not in subject.options.skip:
        check_implicit(check, subject, results)
    if "torch" not in subject.options.skip:
        time_torch(check, subject, results)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="ONNX files or zoo:NAME; by default the whole zoo")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backend", choices=["tensorrt", "tensorrt_rtx"], default="tensorrt")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16", "fp16", "int8"], default=["fp16", "int8"])
    parser.add_argument("--size", default="360x480")
    parser.add_argument("--frames", default=STREET, help="data specification of the frames to run and calibrate on")
    parser.add_argument("--data", help="labelled data, for example camvid:PATH#val")
    parser.add_argument("--run", type=Path, help="RUN folder of the model, for torch")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each timing")
    parser.add_argument("--loops", type=int, default=1000, help="of the bare loop")
    parser.add_argument("--soak", type=int, default=10_000, help="frames")
    parser.add_argument(
        "--skip", nargs="+", choices=["soak", "implicit", "torch"], default=[], help="steps to leave out"
    )
    parser.add_argument("--note", help="said at the top of the report: that the GPU was shared with a training, say")
    parser.add_argument("--smoke-only", action="store_true")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    height, width = (int(side) for side in options.size.split("x"))
    check = Check(options.out, {"created": wall_iso(), "command": " ".join(["tools/gpu_check.py", *sys.argv[1:]])})
    check.report |= {"note": options.note} if options.note else {}
    with check.step("machine") as machine:
        machine.update(msgspec.to_builtins(fingerprint()))
        machine.update(msgspec.to_builtins(device_of(get_builder(options.backend), fingerprint())))
    with tempfile.TemporaryDirectory(prefix="edgeseg-gpu-check-") as name:
        folder = Path(name)
        smoke(check, options.backend, folder)
        check.report["simulated"] = "no hardware" in check.report["smoke"].get("gpu", {}).get("name", "")
        if not check.failures and not options.smoke_only:
            frames = read_frames(options.frames, (height, width))
            for number, model in enumerate(options.models or [f"zoo:{item}" for item in zoo_names()]):
                scratch = folder / str(number)
                scratch.mkdir()
                check_model(check, Subject(model, options.backend, (height, width), frames, options, scratch))
    print(check.finish(), file=sys.stderr)
    return 1 if check.failures else 0


if __name__ == "__main__":
    sys.exit(main())
