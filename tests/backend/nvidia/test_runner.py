"""The runner on the simulated GPU: right masks under every rule of the CUDA driver, and nothing allocated in the loop.

No hardware: work on the simulated streams happens only when somebody waits for it; a missing wait shows as old bytes.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgeseg.core.errors import EdgesegError, FitError, RequestError, UnavailableError, VerifyError
from edgeseg.core.types import U8, EngineSpec, Runner

Simulate = Callable[..., Any]
Reference = Callable[[U8], U8]


@pytest.fixture
def build(tmp_path: Path, model_file: Path, spec: EngineSpec, in_process: None) -> Callable[..., Runner]:
    """Builds with the simulated TensorRT and opens the plan with the given options."""

    def make(*, plan: Callable[[bytes], bytes] = lambda data: data, **options: Any) -> Runner:
        from edgeseg.backend.nvidia.builder import TensorRtBuilder

        builder = TensorRtBuilder()
        folder = tmp_path / "engine"
        folder.mkdir(exist_ok=True)
        wanted = msgspec.structs.replace(spec, options=options)
        file = folder / builder.build(model_file, folder, wanted).file
        file.write_bytes(plan(file.read_bytes()))
        return builder.open(file, wanted)

    return make


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.4.0.106"])
@pytest.mark.parametrize(
    ("integrated", "options", "io"),
    [
        (False, {"io": "pinned"}, "pinned"),
        (True, {"io": "mapped"}, "mapped"),
        (False, {"io": "pinned", "cuda_graph": False}, "pinned"),
        (True, {"io": "mapped", "cuda_graph": False}, "mapped"),
        (False, {"io": "pinned", "depth": 2}, "pinned"),
        (True, {"io": "mapped", "depth": 2}, "mapped"),
    ],
)
def test_masks_are_those_of_onnx_runtime_and_no_rule_is_broken(
    simulate: Simulate,
    build: Callable[..., Runner],
    reference: Reference,
    frames: list[U8],
    version: str,
    integrated: bool,
    options: dict[str, Any],
    io: str,
) -> None:
    gpu = simulate(version, integrated=integrated)
    runner = build(**options)
    assert gpu.calls == []  # nothing touches the GPU before it is entered
    with runner:
        assert runner.io == io
        assert runner.graph == ("own" if options.get("cuda_graph", True) else "none")
        tickets = []
        for frame in frames:
            memory = frame.copy()
            tickets.append(runner.submit(memory))
            memory.fill(0)  # the caller may use its memory again at once
        collected = [runner.collect(ticket) for ticket in tickets]
        for output, frame in zip(collected, frames, strict=True):
            np.testing.assert_array_equal(output.mask_nhw, reference(frame))
            output.release()
    assert gpu.violations == []
    assert gpu.contexts == 0


def test_a_leased_mask_is_not_overwritten_by_later_frames(
    simulate: Simulate, build: Callable[..., Runner], reference: Reference, frames: list[U8]
) -> None:
    simulate()
    with build() as runner:
        held = runner.infer(frames[0])
        for frame in frames[1:]:
            runner.infer(frame).release()
        np.testing.assert_array_equal(held.mask_nhw, reference(frames[0]))
        held.release()


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_nothing_is_made_or_freed_in_the_loop_and_everything_at_the_end(
    simulate: Simulate, build: Callable[..., Runner], frames: list[U8], integrated: bool, cuda_graph: bool
) -> None:
    gpu = simulate(integrated=integrated)
    with build(cuda_graph=cuda_graph) as runner:
        runner.infer(frames[0]).release()
        made, free = gpu.made, gpu.free_bytes
        for _ in range(20):
            for frame in frames:
                runner.infer(frame).release()
        assert (gpu.made, gpu.free_bytes) == (made, free)
        assert runner.memory_bytes() == (free, gpu.total_bytes)
    assert gpu.free_bytes == gpu.total_bytes
    assert not gpu.live_graphs
    assert not gpu.events


def test_with_a_graph_a_frame_is_one_launch(simulate: Simulate, build: Callable[..., Runner], frames: list[U8]) -> None:
    gpu = simulate()
    with build(io="pinned") as runner:
        gpu.calls.clear()
        runner.infer(frames[0]).release()
        assert gpu.calls.count("cuGraphLaunch") == 1
        # begin, copy in, launch, copy out, done: and one wait
        assert gpu.calls.count("cuEventSynchronize") == 1
        assert "cuStreamSynchronize" not in gpu.calls
        work = ["cuMemcpyHtoDAsync", "cuGraphLaunch", "cuMemcpyDtoHAsync"]
        assert [call for call in gpu.calls if call in work] == work


def test_mapped_memory_is_not_copied(simulate: Simulate, build: Callable[..., Runner], frames: list[U8]) -> None:
    gpu = simulate(integrated=True)
    with build(io="mapped") as runner:
        gpu.calls.clear()
        runner.infer(frames[0]).release()
        assert not [call for call in gpu.calls if "Memcpy" in call]


def test_io_is_chosen_by_measurement_where_both_are_possible(
    simulate: Simulate, build: Callable[..., Runner], frames: list[U8], monkeypatch: pytest.MonkeyPatch
) -> None:
    for winner in ("mapped", "pinned"):
        gpu = simulate()
        from edgeseg.backend.nvidia import transport

        monkeypatch.setattr(transport, "_median_ns", lambda item, name=winner: 0 if item.name == name else 1)
        with build(io="auto") as runner:
            assert runner.io == winner
            runner.infer(frames[0]).release()
        assert gpu.violations == []


def test_where_capture_is_not_possible_each_frame_is_enqueued(
    simulate: Simulate,
    build: Callable[..., Runner],
    reference: Reference,
    frames: list[U8],
    caplog: pytest.LogCaptureFixture,
) -> None:
    gpu = simulate(capturable=False)
    with build(io="mapped") as runner:
        assert runner.graph == "none"
        for frame in frames:
            with runner.infer(frame) as output:
                np.testing.assert_array_equal(output.mask_nhw, reference(frame))
    assert gpu.violations == []
    assert gc.isenabled()


def test_the_collector_is_back_after_a_failed_capture(simulate: Simulate) -> None:
    gpu = simulate()
    from edgeseg.backend.nvidia.cuda import CudaDriver

    driver = CudaDriver()
    driver.open()
    stream = driver.stream()

    def broken() -> bool:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        driver.capture(stream, broken)
    assert gc.isenabled()
    assert gpu.streams[stream].capture is None  # the capture was ended
    assert not gpu.live_graphs
    driver.close()


def test_times_come_from_the_gpu_and_add_up(simulate: Simulate, build: Callable[..., Runner], frames: list[U8]) -> None:
    simulate()
    with build(io="pinned") as runner, runner.infer(frames[0]) as output:
        assert output.times.engine_ns > 0
        assert min(output.times.copy_in_ns, output.times.copy_out_ns) >= 0


def test_another_thread_is_refused(simulate: Simulate, build: Callable[..., Runner], frames: list[U8]) -> None:
    simulate()
    caught: list[BaseException] = []
    with build() as runner:

        def use() -> None:
            try:
                runner.infer(frames[0])
            except RequestError as error:
                caught.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert len(caught) == 1


def test_an_error_while_frames_are_in_flight_frees_everything(
    simulate: Simulate, build: Callable[..., Runner], frames: list[U8]
) -> None:
    gpu = simulate()
    with pytest.raises(ZeroDivisionError), build(depth=2) as runner:
        runner.submit(frames[0])
        runner.submit(frames[1])
        raise ZeroDivisionError
    assert gpu.free_bytes == gpu.total_bytes
    assert gpu.contexts == 0


def other(field: str, value: str) -> Callable[[bytes], bytes]:
    """Changes a field of a simulated plan's header."""

    def change(plan: bytes) -> bytes:
        magic, header, model = plan.split(b"\n", 2)
        fields = {**msgspec.json.decode(header), field: value}
        return b"\n".join([magic, msgspec.json.encode(fields), model])

    return change


