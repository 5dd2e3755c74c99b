import msgspec
import numpy as np
import pytest

from edgeseg.bench import trtexec_peer
from edgeseg.bench.peers import Peer, compare_peers, find_peers, runner_peer
from edgeseg.bench.request import open_bench_target
from edgeseg.core.errors import EdgesegError
from edgeseg.core.progress import Silent
from edgeseg.deploy import BuildRequest, build_bundle
from edgeseg.graph import save_model
from edgeseg.graph.sample import sample_model

from .support import SIZE, null_target, recorded_target

FRAMES = list(np.random.default_rng(0).integers(0, 255, (4, *SIZE, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    save_model(folder / "model.onnx", sample_model())
    request = BuildRequest(model=str(folder / "model.onnx"), target="cpu", precision="fp32", frame_size=SIZE)
    build_bundle(request, folder / "bundle")
    return open_bench_target(str(folder / "bundle"), progress=Silent())


def test_peers_state_their_settings_and_run_in_turns(target):
    peers = find_peers(target)
    assert peers[0].name.startswith("onnxruntime")
    assert any("INFERENCE_PRECISION_HINT=f32" in peer.settings for peer in peers)
    results = compare_peers(target, peers[:1], FRAMES, duration_s=0.1, progress=Silent())
    low, high = results[0].ci95
    assert 0 < low <= high
    assert results[0].engine_ms.n >= 10


def test_a_slower_peer_shows_as_a_ratio_under_one():
    peer = runner_peer("slow", "4 ms", recorded_target("slow", 4.0).make)
    found = compare_peers(recorded_target("fast", 2.0), [peer], FRAMES, duration_s=0.05, progress=Silent())[0]
    assert found.ratio_p50 == pytest.approx(0.5, rel=0.03)


def test_a_peer_that_cannot_run_is_left_out_and_said():
    said = []

    class Progress(Silent):
        def say(self, text):
            said.append(text)

    def broken():
        raise RuntimeError("no compiler\nhere")

    peers = [Peer("broken", "", broken), runner_peer("fine", "", null_target(latency_ms=1.0).make)]
    found = compare_peers(null_target(latency_ms=1.0), peers, FRAMES, duration_s=0.1, progress=Progress())
    assert [one.name for one in found] == ["fine"]
    assert said == ["broken is left out: no compiler here"]


def test_a_runner_without_a_bundle_has_no_peers():
    assert find_peers(null_target()) == []


def fake_trtexec(folder, body):
    program = folder / "trtexec"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("banner", "major"), [("v8503", 8), ("v8601", 8), ("v100300", 10), ("v101300", 10), ("v110100", 11)]
)
def test_the_version_is_read_from_the_banner(tmp_path, banner, major):
    assert (
        trtexec_peer._major(fake_trtexec(tmp_path, f"echo '&&&& RUNNING TensorRT.trtexec [TensorRT {banner}]'"))
        == major
    )


def test_flags_make_versions_alike():
    assert trtexec_peer.trtexec_flags(10) == []
    assert trtexec_peer.trtexec_flags(11) == ["--includeDataTransfers", "--noCudaGraph", "--noSpinWait"]


def test_trtexec_times_a_plan_and_is_not_called_interleaved(tmp_path, monkeypatch, target):
    times = msgspec.json.encode([{"latencyMs": 2.0 + i / 1000, "computeMs": 1.5} for i in range(40)]).decode()
    body = f"""echo '[TensorRT v110100]'; for word in "$@"; do case $word in
    --exportTimes=*) printf '%s' '{times}' > "${{word#--exportTimes=}}";; esac; done"""
    program = fake_trtexec(tmp_path, body)
    monkeypatch.setattr(trtexec_peer, "find_trtexec", lambda: program)
    engine = type("S", (), {name: np.full(40, 10**6) for name in ("engine_ns", "copy_in_ns", "copy_out_ns")})
    assert trtexec_peer.run_trtexec(target, engine, duration_s=1) is None, "an OpenVINO bundle has no plan"
    manifest = target.bundle.manifest
    record = msgspec.structs.replace(manifest.engine, backend="tensorrt")
    plan = type("B", (), {"manifest": msgspec.structs.replace(manifest, engine=record), "engine_file": "engine.plan"})
    found = trtexec_peer.run_trtexec(type("T", (), {"bundle": plan}), engine, duration_s=1)
    assert found.engine_ms.p50 == pytest.approx(2.019)
    assert found.ratio_p50 == pytest.approx(3 / 2.02, rel=0.01)
    assert "--noCudaGraph" in found.settings
    assert "NOT interleaved" in found.settings


def test_a_trtexec_that_fails_says_its_last_line(tmp_path):
    with pytest.raises(EdgesegError, match="no such engine"):
        trtexec_peer._run([fake_trtexec(tmp_path, "echo no such engine >&2; exit 1")])
