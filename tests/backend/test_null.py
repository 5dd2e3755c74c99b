import numpy as np
import pytest

from edgeseg.backend import get_builder, open_null
from edgeseg.backend.null import Latency
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.graph.sample import CLASSES

from .contract import RunnerContract
from .models import SIZE, frames, spec_of


class TestContract(RunnerContract):
    def runner(self):
        return open_null(CLASSES, SIZE)


class TestContractWithConfidence(RunnerContract):
    def runner(self):
        return open_null(CLASSES, SIZE, confidence=True)


def test_the_mask_follows_from_the_frame():
    picture = frames(1)[0]
    with open_null(CLASSES, SIZE) as runner, runner.infer(picture) as output:
        assert (output.mask_nhw == picture[..., 0] % len(CLASSES)).all()


def test_the_latency_that_was_put_in_comes_out():
    picture = frames(1)[0]
    drawn_ns = Latency(ms=3.0, sigma_ms=0.3, seed=5).draw_ns(np.random.default_rng(5), 1024)[:30]
    with open_null(CLASSES, SIZE, latency_ms=3.0, sigma_ms=0.3, seed=5) as runner:
        measured_ns = []
        for _ in range(30):
            with runner.infer(picture) as output:
                measured_ns.append(output.times.engine_ns)
    assert (np.array(measured_ns) >= drawn_ns).all()


def test_a_mixture_draws_its_tail():
    drawn_ms = Latency(ms=2, sigma_ms=0.01, tail_ms=9, tail_share=0.01).draw_ns(np.random.default_rng(0), 100_000) / 1e6
    assert np.mean(drawn_ms > 5) == pytest.approx(0.01, abs=0.001)
    assert np.median(drawn_ms) == pytest.approx(2, abs=0.01)


def test_an_engine_file_keeps_the_latency(tmp_path):
    builder = get_builder("null")
    spec = spec_of(options={"ms": 1.5})
    built = builder.build(tmp_path / "unread.onnx", tmp_path, spec)
    assert "no network" in built.report["device"]
    with builder.open(tmp_path / built.file, spec_of()) as runner, runner.infer(frames(1)[0]) as output:
        assert output.times.engine_ns >= 1_500_000


def test_a_foreign_engine_and_unknown_options_are_refused(tmp_path):
    (tmp_path / "x.json").write_text("{]")
    with pytest.raises(VerifyError):
        get_builder("null").open(tmp_path / "x.json", spec_of())
    with pytest.raises(RequestError, match="sigma_ms"):
        get_builder("null").build(tmp_path, tmp_path, spec_of(options={"sigma": 1}))
    with pytest.raises(RequestError, match="int"):
        get_builder("null").build(tmp_path, tmp_path, spec_of(options={"outputs": "many"}))