@pytest.mark.parametrize(
    ("settings", "options", "error", "message"),
    [
        ({"present": False}, {}, UnavailableError, "no NVIDIA GPU.*edgeseg doctor"),
        ({}, {"plan": other("version", "8.5.2")}, FitError, "another version.*edgeseg rebuild /"),
        ({}, {"plan": other("gpu", "Other")}, FitError, "another GPU.*edgeseg rebuild /"),
        ({}, {"plan": lambda data: data[: len(data) // 2]}, VerifyError, "plan cannot be read.*edgeseg rebuild /"),
        ({}, {"plan": lambda data: b"foreign"}, VerifyError, "plan cannot be read"),
        ({}, {"plan": lambda data: b""}, VerifyError, "plan cannot be read"),
        ({"memory_bytes": 10_000}, {}, EdgesegError, "out of memory"),
        ({"memory_bytes": (1 << 20) + 100}, {"io": "pinned"}, EdgesegError, "out of memory"),
    ],
)
def test_each_failure_of_loading_is_one_line_and_leaves_nothing(
    simulate: Simulate,
    build: Callable[..., Runner],
    settings: dict[str, Any],
    options: dict[str, Any],
    error: type[EdgesegError],
    message: str,
) -> None:
    gpu = simulate(**settings)
    runner = build(**options)
    with pytest.raises(error, match=message) as caught:
        runner.__enter__()
    assert "\n" not in str(caught.value)
    assert gpu.contexts == 0
    assert gpu.free_bytes == gpu.total_bytes


def test_a_plan_with_other_tensors_than_its_manifest_is_refused(
    simulate: Simulate, build: Callable[..., Runner], spec: EngineSpec, tmp_path: Path
) -> None:
    simulate()
    build()
    from edgeseg.backend.nvidia.builder import TensorRtBuilder

    file = tmp_path / "engine" / "engine.plan"
    for wrong in (
        msgspec.structs.replace(spec, frame_size=(48, 56)),
        msgspec.structs.replace(spec, batch=2),
        msgspec.structs.replace(spec, confidence=True),
    ):
        with pytest.raises(VerifyError, match="other tensors than its manifest"):
            TensorRtBuilder().open(file, wrong).__enter__()


def test_an_engine_that_fails_while_running_says_what_the_runtime_said(
    simulate: Simulate, build: Callable[..., Runner], frames: list[U8]
) -> None:
    gpu = simulate()
    with build(cuda_graph=False) as runner:
        gpu.fail_enqueue = True
        with pytest.raises(EdgesegError, match=r"failed while running.*illegal memory access"):
            runner.infer(frames[0])
        gpu.fail_enqueue = False
        runner.infer(frames[0]).release()


def test_nv12_frames_reach_both_of_their_inputs(
    simulate: Simulate, in_process: None, tmp_path: Path, model_file: Path
) -> None:
    import onnxruntime as ort

    from edgeseg.graph import camera_input, load_model, read_meta, save_model

    file = tmp_path / "nv12.onnx"
    model = camera_input(load_model(model_file), "nv12")
    save_model(file, model)
    spec = EngineSpec(frame_size=(40, 56), classes=read_meta(model).classes, input_format="nv12")
    plane = np.random.default_rng(1).integers(0, 255, (1, 60, 56), dtype=np.uint8)
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    feed = {"y": plane[:, :40, :, None], "uv": plane[:, 40:].reshape(1, 20, 28, 2)}
    (expected,) = session.run(["mask"], feed)
    for integrated in (True, False):
        gpu = simulate(integrated=integrated)
        from edgeseg.backend.nvidia.builder import TensorRtBuilder

        builder = TensorRtBuilder()
        builder.build(file, tmp_path, spec)
        with builder.open(tmp_path / "engine.plan", spec) as runner, runner.infer(plane) as output:
            np.testing.assert_array_equal(output.mask_nhw, expected)
        assert gpu.violations == []


@pytest.mark.parametrize("integrated", [True, False])
def test_layer_times_are_measured_apart_and_leave_the_runner_as_it_was(
    simulate: Simulate,
    build: Callable[..., Runner],
    reference: Reference,
    frames: list[U8],
    integrated: bool,
) -> None:
    gpu = simulate(integrated=integrated)
    with build() as runner:
        assert runner.layer_times_ms(5) == {"simulated layer": 1.0}
        with runner.infer(frames[1]) as output:
            np.testing.assert_array_equal(output.mask_nhw, reference(frames[1]))
    assert gpu.violations == []


def test_options_are_checked(simulate: Simulate, build: Callable[..., Runner]) -> None:
    simulate()
    for options in ({"io": "usb"}, {"depth": 3}, {"optimization_level": 9}, {"max_gpu_fallback": 2.0}, {"unknown": 1}):
        with pytest.raises(RequestError, match="option"):
            build(**options)


@pytest.mark.parametrize(("throughput", "depth"), [(False, 1), (True, 2)])
def test_two_frames_are_in_flight_for_files_alone(
    simulate: Simulate,
    build: Callable[..., Runner],
    spec: EngineSpec,
    reference: Reference,
    frames: list[U8],
    tmp_path: Path,
    throughput: bool,
    depth: int,
) -> None:
    gpu = simulate()
    build()
    from edgeseg.backend.nvidia.builder import TensorRtBuilder

    wanted = msgspec.structs.replace(spec, options={"io": "pinned"})
    runner = TensorRtBuilder().open(tmp_path / "engine" / "engine.plan", wanted, throughput=throughput)
    assert runner.spec.depth == depth
    with runner:
        assert len(gpu.streams) == depth  # copies get a stream of their own
        tickets = [runner.submit(frame) for frame in frames[:2]]
        for ticket, frame in zip(tickets, frames, strict=False):
            with runner.collect(ticket) as output:
                np.testing.assert_array_equal(output.mask_nhw, reference(frame))
    assert gpu.violations == []
